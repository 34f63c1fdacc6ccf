//! Reads texts for perplexity: a plain file is one document, a `.jsonl` file has one document per line.

use std::path::Path;

use serde::Deserialize;

use moerge_core::{
    error::{Error, Result},
    jsonl::Lines,
    recipe::read_text,
};

/// Maximum bytes of a file; larger ones would take days.
const MAX_FILE: u64 = 256 << 20;

/// A text for perplexity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The file's name without folder and extension.
    pub name: String,
    /// The file, as the user gave it.
    pub file: String,
    /// Documents, none of them blank; no window crosses from one into the next.
    pub documents: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
}

impl Text {
    /// Reads a text file, or JSON Lines with a `text` each if the name ends in `.jsonl`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read_text(path, MAX_FILE)?;
        let file = path.display().to_string();
        let documents = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl")) {
            Lines::new(&file, &text).read("{\"text\": \"...\"}", |line: Line| match line.text {
                Some(text) if text.trim().is_empty() => Err("an empty `text`".into()),
                Some(text) => Ok(text),
                None => Err("a line without `text`".into()),
            })?
        } else if text.trim().is_empty() {
            return Err(Error::input(format!("{file} is empty")));
        } else {
            vec![text]
        };
        Ok(Self { name: name_of(path), file, documents })
    }

    /// Bytes of all documents.
    pub fn bytes(&self) -> usize {
        self.documents.iter().map(String::len).sum()
    }
}

/// A file's name without folder and extension.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> Result<Text> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Text::load(&path)
    }

    #[test]
    fn documents_are_lines_of_json_lines_or_whole_files() {
        let text = load("story.txt", "{not json}\n\nmore\n").unwrap();
        assert_eq!((text.name.as_str(), text.documents), ("story", vec!["{not json}\n\nmore\n".to_owned()]));
        let text = load("a.b.jsonl", "{\"text\": \"one\", \"id\": 1}\n\n  {\"text\": \"two\\n\"}").unwrap();
        assert_eq!((text.name.as_str(), text.bytes()), ("a.b", 7));
        assert_eq!(text.documents, ["one", "two\n"]);
    }

    #[test]
    fn a_line_that_is_wrong_is_shown() {
        for (bad, why) in [
            ("{\"text\": \"a\"}\n{\"txt\": 1}", "without `text`"),
            ("{\"text\": \"a\"}\n[1]", "not a JSON object"),
            ("{\"text\": \"a\"}\n{\"text\": ", "cannot be read"),
            ("{\"text\": \"a\"}\n{\"text\": \" \"}", "an empty `text`"),
        ] {
            let error = load("x.jsonl", bad).unwrap_err();
            let snippet = error.parts().snippet.clone().unwrap();
            assert!(error.parts().message.contains(why), "{error}");
            assert_eq!(snippet.span.start, 14, "{error}");
        }
        assert!(load("x.jsonl", "\n").is_err() && load("x.txt", " \n").is_err());
    }
}
