//! Which names may stand for a file inside a folder. Names come from index files and recipes that
//! strangers wrote; one that is not plain could lead out of the folder, so it is refused before it
//! meets a path.

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
