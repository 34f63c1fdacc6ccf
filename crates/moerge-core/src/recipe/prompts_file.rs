//! Prompts from a file: one per line, or JSON Lines with a `text` each.
//!
//! The file is JSON Lines if its name ends in `.jsonl` or `.json`, or if its first character is `{`. Blank lines are
//! ignored. In plain text a prompt is its line, without the spaces around it.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    jsonl::{Lines, MAX_LINES},
    recipe::read_text,
};

/// Larger files are corpora, and every prompt costs a pass over the base.
const MAX_FILE: u64 = 64 << 20;

/// Reads the prompts in the file `path`; there is at least one.
pub fn load(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, MAX_FILE)?;
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("json"));
    parse(&path.display().to_string(), &text, json)
}

/// Reads the texts in the file `path`, for gate modes that are fitted to running text: a plain file is one text, line breaks and
/// indentation included; JSON Lines hold one text each.
pub fn load_texts(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, MAX_FILE)?;
    let name = path.display().to_string();
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("json"));
    if json || text.trim_start().starts_with("{\"") {
        return parse(&name, &text, true);
    }
    if text.trim().is_empty() {
        return Err(Error::input(format!("{name} holds no text")));
    }
    Ok(vec![text])
}

/// Reads prompts from the contents of a file called `name`; `json` says that it is JSON Lines whatever it looks like.
pub fn parse(name: &str, text: &str, json: bool) -> Result<Vec<String>> {
    if json || text.trim_start().starts_with('{') {
        return Lines::new(name, text).read("{\"text\": \"...\"}", |line: Line| match line.text {
            Some(text) if text.trim().is_empty() => Err("an empty prompt".into()),
            Some(text) => Ok(text),
            None => Err("a line without `text`".into()),
        });
    }
    let prompts: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::input(format!("{name} holds no prompts")).hint("write one prompt per line"));
    }
    if prompts.len() > MAX_LINES {
        return Err(Error::input(format!("{name} has more than {MAX_LINES} prompts")));
    }
    Ok(prompts)
}

/// The keys that are read of a line; others are ignored.
#[derive(Deserialize)]
struct Line {
    text: Option<String>,
}

#[cfg(test)]
mod tests;
