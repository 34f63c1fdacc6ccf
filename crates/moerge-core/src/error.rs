//! The library's error type: a message, facts, a place in the user's file, hints, and a [`Cause`] to match on.
//!
//! Messages address the author of the recipe. They name the file, tensor or line, what was expected and what was found.
//! Hints say what to do in terms that fit every caller of the library; the caller adds flags or buttons by cause, and
//! renders the error (carets, colours).

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::StorageError;

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The recipe, a model or a file is wrong, and the user can fix it.
    Input,
    /// An operation of the system or the network failed: disk full, I/O error, missing permission.
    Io,
    /// The user stopped the run.
    Interrupted,
}

/// Why an operation failed, for callers that react to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cause {
    /// No specific cause.
    #[default]
    Other,
    /// The recipe has a key that does not exist.
    UnknownKey,
    /// A file or folder does not exist.
    FileNotFound {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A model reference names neither a folder nor a repository on the Hub.
    ModelNotFound,
    /// A model may be on the Hub, but it is not on this machine.
    NotDownloaded {
        /// `org/name[@revision]`
        id: String,
    },
    /// The work needs more memory than its budget.
    OverMemoryBudget {
        /// Bytes that it needs.
        needed: u64,
    },
    /// Model weights have to be in memory for this, but they are streamed because they do not fit.
    NeedsResidentModel,
    /// There is no task of this name.
    UnknownTask,
    /// A task has fewer solved examples than asked for.
    TooFewExamples,
    /// A part of an MoE is to be written before its routers are made.
    RoutersMissing,
    /// All experts are the same model.
    SameExperts,
    /// A merge method does not take so many models, or so few.
    NumberOfModels,
    /// Models that are merged have vocabularies of different sizes.
    VocabulariesDiffer,
    /// The context is longer than what the model was trained for.
    ContextTooLong {
        /// Tokens that the model was trained for.
        longest: usize,
    },
    /// A tokenizer splits text in a way that llama.cpp has no name for.
    UnknownPreTokenizer,
    /// A mix of types needs an importance matrix.
    NeedsImatrix,
    /// The output is there already.
    OutputExists {
        /// The folder.
        out: PathBuf,
    },
    /// An object store holds an unfinished build of something else.
    OtherBuildUnfinished {
        /// The folder.
        out: PathBuf,
    },
    /// The disk, or the user's quota on it, is full.
    DiskFull,
    /// Downloads do not fit on the disk of the cache.
    CacheFull,
    /// A file is larger than the system, a limit or the format allows.
    FileTooLarge,
    /// A source changed while it was read.
    SourceChanged,
    /// The input may be valid, but moerge does not support it.
    Unsupported,
    /// The network or the Hub did not answer as it should.
    Network,
}

/// A place in the user's file: byte range `span` of `text`, with `name` for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file's name as the user gave it.
    pub name: String,
    /// The contents of the file.
    pub text: Arc<str>,
    /// The bytes the error is about.
    pub span: Range<usize>,
    /// The label under the caret; may be empty.
    pub label: String,
}

/// An error with everything that the user needs to fix it.
#[derive(Debug, Clone)]
pub struct Error(Box<ErrorParts>);

/// The parts of an [`Error`], for rendering.
#[derive(Debug, Clone)]
pub struct ErrorParts {
    /// The kind.
    pub kind: ErrorKind,
    /// The cause, for callers that react to it.
    pub cause: Cause,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// Named facts, printed as an aligned block: `("base", "mistral-7b")`.
    pub facts: Vec<(String, String)>,
    /// The place in the user's file.
    pub snippet: Option<Snippet>,
    /// Hints.
    pub hints: Vec<String>,
    /// Further errors in the same input, found in the same run.
    pub further: Vec<Error>,
}

/// The result type of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error in the user's input.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// The system refused `operation` (a verb: "write", "open") on `path`.
    pub fn io(operation: &str, path: &Path, error: &io::Error) -> Self {
        if let Some(own) = Self::within(error) {
            return own;
        }
        let own = Self::new(ErrorKind::Io, format!("cannot {operation} {}: {error}", path.display()))
            .cause(Cause::of_io(error.kind(), path));
        StorageError::hint_of(error).into_iter().fold(own, Self::hint)
    }

    /// The error of ours that a storage passes on as one of the system: what it reads is itself made of files.
    fn within(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().cloned()
    }

    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let (facts, hints) = (Vec::new(), Vec::new());
        let further = Vec::new();
        Self(Box::new(ErrorParts { kind, cause: Cause::Other, message, facts, snippet: None, hints, further }))
    }

    /// Combines `errors` into one, led by the first; `None` if there are none.
    pub fn all(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter().flat_map(|mut error| {
            let further = std::mem::take(&mut error.0.further);
            std::iter::once(error).chain(further)
        });
        let mut first = errors.next()?;
        first.0.further = errors.collect();
        Some(first)
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

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Sets the cause.
    pub fn cause(mut self, cause: Cause) -> Self {
        self.0.cause = cause;
        self
    }

    /// Marks input that may be valid but that moerge does not support: an unknown family or feature.
    pub fn unsupported(self) -> Self {
        self.cause(Cause::Unsupported)
    }

    /// Applies a replacement to the message, the facts and the hints, to remove secrets.
    pub fn map_words(mut self, map: impl Fn(&str) -> String) -> Self {
        self.0.message = map(&self.0.message);
        self.0.facts.iter_mut().for_each(|(_, value)| *value = map(value));
        self.0.hints.iter_mut().for_each(|hint| *hint = map(hint));
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

    /// The kind of an error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl Cause {
    fn of_io(kind: io::ErrorKind, path: &Path) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::FileNotFound { path: path.to_owned() },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::FileTooLarge => Self::FileTooLarge,
            _ => Self::Other,
        }
    }

    fn of_checkpoint(error: &moerge_checkpoint::Error) -> Self {
        use moerge_checkpoint::Error;
        match error {
            Error::Io { path, problem, .. } => Self::of_io(problem.kind(), path),
            Error::FolderMissing { folder } => Self::FileNotFound { path: folder.clone() },
            Error::OutputExists { out } | Error::OutputFileExists { out } => Self::OutputExists { out: out.clone() },
            Error::OtherPlanUnfinished { out, .. } => Self::OtherBuildUnfinished { out: out.clone() },
            Error::SourceChanged { .. } => Self::SourceChanged,
            Error::ShardTooLarge { .. } => Self::FileTooLarge,
            error if error.is_no_space() => Self::DiskFull,
            _ => Self::Other,
        }
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
        self.0.further.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl std::error::Error for Error {}

impl From<moerge_checkpoint::Error> for Error {
    fn from(error: moerge_checkpoint::Error) -> Self {
        if let moerge_checkpoint::Error::Io { problem, .. } = &error
            && let Some(own) = Self::within(problem)
        {
            return own;
        }
        let kind = if error.io_kind().is_some() { ErrorKind::Io } else { ErrorKind::Input };
        let (hint, cause) = (error.hint(), Cause::of_checkpoint(&error));
        let error = Self::new(kind, error.to_string()).cause(cause);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
