//! Which files of a model folder contain its weights, by name alone: one rule for folders on disk and for listings of
//! the Hub.

use std::collections::BTreeSet;

use crate::names::{INDEX_FILE, PICKLED_INDEX_FILE, PICKLED_WEIGHTS_FILE, WEIGHTS_FILE};

/// The names in order of preference: transformers' own, and for each format also shards without an index, which
/// transformers does not support.
const FORMATS: [Format; 2] = [
    Format { single: WEIGHTS_FILE, index: INDEX_FILE, prefix: "model-", suffix: ".safetensors" },
    Format { single: PICKLED_WEIGHTS_FILE, index: PICKLED_INDEX_FILE, prefix: "pytorch_model-", suffix: ".bin" },
];

/// What the names of weights end in, whether they can be read or not.
const WEIGHT_ENDINGS: [&str; 8] = [".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"];
/// Other files with these endings.
const NOT_WEIGHTS: [&str; 3] = ["training_args.bin", "tokenizer.bin", "scheduler.pt"];

struct Format {
    single: &'static str,
    index: &'static str,
    prefix: &'static str,
    suffix: &'static str,
}

/// The weight files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightFiles {
    /// A single file.
    Single(&'static str),
    /// The shards listed in this index.
    Indexed(&'static str),
    /// Numbered shards without an index, in order.
    Numbered(Vec<String>),
}

/// Why numbered shards are not a complete set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncompleteShards {
    /// Two shards have different totals in their names.
    Mixed {
        /// One of the shards.
        first: String,
        /// The other.
        second: String,
    },
    /// A shard is missing.
    Missing {
        /// Its name.
        file: String,
        /// A shard whose name implies it.
        counted_by: String,
    },
}

impl WeightFiles {
    /// Chooses from the `names` of a folder's files; `None` if none of them can be weights.
    ///
    /// # Errors
    /// There is only an incomplete set of numbered shards.
    pub fn among(names: &BTreeSet<String>) -> Result<Option<Self>, IncompleteShards> {
        for format in &FORMATS {
            if names.contains(format.single) {
                return Ok(Some(Self::Single(format.single)));
            }
            if names.contains(format.index) {
                return Ok(Some(Self::Indexed(format.index)));
            }
            if let Some(shards) = format.shards(names)? {
                return Ok(Some(Self::Numbered(shards)));
            }
        }
        Ok(None)
    }

    /// Whether the file `name` looks like weights in any format, for messages about folders without weights that can be
    /// read.
    pub fn resembled_by(name: &str) -> bool {
        WEIGHT_ENDINGS.iter().any(|ending| name.ends_with(ending)) && !NOT_WEIGHTS.contains(&name)
    }
}

impl Format {
    /// The complete set of numbered shards, in order; `None` if there are none.
    fn shards(&self, names: &BTreeSet<String>) -> Result<Option<Vec<String>>, IncompleteShards> {
        let mut shards = names.iter().filter_map(|name| Some((name, self.shard_number(name)?)));
        let Some((first, (_, count))) = shards.next() else { return Ok(None) };
        if let Some((second, _)) = shards.find(|(_, (_, other))| *other != count) {
            return Err(IncompleteShards::Mixed { first: first.clone(), second: second.clone() });
        }
        // Do not trust the count: look for each name and stop at the first that is missing.
        let mut set = Vec::new();
        for number in 1..=count {
            let file = format!("{}{number:05}-of-{count:05}{}", self.prefix, self.suffix);
            if !names.contains(&file) {
                return Err(IncompleteShards::Missing { file, counted_by: first.clone() });
            }
            set.push(file);
        }
        Ok(Some(set))
    }

    /// The number and count of a name such as `model-00002-of-00010.safetensors`.
    fn shard_number(&self, name: &str) -> Option<(u32, u32)> {
        let numbers = name.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?;
        let (number, count) = numbers.split_once("-of-")?;
        let parse = |digits: &str| {
            let plain = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse::<u32>().ok() } else { None }
        };
        let (number, count) = (parse(number)?, parse(count)?);
        (1..=count).contains(&number).then_some((number, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(names: &[&str]) -> Result<Option<WeightFiles>, IncompleteShards> {
        WeightFiles::among(&names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn fault_17_a_whole_file_comes_before_an_index_before_numbered_shards_and_safetensors_before_pickles() {
        let all = [
            "model.safetensors",
            "model.safetensors.index.json",
            "model-00001-of-00001.safetensors",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00001.bin",
        ];
        let expected = [
            WeightFiles::Single(all[0]),
            WeightFiles::Indexed(all[1]),
            WeightFiles::Numbered(vec![all[2].to_owned()]),
            WeightFiles::Single(all[3]),
            WeightFiles::Indexed(all[4]),
            WeightFiles::Numbered(vec![all[5].to_owned()]),
        ];
        for (first, expected) in expected.into_iter().enumerate() {
            assert_eq!(among(&all[first..]), Ok(Some(expected)));
        }
        assert_eq!(among(&["model-1-of-2.safetensors", "other.bin", "model.gguf"]), Ok(None));
    }

    #[test]
    fn fault_13_numbered_shards_must_be_complete_and_of_one_count() {
        let missing = among(&["model-00002-of-00002.safetensors", "pytorch_model.bin"]).unwrap_err();
        let (file, counted_by) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        assert_eq!(missing, IncompleteShards::Missing { file: file.into(), counted_by: counted_by.into() });
        let mixed = among(&["pytorch_model-00001-of-00001.bin", "pytorch_model-00001-of-00002.bin"]).unwrap_err();
        assert!(matches!(mixed, IncompleteShards::Mixed { .. }));
    }
}
