//! Which strings are valid file names within a folder. Names come from untrusted index files and
//! recipes and could lead out of the folder, so they are checked before they become part of a path.

/// Whether `name` is a plain file name on every system: not empty, not `.` or `..`, no separators,
/// no drive or stream colon, no control characters.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 255
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_names_that_stay_in_their_folder_are_plain() {
        for good in ["model.safetensors", "a b", "..a", "ü.json", ".hidden"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", "/a", "a/b", "../a", "a\\b", "C:a", "a\0b", "a\nb"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert!(!is_plain(&"x".repeat(256)));
    }
}
