//! Whatever the text, parsing returns, and an error points into the text.

use arbtest::arbtest;

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

#[test]
fn any_text_is_read_or_refused() {
    arbtest(|u| {
        parse(u.arbitrary()?);
        Ok(())
    });
}

#[test]
fn any_pieces_of_yaml_are_read_or_refused() {
    arbtest(|u| {
        let pieces = (0..u.int_in_range(0..=40)?).map(|_| u.choose(&PIECES).copied());
        parse(&pieces.collect::<Result<Vec<_>, _>>()?.concat());
        Ok(())
    });
}

#[test]
fn a_recipe_with_pieces_put_in_and_cut_out_is_read_or_refused() {
    arbtest(|u| {
        let mut text: Vec<char> = VALID.chars().collect();
        for _ in 0..u.int_in_range(1..=6)? {
            let at = u.choose_index(text.len())?;
            let end = (at + u.int_in_range(0..=3)?).min(text.len());
            text.splice(at..end, u.choose(&PIECES)?.chars());
        }
        parse(&text.into_iter().collect::<String>());
        Ok(())
    });
}

#[test]
fn the_valid_recipe_is_valid() {
    assert!(Recipe::parse("moe.yml", VALID).is_ok());
}
