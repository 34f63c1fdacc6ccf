//! The one error type of the library: a sentence, the facts beside it, the place in the user's file, and what to do.
//!
//! A message is written for the person who wrote the recipe. It names the file, tensor or line, says what was expected
//! and what was found; `hint` says what to do. Rendering (carets, colour) is the binary's business.

use std::{fmt, ops::Range, sync::Arc};

/// What the error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The recipe, a model or a file is not what it has to be: the user can mend it.
    Input,
    /// The machine said no: disk full, I/O error, missing permission.
    Io,
    /// The user stopped the run.
    Interrupted,
}

/// A place in a text the user wrote: byte range `span` of `text`, called `name` on screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file's name as the user gave it.
    pub name: String,
    /// The whole text of the file.
    pub text: Arc<str>,
    /// The bytes the error is about.
    pub span: Range<usize>,
    /// What is said under the caret; may be empty.
    pub label: String,
}

/// An error with everything that a person needs to mend its cause.
#[derive(Debug, Clone)]
pub struct Error(Box<ErrorParts>);

/// The parts of an [`Error`], for rendering.
#[derive(Debug, Clone)]
pub struct ErrorParts {
    /// What it means for the caller.
    pub kind: ErrorKind,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Named facts printed as an aligned block: `("base", "mistral-7b")`.
    pub facts: Vec<(String, String)>,
    /// Where in the user's file.
    pub snippet: Option<Snippet>,
    /// What to do about it.
    pub hints: Vec<String>,
    /// Whether the input may well be right, and it is moerge that does not know it.
    pub unsupported: bool,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Something outside is not what it has to be.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// The machine refused `operation` (a verb: "write", "open") on `path`.
    pub fn io(operation: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {operation} {}: {error}", path.display()))
    }

    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let (facts, hints) = (Vec::new(), Vec::new());
        Self(Box::new(ErrorParts { kind, message, facts, snippet: None, hints, unsupported: false }))
    }

    /// The user stopped the run.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "stopped")
    }

    /// Adds a named fact, printed under the message.
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.facts.push((name.into(), value.into()));
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Says that the input may well be right: a family or a feature that moerge does not know.
    pub fn unsupported(mut self) -> Self {
        self.0.unsupported = true;
        self
    }

    /// Points at a place in the user's file.
    pub fn at(mut self, snippet: Snippet) -> Self {
        self.0.snippet = Some(snippet);
        self
    }

    /// The parts, for rendering.
    pub fn parts(&self) -> &ErrorParts {
        &self.0
    }

    /// What the error means for the caller.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (name, value) in &self.0.facts {
            write!(f, "\n  {name}: {value}")?;
        }
        for hint in &self.0.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<moerge_checkpoint::Error> for Error {
    fn from(error: moerge_checkpoint::Error) -> Self {
        let kind = if error.io_kind().is_some() { ErrorKind::Io } else { ErrorKind::Input };
        let hint = error.hint();
        let error = Self::new(kind, error.to_string());
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
