//! Every error a recipe can make, as the user sees it, by theme.

mod accepted;
mod all_faults;
mod foreign;
mod keys;
mod limits;
mod prompts;
mod values;
mod yaml;

use super::*;
use crate::rendered::rendered;

fn recipe(text: &str) -> Recipe {
    Recipe::parse("moe.yml", text).unwrap_or_else(|e| panic!("{}", rendered(&e)))
}

fn error(text: &str) -> String {
    rendered(&Recipe::parse("moe.yml", text).map(|_| ()).expect_err("the recipe was accepted"))
}

/// A recipe that is fine, followed by `more` top-level lines.
fn with(more: &str) -> String {
    format!("base_model: a\nexperts:\n  - source_model: b\n  - source_model: c\n{more}\n")
}

/// A recipe whose first expert has these lines.
fn expert(lines: &str) -> String {
    format!(
        "base_model: a\nexperts:\n  - source_model: b\n    {}\n  - source_model: c\n",
        lines.replace('\n', "\n    ")
    )
}
