//! The recipe's file as errors see it: a name and a text to point into.

use std::{ops::Range, sync::Arc};

use crate::error::{Error, Snippet};

/// A text with the name the user knows it by.
pub(super) struct Source<'a> {
    /// The file's name as the user gave it.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a Arc<str>,
}

impl Source<'_> {
    /// An error that points at the first line of `span`.
    pub fn error(&self, message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Error {
        Error::input(message).at(snippet(self.name, self.text, &span, label.into()))
    }
}

/// The part of `span` in its first line: what follows would only draw carets under half the file.
pub(super) fn snippet(name: &str, text: &Arc<str>, span: &Range<usize>, label: String) -> Snippet {
    let marked = text.get(span.clone()).unwrap_or_default();
    let line = marked.split(['\n', '\r']).next().unwrap_or_default().trim_end();
    let start = if text.is_char_boundary(span.start) { span.start } else { 0 };
    Snippet { name: name.to_owned(), text: Arc::clone(text), span: start..start + line.len(), label }
}
