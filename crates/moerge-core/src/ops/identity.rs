//! The identity of a plan: a hash such that equal identities mean equal output bytes on any machine.
//!
//! A source counts by its length and its content tag; paths and times do not.

use moerge_checkpoint::{SourceFile, TensorView};
use xxhash_rust::xxh3::Xxh3;

use crate::error::Result;

/// A hash over length-prefixed values, so that different lists of values differ.
#[derive(Default)]
pub struct Identity {
    hash: Xxh3,
    by_place: bool,
}

impl Identity {
    /// An identity for this machine only: a source counts by its path, and nothing is read.
    pub fn by_place() -> Self {
        Self { by_place: true, ..Self::default() }
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.hash.update(bytes);
        self
    }

    /// Adds a string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a whole number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.hash.update(&number.to_le_bytes());
        self
    }

    /// Adds a float by its bits.
    pub fn float(&mut self, x: f64) -> &mut Self {
        self.number(x.to_bits())
    }

    /// Adds a list of floats.
    pub fn floats(&mut self, floats: &[f64]) -> &mut Self {
        self.list(floats.iter(), |id, x| {
            id.float(*x);
        })
    }

    /// Adds a boolean.
    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    /// Adds an optional value.
    pub fn optional<T>(&mut self, value: Option<T>, mut add: impl FnMut(&mut Self, T)) -> &mut Self {
        self.number(u64::from(value.is_some()));
        if let Some(value) = value {
            add(self, value);
        }
        self
    }

    /// Adds a list of values.
    pub fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut add: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.number(values.len() as u64);
        for value in values {
            add(self, value);
        }
        self
    }

    /// 32 hex digits.
    pub fn finish(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    /// Adds a shape.
    pub(super) fn shape(&mut self, shape: &[usize]) {
        self.list(shape.iter(), |id, n| {
            id.number(*n as u64);
        });
    }

    fn file(&mut self, file: &SourceFile) -> Result<()> {
        if self.by_place {
            self.text(&file.path.to_string_lossy());
        } else {
            self.number(file.len).bytes(&file.content_tag()?.to_le_bytes());
        }
        Ok(())
    }

    /// Adds a tensor of a source.
    pub(super) fn view(&mut self, view: &TensorView) -> Result<()> {
        let TensorView { name, dtype, shape, file, offset, len } = view;
        self.text(name).text(dtype.name()).number(*offset).number(*len).shape(shape);
        self.file(file)
    }
}
