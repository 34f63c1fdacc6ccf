//! Lines that fit into a terminal: broken at spaces, never inside a word.
//!
//! [`wrap`] is for whole lines, [`WordWrap`] for text that arrives in pieces. A word that is wider than the terminal (a
//! path, a URL) is left to the terminal, so that it can still be copied. Widths are columns: wide characters take two,
//! colour sequences none.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{columns::visible, terminal::styled};

/// `text` with its long lines wrapped to `width` columns; unchanged without a width. Continuation lines are
/// indented to the last column of the line, if it looks like a row of a table.
pub fn wrap(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => text.split('\n').map(|line| wrap_line(line, width)).collect::<Vec<_>>().join("\n"),
        None => text.to_owned(),
    }
}

fn wrap_line(line: &str, width: usize) -> String {
    if visible(line) <= width {
        return line.to_owned();
    }
    let indent = " ".repeat(hanging_indent(line, width));
    let (mut out, mut column) = (String::new(), 0);
    for (spaces, word) in words(line) {
        let len = visible(word);
        if column > indent.len() && column + spaces + len > width {
            out.push('\n');
            out.push_str(&indent);
            column = indent.len();
        } else {
            out.push_str(&" ".repeat(spaces));
            column += spaces;
        }
        out.push_str(word);
        column += len;
    }
    out
}

/// Where continuation lines begin: at the last column that starts in the left half, else a little further in.
fn hanging_indent(line: &str, width: usize) -> usize {
    let (mut column, mut start, mut first) = (0, None, true);
    for (spaces, word) in words(line) {
        column += spaces;
        if first {
            start = Some(column + 2);
            first = false;
        } else if spaces >= 2 && column <= width / 2 {
            start = Some(column);
        }
        column += visible(word);
    }
    start.unwrap_or(0).min(width / 2)
}

/// The words of a line, each with the number of spaces before it.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let word = rest.trim_start_matches(' ');
        if word.is_empty() {
            return None;
        }
        let spaces = rest.len() - word.len();
        let end = word.find(' ').unwrap_or(word.len());
        rest = &word[end..];
        Some((spaces, &word[..end]))
    })
}

/// Wraps text that arrives in pieces. A word is held back until it is known to be complete.
#[derive(Default)]
pub struct WordWrap {
    /// `None` prints everything as it comes.
    width: Option<usize>,
    /// Columns used in this line.
    column: usize,
    /// Spaces before the word that is held back.
    spaces: usize,
    word: String,
    word_width: usize,
}

impl WordWrap {
    /// A wrapper for a terminal of `width` columns.
    pub fn new(width: Option<usize>) -> Self {
        Self { width, ..Self::default() }
    }

    /// Takes a piece of text and gives what can be printed now.
    pub fn push(&mut self, text: &str, style: Option<Style>) -> String {
        let paint = |text: &str| style.map_or_else(|| text.to_owned(), |style| styled(style, text));
        let Some(width) = self.width else { return paint(text) };
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            match c {
                '\n' => {
                    self.place(&mut out, width);
                    out.push('\n');
                    (self.column, self.spaces) = (0, 0);
                    rest = &rest[1..];
                }
                ' ' => {
                    self.place(&mut out, width);
                    self.spaces += 1;
                    rest = &rest[1..];
                }
                // Scripts without spaces may break after any character.
                c if c.width() == Some(2) => {
                    let (wide, after) = rest.split_at(c.len_utf8());
                    self.hold(&paint(wide), 2);
                    self.place(&mut out, width);
                    rest = after;
                }
                _ => {
                    let ends = |c: char| matches!(c, '\n' | ' ') || c.width() == Some(2);
                    let (part, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                    self.hold(&paint(part), part.width());
                    rest = after;
                }
            }
        }
        if self.word_width >= width {
            self.place(&mut out, width);
        }
        out
    }

    /// What is still held back, at the end of the text.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.place(&mut out, self.width.unwrap_or(usize::MAX));
        out
    }

    fn hold(&mut self, part: &str, width: usize) {
        self.word.push_str(part);
        self.word_width += width;
    }

    /// Puts the held-back word into this line or the next.
    fn place(&mut self, out: &mut String, width: usize) {
        if self.word.is_empty() {
            return;
        }
        if self.column > 0 && self.column + self.spaces + self.word_width > width {
            out.push('\n');
            self.column = 0;
        } else {
            out.push_str(&" ".repeat(self.spaces));
            self.column += self.spaces;
        }
        out.push_str(&self.word);
        self.column += self.word_width;
        (self.spaces, self.word_width) = (0, 0);
        self.word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_rough_edges_long_lines_break_at_spaces_under_their_last_column() {
        let line = "why        MixtralForCausalLM has all features of this base";
        let expected = "why        MixtralForCausalLM\n           has all features of\n           this base";
        assert_eq!(wrap(line, Some(30)), expected);
        assert_eq!(wrap("  hint: choose another name", Some(20)), "  hint: choose\n    another name");
        assert_eq!((wrap(line, None), wrap("short", Some(5))), (line.to_owned(), "short".to_owned()));
    }

    #[test]
    fn a_word_wider_than_the_terminal_stays_whole() {
        let path = "/a/very/long/path/to/a/model";
        assert_eq!(
            wrap(&format!("cannot open {path}: denied"), Some(20)),
            format!("cannot open\n  {path}\n  denied").replacen(path, &format!("{path}:"), 1)
        );
    }

    #[test]
    fn colours_take_no_columns() {
        let line = format!("{} one two", styled(crate::terminal::ERROR, "error:"));
        assert_eq!(wrap(&line, Some(14)), line);
        assert_eq!(visible(&line), 14);
    }

    /// What a terminal shows of `pieces`.
    fn streamed(width: usize, pieces: &[&str]) -> String {
        let mut wrap = WordWrap::new(Some(width));
        let mut out: String = pieces.iter().map(|piece| wrap.push(piece, None)).collect();
        out.push_str(&wrap.finish());
        out
    }

    #[test]
    fn fault_rough_edges_streamed_words_are_never_broken() {
        assert_eq!(streamed(10, &["one two th", "ree fo", "ur\nfi", "ve"]), "one two\nthree four\nfive");
        assert_eq!(streamed(10, &["  x = 1\n\n  y"]), "  x = 1\n\n  y");
        assert_eq!(streamed(4, &["abcdefgh i"]), "abcdefgh\ni");
        assert_eq!(streamed(5, &["日本", "語です"]), "日本\n語で\nす");
    }

    #[test]
    fn without_a_terminal_text_passes_unchanged() {
        let mut wrap = WordWrap::new(None);
        assert_eq!((wrap.push("one  two", None), wrap.finish()), ("one  two".to_owned(), String::new()));
    }
}
