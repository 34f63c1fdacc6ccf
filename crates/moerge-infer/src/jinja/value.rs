//! Template values that print, compare and convert to booleans as in Python.
//!
//! Lists and dictionaries are immutable and track their bounded depth, so walking and dropping them is safe. Namespaces
//! are mutable; they live in the interpreter and are referred to by index.

use std::{cmp::Ordering, fmt::Write as _, ops::Deref, rc::Rc};

use super::{Fault, meter::Meter};

/// Maximum nesting of lists and dictionaries.
const MAX_DEPTH: u32 = 200;

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Holds the name that was looked up.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Text),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    Loop(Rc<LoopState>),
    /// An index into the interpreter's table.
    Namespace(usize),
    /// An index into the interpreter's table.
    Macro(usize),
    /// A global function.
    Function(&'static str),
    /// A method that is referenced but not called.
    Method(&'static str),
}

/// A string. What is added to markup is HTML-escaped, as with Python's `Markup`.
#[derive(Debug, Clone)]
pub struct Text {
    text: Rc<str>,
    pub is_markup: bool,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// The items of a list or tuple.
#[derive(Debug)]
pub struct Items {
    pub items: Vec<Value>,
    depth: u32,
    pub view: Option<View>,
}

/// Python types that are lists or tuples here, but print differently or have extra attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// `dict_keys`, `dict_values` or `dict_items`.
    OfDict(&'static str),
    /// Start, stop and step.
    Range([i64; 3]),
    /// A group of `groupby`: `grouper` and `list`.
    Group,
}

/// A dictionary's entries in insertion order.
#[derive(Debug)]
pub struct Dict {
    pub entries: Vec<(Value, Value)>,
    depth: u32,
}

/// The state of a loop.
#[derive(Debug)]
pub struct LoopState {
    pub items: Rc<Items>,
    pub index: usize,
    /// The loop's number among all loops so far.
    pub number: usize,
    /// Recursion depth, from 0.
    pub level: usize,
    /// For `loop(...)`: the loop's place in the syntax tree.
    pub recursion: Option<usize>,
}

type Valued<T> = Result<T, Fault>;

impl Value {
    pub fn undefined(name: &str) -> Self {
        Self::Undefined(name.into())
    }

    /// A string; its bytes count against the memory limit.
    pub fn text(text: impl AsRef<str>, meter: &Meter<'_>) -> Valued<Self> {
        meter.memory(text.as_ref().len() + 16)?;
        Ok(Self::from_str(text.as_ref()))
    }

    fn from_str(text: &str) -> Self {
        Self::Str(Text { text: text.into(), is_markup: false })
    }

    /// A string as markup, or not.
    pub fn text_like(text: impl AsRef<str>, is_markup: bool, meter: &Meter<'_>) -> Valued<Self> {
        Ok(match Self::text(text, meter)? {
            Self::Str(text) => Self::Str(Text { is_markup, ..text }),
            other => other,
        })
    }

    /// Whether it is a string that is markup.
    pub fn is_markup(&self) -> bool {
        matches!(self, Self::Str(text) if text.is_markup)
    }

    pub fn list(items: Vec<Self>, meter: &Meter<'_>) -> Valued<Self> {
        Ok(Self::List(Rc::new(Items::new(items, meter)?)))
    }

    /// A list that prints as a view.
    pub fn view(items: Vec<Self>, view: View, meter: &Meter<'_>) -> Valued<Self> {
        Ok(Self::List(Rc::new(Items { view: Some(view), ..Items::new(items, meter)? })))
    }

    /// A group of `groupby`.
    pub fn group(grouper: Self, list: Self, meter: &Meter<'_>) -> Valued<Self> {
        Ok(Self::Tuple(Rc::new(Items { view: Some(View::Group), ..Items::new(vec![grouper, list], meter)? })))
    }

    pub fn tuple(items: Vec<Self>, meter: &Meter<'_>) -> Valued<Self> {
        Ok(Self::Tuple(Rc::new(Items::new(items, meter)?)))
    }

    /// A dictionary. Of equal keys, the last value wins and the first position is kept.
    pub fn dict(pairs: Vec<(Self, Self)>, meter: &Meter<'_>) -> Valued<Self> {
        let mut entries: Vec<(Self, Self)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            key.check_hashable()?;
            match find(&entries, &key, meter)? {
                Some(at) => entries[at].1 = value,
                None => entries.push((key, value)),
            }
        }
        Self::unique_dict(entries, meter)
    }

    fn unique_dict(entries: Vec<(Self, Self)>, meter: &Meter<'_>) -> Valued<Self> {
        meter.memory(entries.len() * size_of::<(Self, Self)>() + 32)?;
        let depth = deeper(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Self::Dict(Rc::new(Dict { entries, depth })))
    }

    /// Converts a JSON value.
    pub fn from_json(json: &serde_json::Value, meter: &Meter<'_>) -> Valued<Self> {
        meter.step()?;
        Ok(match json {
            serde_json::Value::Null => Self::None,
            serde_json::Value::Bool(b) => Self::Bool(*b),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => Self::Int(n),
                (None, Some(x)) if !n.is_u64() => Self::Float(x),
                _ => return Err(Fault::template(format!("the number {n} does not fit into 64 bits"))),
            },
            serde_json::Value::String(text) => Self::text(text, meter)?,
            serde_json::Value::Array(items) => {
                let items = items.iter().map(|item| Self::from_json(item, meter)).collect::<Valued<_>>()?;
                Self::list(items, meter)?
            }
            serde_json::Value::Object(entries) => {
                let entry = |(key, value): (&String, &serde_json::Value)| {
                    Ok((Self::text(key, meter)?, Self::from_json(value, meter)?))
                };
                Self::unique_dict(entries.iter().map(entry).collect::<Valued<_>>()?, meter)?
            }
        })
    }

    fn check_hashable(&self) -> Valued<()> {
        match self {
            Self::List(_) | Self::Dict(_) => Err(Fault::template(format!("a {} cannot be a key", self.kind()))),
            _ => Ok(()),
        }
    }

    fn depth(&self) -> u32 {
        match self {
            Self::List(items) | Self::Tuple(items) => items.depth,
            Self::Dict(dict) => dict.depth,
            Self::Loop(state) => state.items.depth + 1,
            _ => 0,
        }
    }

    /// The name of its Python type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined value",
            Self::None => "none",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Loop(_) => "loop",
            Self::Namespace(_) => "namespace",
            Self::Macro(_) => "macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    /// The error for a value of the wrong type.
    pub fn refuse(&self, use_: &str) -> Fault {
        match self {
            Self::Undefined(name) => Fault::template(format!("`{}` is undefined", moerge_core::suggest::shorten(name))),
            other => Fault::template(format!("a {} cannot be {use_}", other.kind())),
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Loop(_) | Self::Namespace(_) | Self::Macro(_) | Self::Function(_) | Self::Method(_) => true,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer. In Python, booleans are integers too.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }

    /// What a `for` loop iterates over.
    pub fn iterate(&self, meter: &Meter<'_>) -> Valued<Rc<Items>> {
        let items = match self {
            Self::List(items) | Self::Tuple(items) => return Ok(items.clone()),
            Self::Undefined(_) => Vec::new(),
            Self::Dict(dict) => dict.entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::Str(text) => {
                meter.memory(text.len() * (size_of::<Self>() + 20))?;
                text.chars().map(|c| Self::from_str(c.encode_utf8(&mut [0; 4]))).collect()
            }
            other => return Err(Fault::template(format!("a {} cannot be iterated over", other.kind()))),
        };
        Ok(Rc::new(Items::new(items, meter)?))
    }

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

    /// Python's `==`.
    pub fn equals(&self, other: &Self, meter: &Meter<'_>) -> Valued<bool> {
        meter.step()?;
        Ok(match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => {
                meter.work(a.len().min(b.len()))?;
                **a == **b
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match b.get(key, meter)? {
                        Some(other) if value.equals(other, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Namespace(a), Self::Namespace(b)) | (Self::Macro(a), Self::Macro(b)) => a == b,
            (Self::Function(a), Self::Function(b)) | (Self::Method(a), Self::Method(b)) => a == b,
            (Self::Loop(a), Self::Loop(b)) => Rc::ptr_eq(a, b),
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// Python's ordering, which is only defined between values of similar types.
    pub fn compare(&self, other: &Self, meter: &Meter<'_>) -> Valued<Option<Ordering>> {
        meter.step()?;
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => {
                meter.work(a.len().min(b.len()))?;
                Ok(Some((**a).cmp(&**b)))
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return a.compare(b, meter);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            (Self::Undefined(_), _) => Err(self.refuse("compared")),
            (_, Self::Undefined(_)) => Err(other.refuse("compared")),
            (a, b) => match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
                (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
                (_, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
                _ => Err(Fault::template(format!("a {} cannot be compared with a {}", a.kind(), b.kind()))),
            },
        }
    }

    /// Python's `in`.
    pub fn contains(&self, item: &Self, meter: &Meter<'_>) -> Valued<bool> {
        match (self, item) {
            (Self::Str(text), Self::Str(part)) => {
                meter.work(text.len())?;
                Ok(text.contains(&**part))
            }
            (Self::Str(_), other) => Err(other.refuse("looked for in a string")),
            (Self::Dict(dict), key) => Ok(dict.get(key, meter)?.is_some()),
            (Self::List(items) | Self::Tuple(items), item) => {
                for other in &items.items {
                    if item.equals(other, meter)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Self::Undefined(_), _) => Ok(false),
            (other, _) => Err(Fault::template(format!("nothing can be `in` a {}", other.kind()))),
        }
    }
}

impl Items {
    pub fn new(items: Vec<Value>, meter: &Meter<'_>) -> Valued<Self> {
        meter.memory(items.len() * size_of::<Value>() + 32)?;
        let depth = deeper(items.iter())?;
        Ok(Self { items, depth, view: None })
    }
}

impl Dict {
    pub fn get(&self, key: &Value, meter: &Meter<'_>) -> Valued<Option<&Value>> {
        Ok(find(&self.entries, key, meter)?.map(|at| &self.entries[at].1))
    }

    pub fn get_str(&self, key: &str, meter: &Meter<'_>) -> Valued<Option<&Value>> {
        meter.work(16 * self.entries.len())?;
        Ok(self.entries.iter().find(|(known, _)| known.as_str() == Some(key)).map(|(_, value)| value))
    }
}

fn find(entries: &[(Value, Value)], key: &Value, meter: &Meter<'_>) -> Valued<Option<usize>> {
    for (at, (known, _)) in entries.iter().enumerate() {
        if known.equals(key, meter)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The depth of a container of `values`.
fn deeper<'v>(values: impl Iterator<Item = &'v Value>) -> Valued<u32> {
    let depth = values.map(Value::depth).max().unwrap_or(0) + 1;
    if depth > MAX_DEPTH {
        return Err(Fault::limit(format!("a value is nested more than {MAX_DEPTH} levels deep")));
    }
    Ok(depth)
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
