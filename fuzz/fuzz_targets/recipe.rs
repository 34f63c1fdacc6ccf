//! Any text as a recipe of either kind, and as a file of prompts: it is read or refused, an error points at one line of the text, and
//! what is accepted points into the text too.
#![no_main]

use std::{ops::Range, path::Path};

use libfuzzer_sys::fuzz_target;
use moerge_core::{
    error::Error,
    recipe::{Document, Located, ModelRef, Output, check::{CheckOptions, check}, prompts_file},
};

fuzz_target!(|text: &str| {
    let flag = text.len() % 2 == 1;
    match Document::parse("fuzz.yml", text) {
        Ok(document) => {
            document.models().into_iter().for_each(|model| names_a_model(text, model));
            if let Output::Moe(recipe) = &document.output {
                for expert in recipe.experts.iter().chain(&recipe.shared_experts) {
                    assert!(expert.noise_scale.is_none_or(|scale| scale.is_finite() && scale >= 0.0));
                }
                if let Err(error) = check(recipe, &CheckOptions { allow_same_experts: flag }) {
                    points_at_one_line(text, &error);
                }
            }
            if let Output::Dense(recipe) = &document.output {
                for setting in recipe.parameters.values() {
                    marked(text, &setting.span);
                    setting.at("model.layers.0.mlp.up_proj.weight", 0.5, flag);
                }
            }
        }
        Err(error) => points_at_one_line(text, &error),
    }
    match prompts_file::parse(Path::new(if flag { "fuzz.jsonl" } else { "fuzz.txt" }), text) {
        Ok(prompts) => assert!(prompts.iter().all(|prompt| !prompt.trim().is_empty())),
        Err(error) => points_at_one_line(text, &error),
    }
});

fn names_a_model(text: &str, model: &Located<ModelRef>) {
    marked(text, &model.span);
    let written = model.to_string();
    let again = ModelRef::parse(&written).expect("a name that was read is not empty");
    assert_eq!(again.to_string(), written);
}

fn points_at_one_line(text: &str, error: &Error) {
    assert!(!error.to_string().contains('\u{1b}'), "an escape for the terminal");
    if let Some(snippet) = &error.parts().snippet {
        assert!(!marked(text, &snippet.span).contains('\n'));
    }
}

fn marked<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    text.get(span.clone()).expect("a span of the text")
}
