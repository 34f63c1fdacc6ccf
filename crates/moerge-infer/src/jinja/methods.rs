//! Python's methods of strings, lists and dictionaries, without those that mutate, as in Jinja's immutable sandbox.

use super::{
    Fault,
    arguments::{Args, Optional as _},
    format::braces,
    meter::Meter,
    value::{Text, Value, View, escape_html, is_printable},
};

type Run<T> = Result<T, Fault>;

const STRING: [&str; 43] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "expandtabs",
];
const LIST: [&str; 3] = ["copy", "count", "index"];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const FLOAT: [&str; 1] = ["is_integer"];

/// Looks up a method of `value` by name.
pub fn method(value: &Value, name: &str) -> Option<&'static str> {
    let names: &[&str] = match value {
        Value::Str(_) => &STRING,
        Value::List(_) => &LIST,
        Value::Tuple(_) => &TUPLE,
        Value::Dict(_) => &DICT,
        Value::Float(_) => &FLOAT,
        _ => &[],
    };
    names.iter().find(|known| **known == name).copied()
}

/// `value.name(args)`.
pub fn call(value: &Value, name: &str, args: Args, meter: &Meter<'_>) -> Run<Value> {
    match value {
        Value::Str(text) => string(text, name, args, meter),
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = args.bind("get", ["key", "default"])?;
                let key = key.ok_or_else(|| Fault::template("`get` needs a key"))?;
                Ok(dict.get(&key, meter)?.cloned().or(default).unwrap_or(Value::None))
            }
            "copy" => Ok(value.clone()),
            "keys" => {
                let keys = dict.entries.iter().map(|(key, _)| key.clone()).collect();
                Value::view(keys, View::OfDict("dict_keys"), meter)
            }
            "values" => {
                let values = dict.entries.iter().map(|(_, value)| value.clone()).collect();
                Value::view(values, View::OfDict("dict_values"), meter)
            }
            _ => items(value, meter),
        },
        Value::List(items) | Value::Tuple(items) => match name {
            "copy" => Ok(value.clone()),
            _ => {
                let [wanted] = args.bind(name, ["value"])?;
                let wanted = wanted.ok_or_else(|| Fault::template(format!("`{name}` needs a value")))?;
                let mut count = 0;
                for (at, item) in items.items.iter().enumerate() {
                    if item.equals(&wanted, meter)? {
                        if name == "index" {
                            return Ok(Value::Int(at as i64));
                        }
                        count += 1;
                    }
                }
                if name == "index" {
                    Err(Fault::template("the value is not in the list"))
                } else {
                    Ok(Value::Int(count))
                }
            }
        },
        Value::Float(x) => Ok(Value::Bool(x.is_finite() && x.fract() == 0.0)),
        other => Err(other.refuse("asked for methods")),
    }
}

/// The pairs of a dictionary.
pub fn items(value: &Value, meter: &Meter<'_>) -> Run<Value> {
    let Value::Dict(dict) = value else { return Err(value.refuse("asked for items")) };
    let pair = |(key, value): &(Value, Value)| Value::tuple(vec![key.clone(), value.clone()], meter);
    Value::view(dict.entries.iter().map(pair).collect::<Run<_>>()?, View::OfDict("dict_items"), meter)
}

fn string(text: &Text, name: &str, args: Args, meter: &Meter<'_>) -> Run<Value> {
    meter.work(text.len())?;
    let markup = text.is_markup;
    let like = |text: &str| Value::text_like(text, markup, meter);
    let all = |test: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(test)));
    match name {
        "format" => braces(text, &args, markup, meter).and_then(|text| like(&text)),
        "join" => {
            let [items] = args.bind(name, ["iterable"])?;
            let items = items.ok_or_else(|| Fault::template("`join` needs a list"))?.iterate(meter)?;
            let mut joined = String::new();
            for (index, item) in items.items.iter().enumerate() {
                let plain = item.as_str().ok_or_else(|| item.refuse("joined to a string"))?;
                let item = if markup && !item.is_markup() { &escape_html(plain, meter)? } else { plain };
                meter.fits(joined.len() + text.len() + item.len())?;
                meter.step()?;
                joined.push_str(if index > 0 { text } else { "" });
                joined.push_str(item);
            }
            like(&joined)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"])?;
            let chars = chars.text("the characters to strip")?;
            meter.work(text.len().saturating_mul(chars.map_or(0, str::len)))?;
            like(strip(text, chars, name != "rstrip", name != "lstrip"))
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.bind(name, ["part"])?;
            let part = part.text("a part of a string")?.unwrap_or_default();
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            like(rest.unwrap_or(text))
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = args.bind(name, ["affix", "start", "end"])?;
            let part = match (start.int("a place")?, end.int("a place")?) {
                (None, None) => text.to_string(),
                (start, end) => char_range(text, start, end).1,
            };
            let matches =
                |affix: &str| if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) };
            match &affix {
                Some(Value::Str(affix)) => Ok(Value::Bool(matches(affix))),
                Some(Value::Tuple(affixes)) => {
                    let mut found = false;
                    for affix in &affixes.items {
                        meter.step()?;
                        found |= matches(affix.as_str().ok_or_else(|| affix.refuse("part of a string"))?);
                    }
                    Ok(Value::Bool(found))
                }
                Some(other) => Err(other.refuse("part of a string")),
                None => Err(Fault::template(format!("`{name}` needs a string"))),
            }
        }
        "split" | "rsplit" => {
            let [sep, maxsplit] = args.bind(name, ["sep", "maxsplit"])?;
            let sep = sep.text("a separator")?;
            let most = maxsplit.int("a number of splits")?.and_then(|n| usize::try_from(n).ok());
            let parts = split(text, sep, most, name == "rsplit")?;
            texts(parts, markup, meter).and_then(|parts| Value::list(parts, meter))
        }
        "splitlines" => {
            let [keepends] = args.bind(name, ["keepends"])?;
            texts(lines(text, keepends.truth()), markup, meter).and_then(|lines| Value::list(lines, meter))
        }
        "partition" | "rpartition" => {
            let [sep] = args.bind(name, ["sep"])?;
            let sep = sep.text("a separator")?.filter(|sep| !sep.is_empty());
            let sep = sep.ok_or_else(|| Fault::template(format!("`{name}` needs a separator")))?;
            let parts = match if name == "partition" { text.find(sep) } else { text.rfind(sep) } {
                Some(at) => [&text[..at], sep, &text[at + sep.len()..]],
                None if name == "partition" => [&**text, "", ""],
                None => ["", "", &**text],
            };
            texts(parts.to_vec(), markup, meter).and_then(|parts| Value::tuple(parts, meter))
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let count = count.int("a count")?.and_then(|n| usize::try_from(n).ok());
            let escaped = new.as_ref().is_some_and(|new| markup && !new.is_markup());
            let (old, new) = (old.text("replaced")?.unwrap_or_default(), new.text("put in")?.unwrap_or_default());
            let new = if escaped { &escape_html(new, meter)? } else { new };
            like(&replace(text, old, new, count, meter)?)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
            let part = part.text("part of a string")?.unwrap_or_default();
            let (skipped, within) = match (start.int("a place")?, end.int("a place")?) {
                (None, None) => (0, text.to_string()),
                (start, end) => char_range(text, start, end),
            };
            // Past the end, not even the empty string is found.
            let outside = skipped > text.chars().count();
            if outside {
                return match name {
                    "count" => Ok(Value::Int(0)),
                    "find" | "rfind" => Ok(Value::Int(-1)),
                    _ => Err(Fault::template("substring not found")),
                };
            }
            if name == "count" {
                let count = if part.is_empty() { within.chars().count() + 1 } else { within.matches(part).count() };
                return Ok(Value::Int(count as i64));
            }
            let at = if name.starts_with('r') { within.rfind(part) } else { within.find(part) };
            match at {
                Some(at) => Ok(Value::Int((skipped + within[..at].chars().count()) as i64)),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => Err(Fault::template("substring not found")),
            }
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = args.bind(name, ["width", "fillchar"])?;
            let width = usize::try_from(width.int("a width")?.unwrap_or(0)).unwrap_or(0);
            let fill = fill.text("a fill character")?.and_then(|fill| fill.chars().next()).unwrap_or(' ');
            like(&pad(text, name, width, fill, meter)?)
        }
        "lower" => like(&text.to_lowercase()),
        "casefold" => like(&text.to_lowercase().replace('ß', "ss").replace('ς', "σ")),
        "upper" => like(&text.to_uppercase()),
        "capitalize" => like(&capitalize(text)),
        "title" => like(&title(text)),
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"])?;
            like(&expand_tabs(text, size.int("a width")?.unwrap_or(8), meter)?)
        }
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            like(&text.chars().map(swap).collect::<String>())
        }
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => Ok(Value::Bool(text.is_ascii())),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(|c| is_decimal(c) || is_digit_sign(c)),
        "isnumeric" => all(char::is_numeric),
        "isprintable" => Ok(Value::Bool(text.chars().all(is_printable))),
        "isidentifier" => {
            let starts = text.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Ok(Value::Bool(starts && text.chars().all(|c| c == '_' || c.is_alphanumeric())))
        }
        "isspace" => all(is_space),
        "islower" => Ok(Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))),
        "isupper" => Ok(Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))),
        "istitle" => Ok(Value::Bool(text.chars().any(char::is_alphabetic) && title(text) == **text)),
        _ => Err(Fault::template(format!("the method `{name}` of strings is not supported"))),
    }
}

/// Decimal digits: Unicode's category Nd, which consists of runs of ten.
fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 37] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
        0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
        0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    ];
    let code = c as u32;
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&code)) || (0x1d7ce..=0x1d7ff).contains(&code)
}

/// Superscript, subscript and circled digits, which `isdigit` accepts.
fn is_digit_sign(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐' | '❶'..='❾')
}

fn expand_tabs(text: &str, size: i64, meter: &Meter<'_>) -> Run<String> {
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

fn texts(parts: Vec<&str>, markup: bool, meter: &Meter<'_>) -> Run<Vec<Value>> {
    parts.into_iter().map(|part| Value::text_like(part, markup, meter)).collect()
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

fn split<'s>(text: &'s str, sep: Option<&str>, most: Option<usize>, right: bool) -> Run<Vec<&'s str>> {
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

fn pad(text: &str, name: &str, width: usize, fill: char, meter: &Meter<'_>) -> Run<String> {
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

fn title(text: &str) -> String {
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
fn char_range(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, String) {
    let length = text.chars().count() as i64;
    let place = |at: i64| (if at < 0 { at.saturating_add(length).max(0) } else { at.min(length + 1) }) as usize;
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
    (start, text.chars().skip(start).take(end.saturating_sub(start)).collect())
}
