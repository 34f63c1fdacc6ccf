//! Untrusted names in messages.

/// An untrusted name, shortened and with control characters escaped.
pub(crate) fn shown(name: &str) -> String {
    const LIMIT: usize = 200;
    let mut text: String = name.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if name.chars().nth(LIMIT).is_some() {
        text.push_str("...");
    }
    text
}
