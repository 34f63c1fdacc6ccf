//! Reads JSON Lines, one object per line. Errors point at their line.

use std::{ops::Range, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    error::{Error, Result, Snippet},
    json_error::json_error,
};

/// Maximum number of objects in a file.
pub const MAX_LINES: usize = 1_000_000;

/// The text of a JSON Lines file.
pub struct Lines<'a> {
    name: &'a str,
    text: Arc<str>,
}

impl<'a> Lines<'a> {
    /// A file called `name` in messages.
    pub fn new(name: &'a str, text: &str) -> Self {
        Self { name, text: Arc::from(text) }
    }

    /// Applies `read` to the object of each line that is not blank. `read` returns what is wrong with a line, and
    /// `shape` shows a correct one.
    ///
    /// # Errors
    /// A line is not an object of type `L`, `read` refuses it, there are more than [`MAX_LINES`], or there are none.
    pub fn read<L: DeserializeOwned, T>(
        &self,
        shape: &str,
        mut read: impl FnMut(L) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut start = 0;
        for whole in self.text.split_inclusive('\n') {
            let line = whole.trim();
            let begin = start + (whole.len() - whole.trim_start().len());
            start += whole.len();
            if line.is_empty() {
                continue;
            }
            if all.len() == MAX_LINES {
                return Err(self.wrong(&format!("more than {MAX_LINES} lines"), begin..begin + line.len()));
            }
            let read = parse(line).and_then(&mut read);
            all.push(read.map_err(|why| {
                self.wrong(&why, begin..begin + line.len()).hint(format!("each line is an object: {shape}"))
            })?);
        }
        if all.is_empty() {
            return Err(
                Error::input(format!("{} is empty", self.name)).hint(format!("each line is an object: {shape}"))
            );
        }
        Ok(all)
    }

    fn wrong(&self, why: &str, span: Range<usize>) -> Error {
        let snippet = Snippet { name: self.name.to_owned(), text: self.text.clone(), span, label: String::new() };
        Error::input(format!("{why} in {}", self.name)).at(snippet)
    }
}

fn parse<L: DeserializeOwned>(line: &str) -> Result<L, String> {
    if !line.starts_with('{') {
        return Err("a line that is not a JSON object".into());
    }
    serde_json::from_str(line).map_err(|e| {
        // Each line is parsed by itself, so the error's own line number says nothing.
        format!("a line that cannot be read ({})", json_error(&e))
    })
}
