//! Typed access to a file's metadata.

use std::path::Path;

use moerge_checkpoint::gguf::{GgufFile, Value};

use crate::{
    error::{Error, Result},
    suggest::shorten,
};

/// The metadata of a file, with the keys of its architecture under short names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl<'a> Facts<'a> {
    /// Those of `file`.
    ///
    /// # Errors
    /// It names no architecture.
    pub fn new(file: &'a GgufFile) -> Result<Self> {
        let key = "general.architecture";
        let architecture = file.get(key).ok_or_else(|| missing(&file.path, key))?;
        let architecture = architecture.as_str().ok_or_else(|| wrong(&file.path, key, architecture, "a string"))?;
        Ok(Self { file, architecture })
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        &self.file.path
    }

    /// llama.cpp's name of the architecture.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// A value by its full key.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.file.get(key)
    }

    /// The strings of an array by its full key.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.list(key, "an array of strings", Value::as_str)
    }

    /// The numbers of an array by its full key.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, "an array of numbers", number)
    }

    /// A text by its full key.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A yes or no by its full key.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let flag = |value: &Value| if let Value::Bool(flag) = value { Some(*flag) } else { None };
        self.typed(key, "true or false", flag)
    }

    /// A whole number by its full key.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number", Value::as_u64)
    }

    /// A whole number of the architecture. An array of equal numbers, one for each layer, counts as that number.
    pub fn own_count(&self, key: &str) -> Result<Option<u64>> {
        let one = |value: &Value| match value {
            Value::Array(_, values) => {
                let first = values.first()?.as_u64();
                values.iter().all(|value| value.as_u64() == first).then_some(first)?
            }
            value => value.as_u64(),
        };
        self.typed(&self.own(key), "a whole number, the same for every layer", one)
    }

    /// A whole number of the architecture that must be there.
    pub fn own_size(&self, key: &str) -> Result<u64> {
        self.own_count(key)?.ok_or_else(|| missing(self.path(), &self.own(key)))
    }

    /// A number of the architecture, as the shortest decimal that is the stored f32.
    pub fn own_number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(&self.own(key), "a number", number)
    }

    /// A text of the architecture.
    pub fn own_text(&self, key: &str) -> Result<Option<&'a str>> {
        self.text(&self.own(key))
    }

    /// The full name of a key of the architecture.
    pub fn own(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// The error of a value that is not as expected.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        match self.get(key) {
            Some(value) => wrong(self.path(), key, value, expected),
            None => missing(self.path(), key),
        }
    }

    fn typed<T>(&self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(self.path(), key, value, expected))
    }

    fn list<T>(&self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<Vec<T>>> {
        self.typed(key, expected, |value| match value {
            Value::Array(_, values) => values.iter().map(&read).collect(),
            _ => None,
        })
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        // As JSON would have it: 0.00001, not 0.000009999999747.
        Value::Float32(x) => x.to_string().parse().ok().filter(|x: &f64| x.is_finite()),
        Value::Float64(x) => Some(*x).filter(|x| x.is_finite()),
        Value::Int32(x) => Some(f64::from(*x)),
        value => value.as_u64().map(|x| x as f64),
    }
}

fn missing(path: &Path, key: &str) -> Error {
    Error::input(format!("{} has no key `{key}`", path.display())).hint("the file is not a language model")
}

fn wrong(path: &Path, key: &str, value: &Value, expected: &str) -> Error {
    let found = match value {
        Value::Array(of, values) => format!("an array of {} values of type {of:?}", values.len()),
        value => shorten(&format!("{value:?}")),
    };
    Error::input(format!("{}: `{key}` is not {expected}", path.display())).fact("found", found)
}
