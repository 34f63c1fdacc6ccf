//! JSON Lines: an object a line; what is wrong is shown at its line.

use std::{ops::Range, sync::Arc};

use serde::de::DeserializeOwned;

use moerge_core::{
    error::{Error, Result, Snippet},
    json_error::json_words,
};

/// A text of JSON Lines, for messages.
pub(super) struct Lines<'a> {
    name: &'a str,
    text: Arc<str>,
}

impl<'a> Lines<'a> {
    pub fn new(name: &'a str, text: &str) -> Self {
        Self { name, text: Arc::from(text) }
    }

    /// What `read` makes of each line that is not blank; there is at least one. `read` says what is wrong with a line;
    /// `shape` shows what a right one looks like.
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
        return Err("a line that is no JSON object".into());
    }
    serde_json::from_str(line).map_err(|e| {
        // Each line is parsed by itself, so the error's own line number says nothing.
        format!("a line that cannot be read ({})", json_words(&e))
    })
}
