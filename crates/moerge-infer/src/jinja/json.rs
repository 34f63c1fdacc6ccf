//! `tojson` as transformers defines it: Python's `json.dumps`, without HTML escapes.

use std::fmt::Write as _;

use super::{
    Fault,
    arguments::{Args, Optional as _},
    meter::Meter,
    value::{Value, float_repr},
};

type Run<T> = Result<T, Fault>;

struct Style {
    ensure_ascii: bool,
    /// Indentation per level.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter `tojson`.
pub fn tojson(value: &Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [ensure_ascii, indent, separators, sort_keys] =
        args.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(indent)) => Some(indent.to_string()),
        Some(indent) => {
            let width = indent.as_int().ok_or_else(|| indent.refuse("an indent"))?;
            let width = usize::try_from(width).unwrap_or(0);
            meter.fits(width)?;
            Some(" ".repeat(width))
        }
    };
    let (item_separator, key_separator) = match separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => match pair.iterate(meter)?.items.as_slice() {
            [Value::Str(item), Value::Str(key)] => (item.to_string(), key.to_string()),
            _ => return Err(Fault::template("`separators` of `tojson` are two strings")),
        },
    };
    let (ensure_ascii, sort_keys) = (ensure_ascii.truth(), sort_keys.truth());
    let style = Style { ensure_ascii, indent, item_separator, key_separator, sort_keys };
    let mut out = String::new();
    write_value(value, &style, 0, &mut out, meter)?;
    Value::text(out, meter)
}

fn write_value(value: &Value, style: &Style, level: usize, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    meter.step()?;
    meter.fits(out.len())?;
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => drop(write!(out, "{b}")),
        Value::Int(n) => drop(write!(out, "{n}")),
        Value::Float(x) => out.push_str(&json_float(*x)),
        Value::Str(text) => write_string(text, style, out),
        Value::List(items) | Value::Tuple(items) => {
            out.push('[');
            for (index, item) in items.items.iter().enumerate() {
                separate(index, style, level + 1, out, meter)?;
                write_value(item, style, level + 1, out, meter)?;
            }
            close(items.items.is_empty(), style, level, out, meter)?;
            out.push(']');
        }
        Value::Dict(dict) => {
            let mut entries: Vec<(String, &Value)> = Vec::with_capacity(dict.entries.len());
            for (key, value) in &dict.entries {
                entries.push((key_text(key)?, value));
            }
            if style.sort_keys {
                meter.work(64 * entries.len())?;
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                separate(index, style, level + 1, out, meter)?;
                write_string(key, style, out);
                out.push_str(&style.key_separator);
                write_value(value, style, level + 1, out, meter)?;
            }
            close(entries.is_empty(), style, level, out, meter)?;
            out.push('}');
        }
        other => return Err(other.refuse("written as JSON")),
    }
    Ok(())
}

/// Writes the separator and line break before item `index`.
fn separate(index: usize, style: &Style, level: usize, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    meter.fits(out.len() + style.item_separator.len() + style.key_separator.len())?;
    if index > 0 {
        out.push_str(&style.item_separator);
    }
    new_line(style, level, out, meter)
}

fn close(empty: bool, style: &Style, level: usize, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    if empty { Ok(()) } else { new_line(style, level, out, meter) }
}

fn new_line(style: &Style, level: usize, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let Some(indent) = &style.indent else { return Ok(()) };
    meter.fits(out.len() + indent.len() * level)?;
    meter.work(indent.len() * level)?;
    out.push('\n');
    (0..level).for_each(|_| out.push_str(indent));
    Ok(())
}

fn key_text(key: &Value) -> Run<String> {
    Ok(match key {
        Value::Str(text) => text.to_string(),
        Value::None => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => json_float(*x),
        other => return Err(other.refuse("a key of JSON")),
    })
}

fn json_float(x: f64) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float_repr(x)
    }
}

fn write_string(text: &str, style: &Style, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => drop(write!(out, "\\u{:04x}", c as u32)),
            c if style.ensure_ascii && (c as u32) >= 0x7f => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
