//! A small file of the output in memory.

/// A file of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Its name.
    pub name: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A text file of the output.
pub fn file(name: &str, text: String) -> OutputFile {
    OutputFile { name: name.to_owned(), bytes: text.into_bytes() }
}
