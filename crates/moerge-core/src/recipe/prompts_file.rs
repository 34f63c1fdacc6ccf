//! Prompts from a file: one per line, or JSON Lines with a `text` each; [`jsonl`] tells which.
//!
//! Blank lines are ignored. In plain text a prompt is its line, without the spaces around it.

use std::path::Path;

use crate::{
    error::{Error, Result},
    jsonl::{self, MAX_LINES},
    recipe::read_text,
};

/// Larger files are corpora, and every prompt costs a pass over the base.
const MAX_FILE: u64 = 64 << 20;

/// Reads the prompts in the file `path`; there is at least one.
///
/// # Errors
/// The file cannot be read, is larger than 64 MiB, or as for [`parse`].
pub fn load(path: &Path) -> Result<Vec<String>> {
    parse(path, &read_text(path, MAX_FILE)?)
}

/// Reads the texts in the file `path`, for gate modes that are fitted to running text: a plain file is one text, line
/// breaks and indentation included.
///
/// # Errors
/// The file cannot be read, is larger than 64 MiB, or as for [`jsonl::documents`].
pub fn load_texts(path: &Path) -> Result<Vec<String>> {
    jsonl::documents(path, read_text(path, MAX_FILE)?)
}

/// Reads prompts from the content of the file `path`.
///
/// # Errors
/// There are no prompts or too many, or as for [`jsonl::texts`].
pub fn parse(path: &Path, content: &str) -> Result<Vec<String>> {
    if let Some(prompts) = jsonl::texts(path, content)? {
        return Ok(prompts);
    }
    let prompts: Vec<String> = content.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() {
        let error = Error::input(format!("{} holds no prompts", path.display()));
        return Err(error.hint("write one prompt per line"));
    }
    if prompts.len() > MAX_LINES {
        return Err(Error::input(format!("{} has more than {MAX_LINES} prompts", path.display())));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests;
