//! What is written is what is read, for any tensors; and the format's own library agrees.

use std::collections::{BTreeMap, BTreeSet};

use arbtest::{
    arbitrary::{Result, Unstructured},
    arbtest,
};
use moerge_checkpoint::{Dtype, Header, HeaderTensor, INDEX_FILE, Index, ShardLayout, TensorSpec};
use safetensors::SafeTensors;

/// Tensors whose elements fill whole bytes. Names are of any characters.
fn specs(u: &mut Unstructured) -> Result<Vec<TensorSpec>> {
    let mut names = BTreeSet::from(["__metadata__".to_owned()]);
    let mut specs = Vec::new();
    for _ in 0..u.int_in_range(0..=11)? {
        let (name, dtype): (String, _) = (u.arbitrary()?, *u.choose(Dtype::ALL)?);
        let shape: Vec<usize> = (0..u.int_in_range(0..=3)?).map(|_| u.int_in_range(0..=5)).collect::<Result<_>>()?;
        if dtype.tensor_bytes(&shape).is_ok() && names.insert(name.clone()) {
            specs.push(TensorSpec { name, encoding: dtype.into(), shape });
        }
    }
    Ok(specs)
}

fn placed(specs: &[TensorSpec]) -> (Vec<HeaderTensor>, u64) {
    let mut end = 0;
    let tensors = specs.iter().cloned().map(|TensorSpec { name, encoding, shape }| {
        let (begin, dtype) = (end, encoding.dtype().unwrap());
        end = begin + dtype.tensor_bytes(&shape).unwrap();
        HeaderTensor { name, dtype, shape, begin, end }
    });
    (tensors.collect(), end)
}

#[test]
fn header() {
    arbtest(|u| {
        let (specs, metadata) = (specs(u)?, u.arbitrary::<BTreeMap<String, String>>()?);
        let (mut tensors, data) = placed(&specs);
        let bytes = Header::encode(&tensors, &metadata).unwrap();
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()), bytes.len() as u64 - 8);
        let file_len = bytes.len() as u64 + data;
        let parsed = Header::parse(&bytes[8..], file_len).unwrap();
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        assert_eq!(&parsed.tensors, &tensors);
        assert_eq!(&parsed.metadata, &metadata);
        assert_eq!(parsed.data_start, bytes.len() as u64);
        for other_len in [file_len - 1, file_len + 1] {
            assert!(Header::parse(&bytes[8..], other_len).is_err());
        }
        Ok(())
    });
}

#[test]
fn layout() {
    arbtest(|u| {
        let (specs, limit) = (specs(u)?, u.int_in_range(0..=299)?);
        let layout = ShardLayout::new(specs.clone(), limit).unwrap();
        assert_eq!(&layout, &ShardLayout::new(specs.clone(), limit).unwrap());
        let mut seen = Vec::new();
        for shard in &layout.shards {
            let mut file = shard.header.clone();
            file.resize(usize::try_from(shard.file_len).unwrap(), 0);
            // The format's own library accepts it and sees the same tensors at the same places.
            let theirs = SafeTensors::deserialize(&file).unwrap();
            let ours = Header::parse(&shard.header[8..], shard.file_len).unwrap();
            assert_eq!(ours.data_start % 8, 0);
            assert_eq!(theirs.len(), shard.tensors.len());
            for (tensor, entry) in shard.tensors.iter().zip(&ours.tensors) {
                let view = theirs.tensor(&tensor.spec.name).unwrap();
                assert_eq!(view.shape(), tensor.spec.shape.as_slice());
                assert_eq!(view.dtype().to_string(), tensor.spec.encoding.name());
                let offset = view.data().as_ptr() as usize - file.as_ptr() as usize;
                assert_eq!((offset as u64, view.data().len() as u64), (tensor.offset, tensor.len));
                assert_eq!((&tensor.spec.name, tensor.len), (&entry.name, entry.end - entry.begin));
                assert_eq!(tensor.offset % tensor.spec.encoding.dtype().unwrap().alignment(), 0);
                seen.push(tensor.spec.clone());
            }
            let size: u64 = shard.tensors.iter().map(|tensor| tensor.len).sum();
            assert!(size <= limit || shard.tensors.iter().filter(|tensor| tensor.len > 0).count() == 1);
        }
        let names = |specs: &[TensorSpec]| -> BTreeSet<String> { specs.iter().map(|spec| spec.name.clone()).collect() };
        assert_eq!(names(&seen), names(&specs));
        assert_eq!(layout.total_file_bytes(), layout.shards.iter().map(|shard| shard.file_len).sum::<u64>());
        let index = Index::of(&layout);
        assert_eq!(index.weight_map.len(), specs.len());
        assert_eq!(index.total_size, Some(layout.total_tensor_bytes()));
        Ok(())
    });
}

/// Of one type, nothing is reordered: shard after shard gives the given list.
#[test]
fn order_is_kept() {
    arbtest(|u| {
        let count = u.int_in_range(1..=19)?;
        let sizes: Vec<usize> = (0..count).map(|_| u.int_in_range(0..=49)).collect::<Result<_>>()?;
        let limit = u.int_in_range(0..=199)?;
        let specs: Vec<TensorSpec> = sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| TensorSpec { name: format!("t{i}"), encoding: Dtype::BF16.into(), shape: vec![size] })
            .collect();
        let layout = ShardLayout::new(specs.clone(), limit).unwrap();
        let order: Vec<TensorSpec> =
            layout.shards.iter().flat_map(|shard| &shard.tensors).map(|tensor| tensor.spec.clone()).collect();
        assert_eq!(order, specs);
        Ok(())
    });
}

#[test]
fn index() {
    arbtest(|u| {
        let (entries, total_size): (BTreeMap<String, u8>, Option<u64>) = (u.arbitrary()?, u.arbitrary()?);
        let weight_map =
            entries.into_iter().map(|(name, n)| (name, format!("model-{n:05}-of-00255.safetensors"))).collect();
        let index = Index { weight_map, total_size };
        assert_eq!(&Index::parse(INDEX_FILE, &index.encode()).unwrap(), &index);
        Ok(())
    });
}

#[test]
fn arbitrary_bytes_never_panic() {
    arbtest(|u| {
        let (json, file_len): (Vec<u8>, u64) = (u.arbitrary()?, u.arbitrary()?);
        let _ = Header::parse(&json, file_len);
        let _ = Index::parse(INDEX_FILE, &json);
        Ok(())
    });
}
