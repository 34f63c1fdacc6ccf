//! What is written is what is read, for any tensors; and the format's own library agrees.

use std::collections::{BTreeMap, BTreeSet};

use moerge_checkpoint::{Dtype, Header, HeaderTensor, Index, ShardLayout, TensorSpec};
use proptest::prelude::*;
use safetensors::SafeTensors;

fn dtype() -> impl Strategy<Value = Dtype> {
    proptest::sample::select(Dtype::ALL)
}

/// Tensors whose elements fill whole bytes. Names are of any characters.
fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    let spec = (any::<String>(), dtype(), prop::collection::vec(0usize..6, 0..4));
    prop::collection::vec(spec, 0..12).prop_map(|specs| {
        let mut names = BTreeSet::from(["__metadata__".to_owned()]);
        let valid = specs
            .into_iter()
            .filter(|(name, dtype, shape)| dtype.tensor_bytes(shape).is_ok() && names.insert(name.clone()));
        valid.map(|(name, dtype, shape)| TensorSpec { name, dtype, shape }).collect()
    })
}

fn placed(specs: &[TensorSpec]) -> (Vec<HeaderTensor>, u64) {
    let mut end = 0;
    let tensors = specs.iter().cloned().map(|TensorSpec { name, dtype, shape }| {
        let begin = end;
        end = begin + dtype.tensor_bytes(&shape).unwrap();
        HeaderTensor { name, dtype, shape, begin, end }
    });
    (tensors.collect(), end)
}

proptest! {
    #[test]
    fn header(specs in specs(), metadata: BTreeMap<String, String>) {
        let (mut tensors, data) = placed(&specs);
        let bytes = Header::encode(&tensors, &metadata).unwrap();
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()), bytes.len() as u64 - 8);
        let file_len = bytes.len() as u64 + data;
        let parsed = Header::parse(&bytes[8..], file_len).unwrap();
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        prop_assert_eq!(&parsed.tensors, &tensors);
        prop_assert_eq!(&parsed.metadata, &metadata);
        prop_assert_eq!(parsed.data_start, bytes.len() as u64);
        for other_len in [file_len - 1, file_len + 1] {
            prop_assert!(Header::parse(&bytes[8..], other_len).is_err());
        }
    }

    #[test]
    fn layout(specs in specs(), limit in 0u64..300) {
        let layout = ShardLayout::new(specs.clone(), limit).unwrap();
        prop_assert_eq!(&layout, &ShardLayout::new(specs.clone(), limit).unwrap());
        let mut seen = Vec::new();
        for shard in &layout.shards {
            let mut file = shard.header.clone();
            file.resize(usize::try_from(shard.file_len).unwrap(), 0);
            // The format's own library accepts it and sees the same tensors at the same places.
            let theirs = SafeTensors::deserialize(&file).unwrap();
            let ours = Header::parse(&shard.header[8..], shard.file_len).unwrap();
            prop_assert_eq!(ours.data_start % 8, 0);
            prop_assert_eq!(theirs.len(), shard.tensors.len());
            for (tensor, entry) in shard.tensors.iter().zip(&ours.tensors) {
                let view = theirs.tensor(&tensor.spec.name).unwrap();
                prop_assert_eq!(view.shape(), tensor.spec.shape.as_slice());
                prop_assert_eq!(view.dtype().to_string(), tensor.spec.dtype.name());
                let offset = view.data().as_ptr() as usize - file.as_ptr() as usize;
                prop_assert_eq!((offset as u64, view.data().len() as u64), (tensor.offset, tensor.len));
                prop_assert_eq!((&tensor.spec.name, tensor.len), (&entry.name, entry.end - entry.begin));
                prop_assert_eq!(tensor.offset % tensor.spec.dtype.alignment(), 0);
                seen.push(tensor.spec.clone());
            }
            let size: u64 = shard.tensors.iter().map(|tensor| tensor.len).sum();
            prop_assert!(size <= limit || shard.tensors.iter().filter(|tensor| tensor.len > 0).count() == 1);
        }
        let names = |specs: &[TensorSpec]| -> BTreeSet<String> { specs.iter().map(|spec| spec.name.clone()).collect() };
        prop_assert_eq!(names(&seen), names(&specs));
        prop_assert_eq!(layout.total_file_bytes(), layout.shards.iter().map(|shard| shard.file_len).sum::<u64>());
        let index = Index::of(&layout);
        prop_assert_eq!(index.weight_map.len(), specs.len());
        prop_assert_eq!(index.total_size, Some(layout.total_tensor_bytes()));
    }

    /// Of one type, nothing is reordered: shard after shard gives the given list.
    #[test]
    fn order_is_kept(sizes in prop::collection::vec(0usize..50, 1..20), limit in 0u64..200) {
        let specs: Vec<TensorSpec> = sizes.iter().enumerate().map(|(i, &size)| TensorSpec {
            name: format!("t{i}"), dtype: Dtype::BF16, shape: vec![size],
        }).collect();
        let layout = ShardLayout::new(specs.clone(), limit).unwrap();
        let order: Vec<TensorSpec> =
            layout.shards.iter().flat_map(|shard| &shard.tensors).map(|tensor| tensor.spec.clone()).collect();
        prop_assert_eq!(order, specs);
    }

    #[test]
    fn index(entries: BTreeMap<String, u8>, total_size: Option<u64>) {
        let weight_map =
            entries.into_iter().map(|(name, n)| (name, format!("model-{n:05}-of-00255.safetensors"))).collect();
        let index = Index { weight_map, total_size };
        prop_assert_eq!(&Index::parse(&index.encode()).unwrap(), &index);
    }

    #[test]
    fn arbitrary_bytes_never_panic(json: Vec<u8>, file_len: u64) {
        let _ = Header::parse(&json, file_len);
        let _ = Index::parse(&json);
    }
}
