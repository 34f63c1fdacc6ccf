//! What lines look like: numbers with units, aligned columns, and the few colours.
//!
//! Everything is printed through `anstream`, which takes the colours out again where the reader is not a terminal or
//! NO_COLOR is set.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// `error:`
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// `warning:`
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// `hint:`, `note:` and what comes next.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// The words before the numbers.
pub const LABEL: Style = Style::new().bold();
/// What is good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();

/// `text` in a style.
pub fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Bytes in decimal units, as disks and downloads are counted: `48.3 GB`.
pub fn bytes(n: u64) -> String {
    scaled(n, 1000.0, &["bytes", "kB", "MB", "GB", "TB", "PB"])
}

/// `done` of `total` bytes, in the unit of the total: `0.5/48.3 GB`.
pub fn bytes_of(done: u64, total: u64) -> String {
    let text = bytes(total);
    let Some((number, unit)) = text.split_once(' ') else { return text };
    let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let scale = number.parse::<f64>().unwrap_or(1.0) / total.max(1) as f64;
    format!("{:.decimals$}/{number} {unit}", done as f64 * scale)
}

/// Bytes in binary units, as memory is counted: `0.9 GiB`.
pub fn memory(n: u64) -> String {
    scaled(n, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(n: u64, base: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (n as f64, 0);
    // 999.95 would be shown as 1000.0: it belongs to the next unit.
    while value >= base - 0.05 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    match unit {
        0 => format!("{n} {}", if n == 1 { "byte" } else { units[0] }),
        _ if base > 1000.0 && value.fract() == 0.0 => format!("{value} {}", units[unit]),
        _ if value < 9.995 => format!("{value:.2} {}", units[unit]),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// A number of parameters as people say it: `24.15 B`, `134.5 M`, `35.8 k`.
pub fn parameters(n: u64) -> String {
    match n as f64 {
        v if v >= 999.95e6 => format!("{:.2} B", v / 1e9),
        v if v >= 999.95e3 => format!("{:.1} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        _ => n.to_string(),
    }
}

/// A duration as people say it: `0.4 s`, `41 s`, `1 min 24 s`, `2 h 05 min`.
pub fn duration(d: Duration) -> String {
    if d.as_secs_f64() < 9.95 { format!("{:.1} s", d.as_secs_f64()) } else { whole_seconds(d) }
}

/// The same without parts of a second.
pub fn whole_seconds(d: Duration) -> String {
    let seconds = d.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A count with its noun: `1 shard`, `10 shards`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Text from outside, made fit for a terminal: no control characters, so no escape sequences either.
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

/// A path as a shell takes it: in single quotes where it has to be.
pub fn quoted(path: &std::path::Path) -> String {
    let text = harmless(&path.display().to_string());
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,~\\".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Columns of a table, each as wide as its widest cell. Cells of the columns in `right` are right-aligned.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| anstream::adapter::strip_str(text).to_string().chars().count();
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|t| width(t)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, text) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - width(text));
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
    fn numbers_as_people_say_them() {
        assert_eq!([0, 1, 999].map(bytes), ["0 bytes", "1 byte", "999 bytes"]);
        assert_eq!([1_310_000_000, 48_300_000_000, 999_999].map(bytes), ["1.31 GB", "48.3 GB", "1.00 MB"]);
        assert_eq!(bytes_of(549_000_000, 48_300_000_000), "0.5/48.3 GB");
        assert_eq!([bytes_of(0, 0), bytes_of(7, 7), bytes_of(1, 1000)], ["0/0 bytes", "7/7 bytes", "0.00/1.00 kB"]);
        assert_eq!([2 << 30, 3 << 29].map(memory), ["2 GiB", "1.50 GiB"]);
        assert_eq!([24_153_690_112, 134_515_008, 12_345, 99].map(parameters), ["24.15 B", "134.5 M", "12.3 k", "99"]);
        let seconds = |s: f64| duration(Duration::from_secs_f64(s));
        assert_eq!(
            [0.42, 9.7, 41.0, 84.4, 7500.0].map(seconds),
            ["0.4 s", "9.7 s", "41 s", "1 min 24 s", "2 h 05 min"]
        );
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        let shown = |path: &str| quoted(std::path::Path::new(path));
        assert_eq!(["out", "a b", "it's", ""].map(shown), ["out", "'a b'", r"'it'\''s'", "''"]);
    }

    #[test]
    fn escape_sequences_from_outside_do_nothing() {
        assert_eq!(harmless("a\u{1b}[31m\r\u{202e}b\tc\n"), "a\u{fffd}[31m\u{fffd}\u{fffd}b\tc\n");
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = [vec!["a".into(), "1".into()], vec![styled(GOOD, "bbb"), "22".into()]];
        let lines: Vec<String> =
            table(&rows, &[1]).iter().map(|l| anstream::adapter::strip_str(l).to_string()).collect();
        assert_eq!(lines, ["a     1", "bbb  22"]);
    }
}
