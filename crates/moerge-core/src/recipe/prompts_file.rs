//! Prompts from a file: one a line, or JSON Lines with a `text` each.
//!
//! The file is JSON Lines if its name ends in `.jsonl` or `.json`, or if its first character is `{`. Blank lines are
//! passed over. In plain text a prompt is its line, without the spaces around it.

use std::{ops::Range, path::Path, sync::Arc};

use serde::Deserialize;

use crate::{
    error::{Error, Result, Snippet},
    json_error::json_words,
    recipe::read_text,
};

/// Larger files are corpora, and every prompt costs a pass over the base.
const LARGEST_FILE: u64 = 64 << 20;
/// Most prompts of one file.
const MOST_PROMPTS: usize = 1_000_000;

/// Reads the prompts in the file `path`; there is at least one.
pub fn load(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, LARGEST_FILE)?;
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("json"));
    parse(&path.display().to_string(), &text, json)
}

/// Reads the texts in the file `path`, for uses that want running text: a plain file is one text, line breaks and
/// indentation included; JSON Lines hold one text each.
pub fn load_texts(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path, LARGEST_FILE)?;
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

/// Reads prompts from a text called `name`; `json` says that it is JSON Lines whatever it looks like.
pub fn parse(name: &str, text: &str, json: bool) -> Result<Vec<String>> {
    let json = json || text.trim_start().starts_with('{');
    let wrong = |message: &str, span: Range<usize>, label: &str| {
        Error::input(format!("{message} in {name}")).at(Snippet {
            name: name.to_owned(),
            text: Arc::from(text),
            span,
            label: label.to_owned(),
        })
    };
    let mut prompts = Vec::new();
    let mut start = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim();
        let begin = start + (whole.len() - whole.trim_start().len());
        let span = begin..begin + line.len();
        start += whole.len();
        if line.is_empty() {
            continue;
        }
        if prompts.len() == MOST_PROMPTS {
            return Err(wrong(&format!("more than {MOST_PROMPTS} prompts"), span, ""));
        }
        prompts.push(if json {
            prompt_of_json(line).map_err(|why| {
                wrong(&why, span, "").hint("each line is an object with the prompt as its text: {\"text\": \"...\"}")
            })?
        } else {
            line.to_owned()
        });
    }
    if prompts.is_empty() {
        return Err(Error::input(format!("{name} holds no prompts")).hint("write one prompt a line"));
    }
    Ok(prompts)
}

/// What is read of a line; other keys are passed over without being kept.
#[derive(Deserialize)]
struct Line {
    text: Option<String>,
}

fn prompt_of_json(line: &str) -> Result<String, String> {
    if !line.starts_with('{') {
        return Err("a line that is no JSON object".into());
    }
    let line: Line = serde_json::from_str(line).map_err(|e| {
        // Each line is parsed by itself, so the error's own line number says nothing.
        format!("a line that cannot be read ({})", json_words(&e))
    })?;
    match line.text {
        Some(text) if text.trim().is_empty() => Err("an empty prompt".into()),
        Some(text) => Ok(text),
        None => Err("a line without `text`".into()),
    }
}

#[cfg(test)]
mod tests;
