//! The user's side of a chat: editable lines with a history on a terminal, plain lines from anything else.

use std::io::{BufRead as _, IsTerminal as _, Lines, StdinLock};

use rustyline::{Config, DefaultEditor, error::ReadlineError};

use crate::{
    console, interrupt,
    terminal::{DIM, LABEL, styled},
};

/// Where lines come from.
pub enum Input {
    /// A terminal. The history is kept in memory only, since conversations are private.
    Editor(Box<DefaultEditor>),
    /// A file or a pipe; or a terminal, with a prompt, whose answers go elsewhere.
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

    /// Whether a person types.
    pub fn is_interactive(&self) -> bool {
        !matches!(self, Self::Lines { prompt: false, .. })
    }

    /// The next line; `None` at the end. Ctrl-C clears the line in the editor, and ends the process elsewhere.
    pub fn next(&mut self) -> anyhow::Result<Option<String>> {
        if self.is_interactive() {
            console::status("");
        }
        match self {
            Self::Editor(editor) => match editor.readline("> ") {
                Ok(line) => Ok(Some(line)),
                Err(ReadlineError::Interrupted) => {
                    console::status(&styled(DIM, "(Ctrl-D leaves)"));
                    Ok(Some(String::new()))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Lines { lines, prompt } => {
                if *prompt {
                    console::status_text(&format!("{} ", styled(LABEL, ">")));
                }
                Ok(interrupt::while_waiting(|| lines.next()).transpose()?)
            }
        }
    }
}
