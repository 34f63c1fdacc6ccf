//! Names from outside, made fit for a message.

/// A name from outside as it may be printed: control characters escaped, shortened if endless.
pub(crate) fn shown(name: &str) -> String {
    const LIMIT: usize = 200;
    let mut text: String = name.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if name.chars().nth(LIMIT).is_some() {
        text.push_str("...");
    }
    text
}
