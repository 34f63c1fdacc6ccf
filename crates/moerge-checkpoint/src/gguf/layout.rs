//! Where every byte of a GGUF file will lie, or of the files that it is split into.

use std::collections::HashSet;

use super::{
    header::{TensorInfo, align, encode},
    value::{Metadata, Value},
};
use crate::{
    error::{Error, Result},
    shard_layout::{Placement, Shard, ShardLayout, TensorSpec},
};

/// Lays out `tensors` in their order in one file `<stem>.gguf`, or in files `<stem>-00001-of-00003.gguf` of at most
/// `max_bytes` of tensor data each, as llama-gguf-split splits them: the first has the metadata, all have the keys
/// `split.*`. Keys of the metadata that are in `in_all` are in every file.
///
/// # Errors
/// Two tensors of one name, a tensor of a type that the format does not have, or of no valid size.
pub fn layout(
    stem: &str,
    metadata: &Metadata,
    in_all: &[&str],
    tensors: Vec<TensorSpec>,
    max_bytes: Option<u64>,
) -> Result<ShardLayout> {
    let mut names = HashSet::with_capacity(tensors.len());
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        return Err(Error::DuplicateOutput { tensor: twice.name.clone() });
    }
    let total = tensors.len();
    let groups = group(tensors, max_bytes.unwrap_or(u64::MAX))?;
    let count = groups.len();
    if count == 1 {
        let shards = groups.into_iter().map(|tensors| shard(format!("{stem}.gguf"), metadata, tensors));
        return Ok(ShardLayout { shards: shards.collect::<Result<_>>()? });
    }
    let part = |(index, tensors): (usize, Vec<(TensorSpec, u64)>)| {
        let kept = metadata.iter().filter(|(key, _)| index == 0 || in_all.contains(&key.as_str()));
        let mut own: Metadata = kept.cloned().collect();
        own.extend([
            ("split.no".to_owned(), Value::Uint16(index as u16)),
            ("split.count".to_owned(), Value::Uint16(count as u16)),
            ("split.tensors.count".to_owned(), Value::Int32(total as i32)),
        ]);
        shard(format!("{stem}-{:05}-of-{count:05}.gguf", index + 1), &own, tensors)
    };
    if count > usize::from(u16::MAX) {
        return Err(Error::ShardTooLarge { tensors: total, what: format!("{count} files, more than can be numbered") });
    }
    Ok(ShardLayout { shards: groups.into_iter().enumerate().map(part).collect::<Result<_>>()? })
}

fn group(tensors: Vec<TensorSpec>, max_bytes: u64) -> Result<Vec<Vec<(TensorSpec, u64)>>> {
    let mut groups: Vec<Vec<(TensorSpec, u64)>> = vec![Vec::new()];
    let mut filled: u64 = 0;
    for spec in tensors {
        let len = spec.bytes()?;
        let fits = filled.checked_add(align(len)).is_some_and(|sum| sum <= max_bytes);
        if !fits && groups.last().is_some_and(|group| !group.is_empty()) {
            groups.push(Vec::new());
            filled = 0;
        }
        filled = filled.saturating_add(align(len));
        if let Some(group) = groups.last_mut() {
            group.push((spec, len));
        }
    }
    Ok(groups)
}

fn shard(file_name: String, metadata: &Metadata, tensors: Vec<(TensorSpec, u64)>) -> Result<Shard> {
    let mut end: u64 = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for (spec, len) in &tensors {
        let offset = end;
        end = offset.checked_add(*len).filter(|end| *end <= i64::MAX as u64).map(align).ok_or_else(|| {
            Error::ShardTooLarge { tensors: tensors.len(), what: "its bytes exceed what a file can have".to_owned() }
        })?;
        let ggml_type = spec.encoding.ggml_type().ok_or_else(|| Error::EncodingNotInFormat {
            tensor: spec.name.clone(),
            encoding: spec.encoding,
            format: "GGUF",
        })?;
        let dims = spec.shape.iter().rev().map(|dim| *dim as u64).collect();
        infos.push(TensorInfo { name: spec.name.clone(), dims, ggml_type, offset });
    }
    let header = encode(metadata, &infos);
    let start = header.len() as u64;
    let place =
        |((spec, len), info): ((TensorSpec, u64), &TensorInfo)| Placement { spec, offset: start + info.offset, len };
    let tensors = tensors.into_iter().zip(&infos).map(place).collect();
    Ok(Shard { file_name, header, tensors, file_len: start + end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockType, Dtype};

    fn spec(name: &str, shape: &[usize], encoding: impl Into<crate::Encoding>) -> TensorSpec {
        TensorSpec { name: name.to_owned(), encoding: encoding.into(), shape: shape.to_vec() }
    }

    #[test]
    fn tensors_lie_at_multiples_of_the_alignment() {
        let tensors = vec![spec("a", &[3], Dtype::F32), spec("b", &[2, 32], BlockType::Q8_0)];
        let metadata = vec![("general.architecture".to_owned(), Value::String("llama".to_owned()))];
        let layout = layout("m", &metadata, &[], tensors, None).unwrap();
        let [shard] = layout.shards.as_slice() else { panic!() };
        assert_eq!(shard.file_name, "m.gguf");
        assert!(shard.tensors.iter().all(|tensor| tensor.offset % ALIGNMENT == 0));
        assert_eq!(shard.tensors[1].offset - shard.tensors[0].offset, 32);
        assert_eq!(shard.file_len, shard.tensors[1].offset + align(68));
    }

    #[test]
    fn large_models_are_split_with_the_metadata_in_the_first_file() {
        let tensors = ["a", "b", "c"].map(|name| spec(name, &[8], Dtype::F32)).to_vec();
        let text = |key: &str, length| (key.to_owned(), Value::String("x".repeat(length)));
        let metadata = vec![text("general.name", 100), text("own.id", 7)];
        let layout = layout("m", &metadata, &["own.id"], tensors, Some(64)).unwrap();
        let names: Vec<&str> = layout.shards.iter().map(|shard| shard.file_name.as_str()).collect();
        assert_eq!(names, ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]);
        assert!(layout.shards[0].header.len() > layout.shards[1].header.len() + 64);
        let has = |shard: &Shard, key: &str| shard.header.windows(key.len()).any(|bytes| bytes == key.as_bytes());
        assert!(layout.shards.iter().all(|shard| has(shard, "own.id") && has(shard, "split.tensors.count")));
        assert!(!has(&layout.shards[1], "general.name"));
    }

    #[test]
    fn what_gguf_cannot_hold_is_refused() {
        let refuse = |tensor| layout("m", &Metadata::new(), &[], vec![tensor], None).unwrap_err();
        let unsigned = refuse(spec("a", &[3], Dtype::U8));
        assert_eq!(unsigned.to_string(), "output tensor `a` is of type U8, which GGUF does not have");
        let partial = refuse(spec("a", &[3], BlockType::Q4_K));
        assert_eq!(partial.to_string(), "output tensor `a`, q4_K [3], is not a whole number of blocks in each row");
    }

    use super::super::header::ALIGNMENT;
}
