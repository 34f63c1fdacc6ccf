//! Whatever the text, parsing returns, and an error points into the text.

use proptest::prelude::*;

use super::Recipe;
use crate::rendered::rendered;

const VALID: &str = "\
base_model: &b org/base@v1+lora
gate_mode: hidden_avg
dtype: bfloat16
experts_per_token: 2
architecture: mixtral
random_seed: 7
experts:
  - source_model: *b
    positive_prompts: [\"chät\", 'it''s', plain]
    noise_scale: 0.5
  - source_model: {model: {path: a, revision: b}, lora: c}
    negative_prompts:
      - |
        text
      - >-
        folded
    positive_prompts_file: x.jsonl
shared_experts:
  - source_model: ~/s
";

/// What YAML gives a meaning, and what is awkward in text.
const PIECES: [&str; 24] = [
    ":", ": ", "- ", "\n", "\n  ", "\t", "[", "]", "{", "}", ",", "&b ", "*b", "!!str ", "!x ", "|\n", ">", "\"", "'",
    "#", "---\n", "<<: *b\n", "\u{feff}", "ü\r",
];

fn parse(text: &str) {
    match Recipe::parse("moe.yml", text) {
        Ok(recipe) => {
            for expert in recipe.experts.iter().chain(&recipe.shared_experts) {
                assert!(text.get(expert.source_model.span.clone()).is_some());
            }
            crate::recipe::check::check(&recipe, &crate::recipe::check::CheckOptions::default()).ok();
        }
        // Rendering asserts that the span lies in one line of the text.
        Err(error) => drop(rendered(&error)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        parse(&text);
    }

    #[test]
    fn any_pieces_of_yaml_are_read_or_refused(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        parse(&pieces.concat());
    }

    #[test]
    fn a_recipe_with_pieces_put_in_and_cut_out_is_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        parse(&text.into_iter().collect::<String>());
    }
}

#[test]
fn the_valid_recipe_is_valid() {
    assert!(Recipe::parse("moe.yml", VALID).is_ok());
}
