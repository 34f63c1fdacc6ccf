//! The layout of a new model: the offset of every byte, decided before any is written. Pure: equal
//! tensors and limits give equal shards, including their headers.

use std::collections::{BTreeMap, HashSet};

use crate::dtype::Dtype;
use crate::encoding::Encoding;
use crate::error::{Error, Result};
use crate::header::{Header, HeaderTensor, METADATA};
use crate::names::WEIGHTS_FILE;

/// A tensor of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, unique in the model.
    pub name: String,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// All shards of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// In the order of their numbers.
    pub shards: Vec<Shard>,
}

/// One file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Such as `model.safetensors`, or `model-00002-of-00010.safetensors`.
    pub file_name: String,
    /// The first bytes of the file, up to the first tensor's data.
    pub header: Vec<u8>,
    /// Its tensors, by offset.
    pub tensors: Vec<Placement>,
    /// Length of the whole file in bytes.
    pub file_len: u64,
}

/// A tensor and its location in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The tensor.
    pub spec: TensorSpec,
    /// Its first byte, from the start of the file.
    pub offset: u64,
    /// Its size in bytes.
    pub len: u64,
}

impl TensorSpec {
    /// Its size in bytes.
    ///
    /// # Errors
    /// It has none: too large, or no whole number of bytes or blocks.
    pub fn bytes(&self) -> Result<u64> {
        self.encoding.tensor_bytes(&self.shape).map_err(|problem| {
            let TensorSpec { name, encoding, shape } = self.clone();
            Error::BadOutputSize { tensor: name, encoding, shape, problem }
        })
    }
}

impl ShardLayout {
    /// Fills shards with the tensors in the given order, each up to `max_shard_bytes` of tensor bytes
    /// (without headers, like Hugging Face). A larger tensor gets its own shard. Within a shard,
    /// tensors of wider types come first, so that each is aligned to its element's width; otherwise
    /// the given order is kept.
    ///
    /// # Errors
    /// Two tensors have the same name, a tensor has no valid size, or a shard has too many tensors for
    /// one header.
    pub fn new(tensors: Vec<TensorSpec>, max_shard_bytes: u64) -> Result<ShardLayout> {
        let mut names = HashSet::with_capacity(tensors.len());
        if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
            return Err(Error::DuplicateOutput { tensor: twice.name.clone() });
        }
        if names.contains(METADATA) {
            return Err(Error::ReservedName { tensor: METADATA.to_owned() });
        }
        let groups = group(tensors, max_shard_bytes)?;
        let count = groups.len();
        let shards = groups
            .into_iter()
            .enumerate()
            .map(|(index, tensors)| Shard::new(file_name(index, count), tensors))
            .collect::<Result<_>>()?;
        Ok(ShardLayout { shards })
    }

    /// Bytes of all shards including headers: their size on the disk.
    pub fn total_file_bytes(&self) -> u64 {
        sum(self.shards.iter().map(|shard| shard.file_len))
    }

    /// Bytes of all tensors without headers.
    pub fn total_tensor_bytes(&self) -> u64 {
        sum(self.shards.iter().flat_map(|shard| &shard.tensors).map(|tensor| tensor.len))
    }
}

/// Splits the list into shards. There is always at least one, possibly empty.
fn group(tensors: Vec<TensorSpec>, max_shard_bytes: u64) -> Result<Vec<Vec<(TensorSpec, u64)>>> {
    let mut groups = vec![Vec::new()];
    let mut filled: u64 = 0;
    for spec in tensors {
        let len = spec.bytes()?;
        let fits = filled.checked_add(len).is_some_and(|sum| sum <= max_shard_bytes);
        let current = groups.last().is_some_and(|group| group.is_empty());
        if !fits && !current {
            groups.push(Vec::new());
            filled = 0;
        }
        filled = filled.saturating_add(len);
        if let Some(group) = groups.last_mut() {
            group.push((spec, len));
        }
    }
    Ok(groups)
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn file_name(index: usize, count: usize) -> String {
    if count == 1 { WEIGHTS_FILE.to_owned() } else { format!("model-{:05}-of-{count:05}.safetensors", index + 1) }
}

impl Shard {
    fn new(file_name: String, mut tensors: Vec<(TensorSpec, u64)>) -> Result<Shard> {
        // Every size is a multiple of the element's width, so this order keeps all tensors aligned.
        tensors.sort_by_key(|(spec, _)| std::cmp::Reverse(spec.encoding.dtype().map(Dtype::alignment)));
        let too_large = |what| Error::ShardTooLarge { tensors: tensors.len(), what };
        let mut end: u64 = 0;
        let mut entries = Vec::with_capacity(tensors.len());
        for (spec, len) in &tensors {
            let begin = end;
            end = begin
                .checked_add(*len)
                .filter(|end| *end <= i64::MAX as u64)
                .ok_or_else(|| too_large("its bytes exceed what a file can have".to_owned()))?;
            let TensorSpec { name, encoding, shape } = spec.clone();
            let dtype = encoding.dtype().ok_or_else(|| Error::EncodingNotInFormat {
                tensor: name.clone(),
                encoding,
                format: "safetensors",
            })?;
            entries.push(HeaderTensor { name, dtype, shape, begin, end });
        }
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Header::encode(&entries, &metadata).map_err(|problem| too_large(problem.to_string()))?;
        let data_start = header.len() as u64;
        let tensors = tensors
            .into_iter()
            .zip(&entries)
            .map(|((spec, len), entry)| Placement { spec, offset: data_start + entry.begin, len })
            .collect();
        Ok(Shard { file_name, header, tensors, file_len: data_start + end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: Dtype, len: usize) -> TensorSpec {
        TensorSpec { name: name.to_owned(), encoding: dtype.into(), shape: vec![len] }
    }

    fn names(layout: &ShardLayout) -> Vec<(&str, Vec<&str>)> {
        let shards = layout.shards.iter();
        shards
            .map(|shard| {
                let tensors = shard.tensors.iter().map(|tensor| tensor.spec.name.as_str());
                (shard.file_name.as_str(), tensors.collect())
            })
            .collect()
    }

    #[test]
    fn fills_shards_in_order_and_gives_large_tensors_their_own() {
        let sizes = [("a", 4), ("b", 6), ("c", 1), ("huge", 50), ("d", 10), ("e", 1)];
        let tensors = sizes.iter().map(|(name, len)| spec(name, Dtype::U8, *len)).collect();
        let layout = ShardLayout::new(tensors, 10).unwrap();
        assert_eq!(
            names(&layout),
            [
                ("model-00001-of-00005.safetensors", vec!["a", "b"]),
                ("model-00002-of-00005.safetensors", vec!["c"]),
                ("model-00003-of-00005.safetensors", vec!["huge"]),
                ("model-00004-of-00005.safetensors", vec!["d"]),
                ("model-00005-of-00005.safetensors", vec!["e"]),
            ]
        );
        assert_eq!(layout.total_tensor_bytes(), 72);
    }

    #[test]
    fn one_shard_has_the_plain_name_even_without_tensors() {
        let layout = ShardLayout::new(vec![spec("a", Dtype::U8, 4)], 4).unwrap();
        assert_eq!(names(&layout), [("model.safetensors", vec!["a"])]);
        let none = ShardLayout::new(Vec::new(), 4).unwrap();
        assert_eq!(names(&none), [("model.safetensors", vec![])]);
        assert_eq!(none.total_file_bytes(), none.shards[0].header.len() as u64);
    }

    #[test]
    fn wider_types_come_first_within_a_shard() {
        let tensors = vec![
            spec("a", Dtype::U8, 3),
            spec("b", Dtype::F32, 1),
            spec("c", Dtype::BF16, 3),
            spec("d", Dtype::F32, 2),
            spec("e", Dtype::I64, 1),
        ];
        let layout = ShardLayout::new(tensors, 1000).unwrap();
        assert_eq!(names(&layout)[0].1, ["e", "b", "d", "c", "a"]);
    }

    #[test]
    fn the_header_is_the_one_that_the_format_describes() {
        let tensors = vec![TensorSpec { name: "w\"1".to_owned(), encoding: Dtype::BF16.into(), shape: vec![2, 3] }];
        let layout = ShardLayout::new(tensors, 1000).unwrap();
        let json = r#"{"__metadata__":{"format":"pt"},"w\"1":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;
        let text = String::from_utf8(layout.shards[0].header[8..].to_vec()).unwrap();
        assert_eq!(text.trim_end_matches(' '), json);
        assert_eq!(text.len() % 8, 0);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refuse = |tensors| ShardLayout::new(tensors, 1 << 30).unwrap_err();
        let twice = refuse(vec![spec("a", Dtype::U8, 1), spec("a", Dtype::U8, 2)]);
        assert!(matches!(twice, Error::DuplicateOutput { .. }), "{twice}");
        let reserved = refuse(vec![spec("__metadata__", Dtype::U8, 1)]);
        assert!(matches!(reserved, Error::ReservedName { .. }), "{reserved}");
        let half = refuse(vec![spec("a", Dtype::F4, 1)]);
        assert_eq!(half.to_string(), "output tensor `a`, F4 [1], is not a whole number of bytes");
        let huge = refuse(vec![spec("a", Dtype::F64, usize::MAX)]);
        assert!(matches!(huge, Error::BadOutputSize { .. }), "{huge}");
        let long_name = "x".repeat(100_000_001);
        let header = refuse(vec![spec(&long_name, Dtype::U8, 1)]);
        assert!(matches!(header, Error::ShardTooLarge { .. }), "{header}");
    }
}
