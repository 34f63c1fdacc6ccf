//! What lines look like: aligned columns, text from outside made safe, and the few colours.
//!
//! Colours are always put in; `anstream` takes them out again where the reader is not a terminal or NO_COLOR is set.

use std::path::Path;

use anstyle::{AnsiColor, Style};

use crate::columns::visible;

/// `error:`
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// `warning:`
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// `hint:`, `note:`, `next:` and `load:`
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// Names before values.
pub const LABEL: Style = Style::new().bold();
/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Less important text.
pub const DIM: Style = Style::new().dimmed();

/// `text` in a style.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Text from outside without control characters, so without escape sequences. Line ends and tabs stay.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        // Also the marks that turn the direction of writing around.
        c if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            '\u{fffd}'
        }
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The same in one line: line ends and tabs as `\n` and `\t`. For names and messages, which a hostile folder name must
/// not break into several.
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// A path as text for a person.
pub fn path_text(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A path as a shell takes it: in single quotes where it has to be.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,~\\".contains(c);
    if text.contains(char::is_control) {
        return format!("$'{}'", text.escape_default());
    }
    let text = harmless(&text);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Columns of a table, each as wide as its widest cell. Cells of the columns in `right` are right-aligned. A line end in
/// a cell is shown as `\n`.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let one_line = |row: &Vec<String>| row.iter().map(|cell| cell.replace('\n', "\\n")).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(one_line).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|t| visible(t)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, text) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - visible(text));
            let (before, after) = if right.contains(&column) { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(if column > 0 { "  " } else { "" });
            line.extend([before, text, after]);
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        let shown = |path: &str| quoted(Path::new(path));
        assert_eq!(["out", "a b", "it's", "", "a\nb"].map(shown), ["out", "'a b'", r"'it'\''s'", "''", r"$'a\nb'"]);
    }

    #[test]
    fn escape_sequences_from_outside_do_nothing() {
        assert_eq!(harmless("a\u{1b}[31m\r\u{202e}b\tc\n"), "a\u{fffd}[31m\u{fffd}\u{fffd}b\tc\n");
    }

    #[test]
    fn a_name_stays_in_its_line() {
        assert_eq!(one_line("a\nerror: b\t\u{1b}"), "a\\nerror: b\\t\u{fffd}");
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = [vec!["a".into(), "1".into()], vec![styled(GOOD, "bbb"), "22".into()]];
        let lines: Vec<String> =
            table(&rows, &[1]).iter().map(|l| anstream::adapter::strip_str(l).to_string()).collect();
        assert_eq!(lines, ["a     1", "bbb  22"]);
    }
}
