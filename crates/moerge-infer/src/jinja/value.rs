//! Template values that print, compare and convert to booleans as in Python.
//!
//! Lists and dictionaries are immutable and track their bounded depth, so walking and dropping them is safe. Namespaces
//! are mutable; they live in the interpreter and are referred to by index.

mod compare;
mod print;

use std::{ops::Deref, rc::Rc};

use super::{Fault, meter::Meter};

pub use print::{escape_char, escape_html, float_repr, is_printable};

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
