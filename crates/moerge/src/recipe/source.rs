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
    /// An error that points at `span`.
    pub fn error(&self, message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Error {
        let text = Arc::clone(self.text);
        Error::input(message).at(Snippet { name: self.name.to_owned(), text, span, label: label.into() })
    }
}

/// A text from outside as a message may show it: one line of at most 60 characters, nothing a terminal would obey.
pub(crate) fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(shown_as).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

fn shown_as(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// The one of `names` that `written` is most likely a slip of, if there is one.
pub(crate) fn did_you_mean<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase();
    let slips = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    let near = names.into_iter().map(|name| (slips(name), name)).min_by_key(|(slips, _)| *slips)?;
    (near.0 <= (near.1.len().max(written.len()) / 3).max(1)).then_some(near.1)
}
