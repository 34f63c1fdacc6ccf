//! Everything the command prints goes through here.
//!
//! Results go to stdout, and failing to write them is an error. Everything else goes to stderr, and failing to write
//! that is ignored: a full disk or a closed pipe behind stderr must not end an hour of work. `println!` and `eprintln!`
//! panic instead, so nothing uses them (a test checks it).
//!
//! On a terminal, lines that are too long are wrapped at words; elsewhere they are left alone, for grep and scripts.

use std::io::{self, Write};

use anstream::AutoStream;
use terminal_size::{Width, terminal_size_of};

use crate::wrap::wrap;

/// Prints a line to stderr.
pub fn status(line: &str) {
    let _ = writeln!(anstream::stderr(), "{}", wrap(line, stderr_width()));
}

/// Prints text to stderr as it is: a prompt without a line end, or lines that are wrapped already.
pub fn status_text(text: &str) {
    let mut stderr = anstream::stderr();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// Columns of the terminal behind stderr; `None` if there is none.
pub fn stderr_width() -> Option<usize> {
    terminal_size_of(io::stderr()).map(|(Width(columns), _)| usize::from(columns))
}

/// stdout, for results.
pub fn results() -> Results {
    let width = terminal_size_of(io::stdout()).map(|(Width(columns), _)| usize::from(columns));
    Results { stream: anstream::stdout(), width }
}

/// A writer of results. Its errors say that it was stdout that failed.
pub struct Results {
    stream: AutoStream<io::Stdout>,
    /// Columns of the terminal; `None` if stdout is none.
    pub width: Option<usize>,
}

impl Results {
    /// Prints a line.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        let line = wrap(line, self.width);
        writeln!(self, "{line}")
    }

    /// Prints lines.
    pub fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> io::Result<()> {
        lines.into_iter().try_for_each(|line| self.line(&line))
    }
}

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).map_err(not_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().map_err(not_written)
    }
}

fn not_written(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
}
