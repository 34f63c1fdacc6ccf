//! Python's methods of strings, lists and dictionaries, without those that mutate, as in Jinja's immutable sandbox.

use super::{
    Fault,
    arguments::{Args, Optional as _},
    format::braces,
    meter::Meter,
    strings::{
        capitalize, char_range, expand_tabs, is_decimal, is_digit_sign, is_space, lines, pad, replace, split, strip,
        title,
    },
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
/// How much more than copying it takes to look at every character of a string by itself.
pub const BY_CHARACTER: usize = 32;
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
        "title" => {
            meter.work(BY_CHARACTER * text.len())?;
            like(&title(text))
        }
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"])?;
            like(&expand_tabs(text, size.int("a width")?.unwrap_or(8), meter)?)
        }
        "swapcase" => {
            meter.work(BY_CHARACTER * text.len())?;
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
        "istitle" => {
            meter.work(BY_CHARACTER * text.len())?;
            Ok(Value::Bool(text.chars().any(char::is_alphabetic) && title(text) == **text))
        }
        _ => Err(Fault::template(format!("the method `{name}` of strings is not supported"))),
    }
}

fn texts(parts: Vec<&str>, markup: bool, meter: &Meter<'_>) -> Run<Vec<Value>> {
    parts.into_iter().map(|part| Value::text_like(part, markup, meter)).collect()
}
