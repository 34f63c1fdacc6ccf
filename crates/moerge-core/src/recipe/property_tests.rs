//! Whatever the text, parsing returns, and an error points into the text.

use arbtest::arbtest;

use super::{Document, Output};
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

const VALID_MERGES: &str = "\
name: first
merge_method: slerp
base_model: org/a
slices:
- sources: [{model: org/a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]
  parameters: {t: [{filter: mlp, value: [0, 1.5e-1]}, {value: 0.5}]}
---
merge_method: ties
base_model: first
models:
- {model: c+d, parameters: {weight: 0.5, density: [1, 0.5]}}
parameters: {normalize: true}
tokenizer:
  source: union
  tokens:
    <x>: {source: {kind: model_token, model: c+d, token_id: 3}, force: true}
  pad_to_multiple_of: 64
dtype: float32
";

/// What YAML gives a meaning, and what is awkward in text.
const PIECES: [&str; 24] = [
    ":", ": ", "- ", "\n", "\n  ", "\t", "[", "]", "{", "}", ",", "&b ", "*b", "!!str ", "!x ", "|\n", ">", "\"", "'",
    "#", "---\n", "<<: *b\n", "\u{feff}", "ü\r",
];

fn parse(text: &str) {
    match Document::parse("moe.yml", text) {
        Ok(document) => {
            document.models().into_iter().for_each(|model| assert!(text.get(model.span.clone()).is_some()));
            if let Output::Moe(recipe) = &document.output {
                crate::recipe::check::check(recipe, &crate::recipe::check::CheckOptions::default()).ok();
            }
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
        let mut text: Vec<char> = u.choose(&[VALID, VALID_MERGES])?.chars().collect();
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
fn the_valid_recipes_are_valid() {
    for text in [VALID, VALID_MERGES] {
        Document::parse("moe.yml", text).unwrap();
    }
}
