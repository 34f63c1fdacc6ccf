//! Python's `str` and `repr` of values, and HTML escaping.

use std::fmt::Write as _;

use super::{Value, Valued, View};
use crate::jinja::meter::Meter;

impl Value {
    /// What `{{ }}` prints, Python's `str`.
    pub fn print(&self, meter: &Meter<'_>) -> Valued<String> {
        match self {
            Self::Str(text) => {
                meter.work(text.len())?;
                Ok(text.to_string())
            }
            other => {
                let mut out = String::new();
                other.print_into(&mut out, meter)?;
                Ok(out)
            }
        }
    }

    fn print_into(&self, out: &mut String, meter: &Meter<'_>) -> Valued<()> {
        match self {
            Self::Str(text) => out.push_str(text),
            Self::Undefined(_) => {}
            other => other.repr_into(out, meter)?,
        }
        Ok(())
    }

    /// Python's `repr`.
    pub fn repr(&self, meter: &Meter<'_>) -> Valued<String> {
        let mut out = String::new();
        self.repr_into(&mut out, meter)?;
        Ok(out)
    }

    fn repr_into(&self, out: &mut String, meter: &Meter<'_>) -> Valued<()> {
        meter.step()?;
        meter.fits(out.len())?;
        match self {
            Self::Undefined(_) => out.push_str("Undefined"),
            Self::None => out.push_str("None"),
            Self::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
            Self::Int(n) => drop(write!(out, "{n}")),
            Self::Float(x) => out.push_str(&float_repr(*x)),
            Self::Str(text) if text.is_markup => {
                out.push_str("Markup(");
                repr_str(text, out);
                out.push(')');
            }
            Self::Str(text) => repr_str(text, out),
            Self::List(items) => match items.view {
                Some(View::Range([start, stop, 1])) => drop(write!(out, "range({start}, {stop})")),
                Some(View::Range([start, stop, step])) => drop(write!(out, "range({start}, {stop}, {step})")),
                Some(View::OfDict(name)) => {
                    out.push_str(name);
                    sequence("([", &items.items, "])", out, meter)?
                }
                _ => sequence("[", &items.items, "]", out, meter)?,
            },
            Self::Tuple(items) if items.items.len() == 1 => sequence("(", &items.items, ",)", out, meter)?,
            Self::Tuple(items) => sequence("(", &items.items, ")", out, meter)?,
            Self::Dict(dict) => {
                out.push('{');
                for (index, (key, value)) in dict.entries.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    key.repr_into(out, meter)?;
                    out.push_str(": ");
                    value.repr_into(out, meter)?;
                }
                out.push('}');
            }
            other => return Err(other.refuse("printed")),
        }
        Ok(())
    }
}

fn sequence(open: &str, items: &[Value], close: &str, out: &mut String, meter: &Meter<'_>) -> Valued<()> {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        item.repr_into(out, meter)?;
    }
    out.push_str(close);
    Ok(())
}

fn repr_str(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => escape_char(c, out),
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable`, which uses the same Unicode categories as Rust's `Debug`.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The leading character keeps `escape_debug` from escaping a combining mark.
    ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

/// Python's escape of a character in a string literal.
pub fn escape_char(c: char, out: &mut String) {
    let _ = match c as u32 {
        code @ 0..=0xff => write!(out, "\\x{code:02x}"),
        code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
}

/// Escapes the special characters of HTML.
pub fn escape_html(text: &str, meter: &Meter<'_>) -> Valued<String> {
    meter.fits(5 * text.len())?;
    meter.work(text.len())?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Python's `repr` of a float: the shortest digits that round-trip.
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}
