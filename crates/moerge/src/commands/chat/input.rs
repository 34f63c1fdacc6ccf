//! What the user says: a line that can be edited, with those before it, at a terminal; plain lines from anything else.

use std::io::{BufRead as _, IsTerminal as _, Lines, StdinLock, Write as _};

use rustyline::{Config, DefaultEditor, error::ReadlineError};

use crate::terminal::{DIM, LABEL, styled};

/// Where lines come from.
pub enum Input {
    /// Somebody types. What was said before is kept in memory only: conversations are nobody else's business.
    Editor(Box<DefaultEditor>),
    /// A file or a pipe, or a terminal whose answers go elsewhere and which is shown a prompt.
    Lines { lines: Lines<StdinLock<'static>>, prompt: bool },
}

impl Input {
    /// Standard input.
    pub fn open() -> anyhow::Result<Self> {
        let prompt = std::io::stdin().is_terminal();
        if !prompt || !std::io::stdout().is_terminal() {
            return Ok(Self::Lines { lines: std::io::stdin().lock().lines(), prompt });
        }
        let config = Config::builder().auto_add_history(true).build();
        Ok(Self::Editor(Box::new(DefaultEditor::with_config(config)?)))
    }

    /// Whether somebody sits there.
    pub fn is_interactive(&self) -> bool {
        !matches!(self, Self::Lines { prompt: false, .. })
    }

    /// The next line; `None` at the end. Ctrl-C drops what was typed.
    pub fn next(&mut self) -> anyhow::Result<Option<String>> {
        if self.is_interactive() {
            anstream::eprintln!();
        }
        match self {
            Self::Editor(editor) => match editor.readline("> ") {
                Ok(line) => Ok(Some(line)),
                Err(ReadlineError::Interrupted) => {
                    anstream::eprintln!("{}", styled(DIM, "(Ctrl-D leaves)"));
                    Ok(Some(String::new()))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Lines { lines, prompt } => {
                if *prompt {
                    anstream::eprint!("{} ", styled(LABEL, ">"));
                    std::io::stderr().flush()?;
                }
                Ok(lines.next().transpose()?)
            }
        }
    }
}
