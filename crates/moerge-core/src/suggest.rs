//! Strings in messages: suggestions for mistyped names, and untrusted strings made safe to print.

/// The one of `names` that `written` is most likely a typo of, if any.
pub fn did_you_mean<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // The distance takes quadratic time, and no name here is longer than this.
    if written.len() > 96 {
        return None;
    }
    let written = written.to_lowercase();
    let slips = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    let near = names.into_iter().filter(|n| n.len() <= 96).map(|name| (slips(name), name)).min_by_key(|near| near.0)?;
    (near.0 <= (near.1.len().max(written.len()) / 3).max(1)).then_some(near.1)
}

/// An untrusted string for a message: one line of at most 60 characters without control characters.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", printable(text.get(..end).unwrap_or_default())),
        None => printable(text),
    }
}

/// A string with control characters escaped.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// `` `a`, `b`, `c` ``.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// `0-3, 7` for 0, 1, 2, 3, 7.
pub fn ranges(layers: &[usize]) -> String {
    let runs = layers.chunk_by(|a, b| a + 1 == *b);
    let shown = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(usize::to_string).collect(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_others_left_alone() {
        let names = ["hidden", "hidden_avg", "random"];
        assert_eq!(did_you_mean("hiden", names), Some("hidden"));
        assert_eq!(did_you_mean("Hidden_Avg", names), Some("hidden_avg"));
        assert_eq!(did_you_mean("ranodm", names), Some("random"));
        assert_eq!(did_you_mean("best", names), None);
        assert_eq!(did_you_mean("", names), None);
        assert_eq!(did_you_mean(&"hidden".repeat(100_000), names), None);
    }

    #[test]
    fn texts_from_outside_are_cut_and_disarmed() {
        assert_eq!(shorten("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(shorten(&"ü".repeat(60)), "ü".repeat(60));
        assert_eq!(shorten(&"ü".repeat(61)), format!("{}…", "ü".repeat(60)));
    }
}
