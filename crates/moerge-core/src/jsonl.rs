//! Reads JSON Lines, one object per line, and tells files of texts in this format from plain ones. Errors point at their
//! line.

use std::{ops::Range, path::Path, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result, Snippet},
    json_error::json_error,
};

/// Maximum number of objects in a file.
pub const MAX_LINES: usize = 1_000_000;

/// The text of a JSON Lines file.
pub struct Lines<'a> {
    name: &'a str,
    text: Arc<str>,
}

impl<'a> Lines<'a> {
    /// A file called `name` in messages.
    pub fn new(name: &'a str, text: &str) -> Self {
        Self { name, text: Arc::from(text) }
    }

    /// Applies `read` to the object of each line that is not blank. `read` returns what is wrong with a line, and
    /// `shape` shows a correct one.
    ///
    /// # Errors
    /// A line is not an object of type `L`, `read` refuses it, there are more than [`MAX_LINES`], or there are none.
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
            if all.len() == MAX_LINES {
                return Err(self.wrong(&format!("more than {MAX_LINES} lines"), begin..begin + line.len()));
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

/// Whether a file of texts is JSON Lines: its name ends in `.jsonl` or `.json`, or it begins with `{` and a quoted key.
fn is_json_lines(path: &Path, text: &str) -> bool {
    let by_name = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("json"));
    by_name || text.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with('"'))
}

/// The `text` of each line if the file at `path` is JSON Lines, `None` if it is plain text.
///
/// # Errors
/// It is JSON Lines, but a line has no `text` or a blank one, or breaks the format; see [`Lines::read`].
pub fn texts(path: &Path, content: &str) -> Result<Option<Vec<String>>> {
    /// The keys that are read of a line; others are ignored.
    #[derive(Deserialize)]
    struct Line {
        text: Option<String>,
    }
    if !is_json_lines(path, content) {
        return Ok(None);
    }
    let read = |line: Line| match line.text {
        Some(text) if text.trim().is_empty() => Err("an empty `text`".into()),
        Some(text) => Ok(text),
        None => Err("a line without `text`".into()),
    };
    Lines::new(&path.display().to_string(), content).read("{\"text\": \"...\"}", read).map(Some)
}

/// The documents in the file at `path`: the [`texts`] of JSON Lines, or all of a plain file, line breaks and indentation
/// included. None of them is blank.
///
/// # Errors
/// The file is blank, or as for [`texts`].
pub fn documents(path: &Path, content: String) -> Result<Vec<String>> {
    match texts(path, &content)? {
        Some(texts) => Ok(texts),
        None if content.trim().is_empty() => Err(Error::input(format!("{} is empty", path.display()))),
        None => Ok(vec![content]),
    }
}

fn parse<L: DeserializeOwned>(line: &str) -> Result<L, String> {
    if !line.starts_with('{') {
        return Err("a line that is not a JSON object".into());
    }
    serde_json::from_str(line).map_err(|e| {
        // Each line is parsed by itself, so the error's own line number says nothing.
        format!("a line that cannot be read ({})", json_error(&e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_recognised_by_name_or_by_a_quoted_key() {
        for (name, text, expected) in [
            ("a.txt", "plain", false),
            ("a", "{not json}", false),
            ("a.py", "{% if x %}", false),
            ("a.txt", "{}", false),
            ("a.jsonl", "plain", true),
            ("a.JSON", "", true),
            ("a.txt", "\n {\"text\": \"a\"}", true),
            ("a", "{ \"text\": \"a\" }", true),
        ] {
            assert_eq!(is_json_lines(Path::new(name), text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn a_plain_file_is_one_document() {
        let read = |name: &str, text: &str| documents(Path::new(name), text.to_owned());
        assert_eq!(read("a.txt", " a\n\n b\n").unwrap(), [" a\n\n b\n"]);
        assert_eq!(read("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\"}").unwrap(), ["a", "b"]);
        assert!(read("a.txt", " \n").is_err() && read("a.jsonl", "\n").is_err());
    }
}
