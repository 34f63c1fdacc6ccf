//! Python's operations on strings, which methods and filters share.

use super::{Fault, meter::Meter};

type Run<T> = Result<T, Fault>;

/// Decimal digits: Unicode's category Nd, which consists of runs of ten.
pub fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 37] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
        0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
        0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    ];
    let code = c as u32;
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&code)) || (0x1d7ce..=0x1d7ff).contains(&code)
}

/// Superscript, subscript and circled digits, which `isdigit` accepts.
pub fn is_digit_sign(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐' | '❶'..='❾')
}

pub fn expand_tabs(text: &str, size: i64, meter: &Meter<'_>) -> Run<String> {
    let size = usize::try_from(size).unwrap_or(0);
    let tabs = text.matches('\t').count();
    meter.fits(tabs.saturating_mul(size).saturating_add(text.len()))?;
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

/// Python's whitespace: Unicode's and the four ASCII separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The titlecase of a character, which may be two letters: `ﬁ` becomes `Fi`.
pub fn title_char(c: char) -> String {
    let digraph = [('Ǆ', 'ǅ', 'ǆ'), ('Ǉ', 'ǈ', 'ǉ'), ('Ǌ', 'ǋ', 'ǌ'), ('Ǳ', 'ǲ', 'ǳ')];
    if let Some((_, title, _)) = digraph.iter().find(|(upper, title, lower)| [*upper, *title, *lower].contains(&c)) {
        return title.to_string();
    }
    let mut upper = c.to_uppercase();
    let first = upper.next().map(String::from).unwrap_or_default();
    first + &upper.collect::<String>().to_lowercase()
}

/// `strip` of whitespace, or of any of `chars`.
pub fn strip<'s>(text: &'s str, chars: Option<&str>, left: bool, right: bool) -> &'s str {
    let stripped = |c: char| chars.map_or(is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(stripped) } else { text };
    if right { text.trim_end_matches(stripped) } else { text }
}

pub fn split<'s>(text: &'s str, sep: Option<&str>, most: Option<usize>, right: bool) -> Run<Vec<&'s str>> {
    let most = most.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    match (sep, right) {
        (Some(""), _) => return Err(Fault::template("the separator is empty")),
        (Some(sep), false) => parts.extend(text.splitn(most.saturating_add(1), sep)),
        (Some(sep), true) => {
            parts.extend(text.rsplitn(most.saturating_add(1), sep));
            parts.reverse();
        }
        (None, false) => {
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                let end = rest.find(is_space).filter(|_| parts.len() < most);
                let end =
                    end.unwrap_or(if parts.len() < most { rest.len() } else { rest.trim_end_matches(is_space).len() });
                let end = if parts.len() < most { end } else { rest.len() };
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
        }
        (None, true) => {
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                let space = rest.char_indices().rev().find(|(_, c)| is_space(*c)).filter(|_| parts.len() < most);
                let start = space.map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end_matches(is_space);
            }
            parts.reverse();
        }
    }
    Ok(parts)
}

/// Python's `splitlines`.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    let is_end =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    while !rest.is_empty() {
        let Some((at, c)) = rest.char_indices().find(|(_, c)| is_end(*c)) else {
            lines.push(rest);
            break;
        };
        let end = at + if rest[at..].starts_with("\r\n") { 2 } else { c.len_utf8() };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    lines
}

/// Replaces at most `count` occurrences.
pub fn replace(text: &str, old: &str, new: &str, count: Option<usize>, meter: &Meter<'_>) -> Run<String> {
    let places = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let places = places.min(count.unwrap_or(usize::MAX));
    meter.work(text.len())?;
    meter.fits(places.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replacen(old, new, places))
}

pub fn pad(text: &str, name: &str, width: usize, fill: char, meter: &Meter<'_>) -> Run<String> {
    let missing = width.saturating_sub(text.chars().count());
    meter.fits(missing.saturating_mul(4).saturating_add(text.len()))?;
    let run = |n: usize, c: char| std::iter::repeat_n(c, n).collect::<String>();
    Ok(match name {
        "ljust" => format!("{text}{}", run(missing, fill)),
        "rjust" => format!("{}{text}", run(missing, fill)),
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", run(missing, '0'))
        }
        _ => {
            // With an odd width, Python puts the extra character on the left.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", run(left, fill), run(missing - left, fill))
        }
    })
}

pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(title_char).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

pub fn title(text: &str) -> String {
    let mut within = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if within {
            titled.extend(c.to_lowercase())
        } else {
            titled.push_str(&title_char(c))
        }
        within = c.is_alphabetic();
    }
    titled
}

/// The characters from `start` to `end`, and the number skipped before them.
pub fn char_range(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, String) {
    let length = text.chars().count() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(length).max(0) } else { at.min(length + 1) }) as usize;
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
    (start, text.chars().skip(start).take(end.saturating_sub(start)).collect())
}
