//! How wide text is on a terminal: wide characters take two columns, colour sequences none.

use unicode_width::UnicodeWidthStr;

/// Columns that `text` takes.
pub fn visible(text: &str) -> usize {
    if text.contains('\u{1b}') { anstream::adapter::strip_str(text).to_string().width() } else { text.width() }
}
