//! Reads texts for perplexity: a plain file is one document, JSON Lines have one document per line.

use std::path::Path;

use moerge_core::{error::Result, jsonl, recipe::read_text};

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

impl Text {
    /// Reads a text file, or JSON Lines with a `text` each.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 256 MiB, or as for [`jsonl::documents`].
    pub fn load(path: &Path) -> Result<Self> {
        let documents = jsonl::documents(path, read_text(path, MAX_FILE)?)?;
        Ok(Self { name: name_of(path), file: path.display().to_string(), documents })
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
