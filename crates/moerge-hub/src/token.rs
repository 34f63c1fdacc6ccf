//! The user's token. It is a secret: it appears in the Authorization header and nowhere else.

use std::{fmt, io, io::Read as _, path::Path};

use moerge_core::suggest::printable;

/// Maximum bytes of a token file.
const MAX_FILE: u64 = 64 << 10;

/// The secret by which the Hub knows the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: String,
    /// Where it is from, for messages.
    pub from: String,
}

impl Token {
    /// A token without the whitespace around it; `None` if nothing is left.
    ///
    /// # Errors
    /// It cannot be sent, since a header consists of visible ASCII; the error says what else is in it.
    pub fn new(written: &str, from: impl Into<String>) -> Result<Option<Self>, String> {
        let (secret, from) = (written.trim(), from.into());
        let Some(bad) = secret.chars().find(|c| !c.is_ascii_graphic()) else {
            return Ok((!secret.is_empty()).then(|| Self { secret: secret.to_owned(), from }));
        };
        let what = match bad {
            '\r' | '\n' => "a line break",
            ' ' => "a space",
            c if c.is_ascii() => "a control character",
            _ => "a character that is not ASCII",
        };
        Err(format!("the token in {from} is ignored: it contains {what}"))
    }

    /// The token in a file; `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        let from = printable(&path.display().to_string());
        let ignored = |e: io::Error| format!("the token in {from} is ignored: it cannot be read ({e})");
        let facts = match std::fs::metadata(path) {
            Ok(facts) => facts,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(ignored(e)),
        };
        // Opening a pipe could wait for ever.
        if !facts.is_file() {
            return Err(ignored(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(ignored)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(ignored)?;
        Self::new(&String::from_utf8_lossy(&bytes), from)
    }

    /// The value of the Authorization header.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    /// The secret itself, for removing it from what is printed.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.from)
    }
}
