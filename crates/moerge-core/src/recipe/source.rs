//! The recipe's text for error messages, and the collection of all faults found in it.
//!
//! Parsing continues after an error, so one run reports all, each with its place in the text.

use std::{cell::RefCell, ops::Range, sync::Arc};

use crate::error::{Error, Result, Snippet};

/// Maximum number of faults that are shown; the others are only counted.
pub(super) const MAX_FAULTS: usize = 20;
/// Lines that one warning names.
const MAX_LINES: usize = 3;

/// A text with its file name.
pub(super) struct Source<'a> {
    /// The file's name as the user gave it.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a Arc<str>,
    faults: RefCell<Faults>,
    warnings: RefCell<Vec<Warning>>,
}

#[derive(Default)]
struct Faults {
    errors: Vec<Error>,
    beyond: usize,
}

struct Warning {
    message: String,
    lines: Vec<usize>,
    beyond: usize,
}

impl<'a> Source<'a> {
    pub fn new(name: &'a str, text: &'a Arc<str>) -> Self {
        Self { name, text, faults: RefCell::default(), warnings: RefCell::default() }
    }

    /// An error that points at the first line of `span`.
    pub fn error(&self, message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Error {
        Error::input(message).at(snippet(self.name, self.text, &span, label.into()))
    }

    /// The value, or `None` after recording the fault, so that reading goes on.
    pub fn keep<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.fault(|| error)).ok()
    }

    /// Notes a fault. Errors are made only as long as they are shown: a hostile file may have a million.
    pub fn fault(&self, error: impl FnOnce() -> Error) {
        let mut faults = self.faults.borrow_mut();
        if faults.errors.len() < MAX_FAULTS {
            faults.errors.push(error());
        } else {
            faults.beyond += 1;
        }
    }

    /// Faults so far.
    pub fn faults(&self) -> usize {
        let faults = self.faults.borrow();
        faults.errors.len() + faults.beyond
    }

    /// Every fault as one error, in the order of the text.
    pub fn into_error(self) -> Option<Error> {
        let Faults { errors, beyond } = self.faults.into_inner();
        together(self.name, errors, beyond)
    }

    /// Notes something that has no effect; the same message about several places becomes one warning.
    pub fn warn(&self, message: String, span: &Range<usize>) {
        let mut warnings = self.warnings.borrow_mut();
        match warnings.iter_mut().find(|warning| warning.message == message) {
            Some(warning) if warning.lines.len() >= MAX_LINES => warning.beyond += 1,
            Some(warning) => warning.lines.push(self.line(span.start)),
            None => warnings.push(Warning { message, lines: vec![self.line(span.start)], beyond: 0 }),
        }
    }

    /// The warnings, each with its lines.
    pub fn warnings(&self) -> Vec<String> {
        let text = |Warning { message, lines, beyond }: &Warning| {
            let numbers = lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let more = if *beyond > 0 { format!(" and {beyond} more") } else { String::new() };
            format!("line{} {numbers}{more}: {message}", if lines.len() > 1 { "s" } else { "" })
        };
        self.warnings.borrow().iter().map(text).collect()
    }

    /// The line, counted from 1, that byte `at` lies in.
    pub fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }
}

/// Errors of the file called `name` as one, in the order of the text; `beyond` more were found.
pub(super) fn together(name: &str, mut errors: Vec<Error>, beyond: usize) -> Option<Error> {
    let start = |error: &Error| {
        let snippet = error.parts().snippet.as_ref().filter(|snippet| snippet.name == name);
        snippet.map_or(usize::MAX, |snippet| snippet.span.start)
    };
    errors.sort_by_key(start);
    // What an alias repeats is one fault.
    errors.dedup_by(|a, b| a.parts().message == b.parts().message && a.parts().snippet == b.parts().snippet);
    if beyond > 0 {
        errors.push(Error::input(format!("{name} has {beyond} more errors")));
    }
    Error::all(errors)
}

/// The part of `span` in its first line: what follows would only draw carets under half the file.
pub(super) fn snippet(name: &str, text: &Arc<str>, span: &Range<usize>, label: String) -> Snippet {
    let marked = text.get(span.clone()).unwrap_or_default();
    let line = marked.split(['\n', '\r']).next().unwrap_or_default().trim_end();
    let start = if text.is_char_boundary(span.start) { span.start } else { 0 };
    Snippet { name: name.to_owned(), text: Arc::clone(text), span: start..start + line.len(), label }
}
