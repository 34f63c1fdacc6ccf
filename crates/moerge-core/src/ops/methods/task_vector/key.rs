//! What random numbers of an input depend on.

use crate::numeric::masks::RandomNumbers;

/// The key of the random numbers of one input.
#[derive(Debug, Clone)]
pub(in super::super) struct Key {
    pub seed: u64,
    pub name: String,
    pub input: u64,
}

impl Key {
    /// The random numbers.
    pub fn numbers(&self) -> RandomNumbers {
        RandomNumbers::new(self.seed, &self.name, self.input)
    }
}
