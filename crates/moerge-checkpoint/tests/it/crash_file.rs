//! The same promises where the output is a single file: it exists only whole, an earlier one stays until then, and the
//! same command again ends with the new one and nothing beside it.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{
    Dtype, Error, Fingerprint, Found, OutputDir, OutputStorage, Result, ShardLayout, ShardWriter, SimulatedDisk,
    Survives, TensorSpec, gguf,
};

const OUT: &str = "/models/out.gguf";
const OLD: &[u8] = b"an earlier file";

fn layout() -> ShardLayout {
    let spec = |i: usize| TensorSpec { name: format!("t{i}"), encoding: Dtype::F32.into(), shape: vec![i + 1, 4] };
    gguf::layout("out", &Vec::new(), (0..3).map(spec).collect(), None).unwrap()
}

fn build(storage: &Arc<dyn OutputStorage>, overwrite: bool) -> Result<Found> {
    let layout = layout();
    let (output, found) = OutputDir::open_file(storage, Path::new(OUT), "A", overwrite)?;
    if found == Found::AlreadyPublished {
        output.publish()?;
        return Ok(found);
    }
    let shard = &layout.shards[0];
    if output.finished_shards(&layout)?[0].is_none() {
        let writer = ShardWriter::create(&output, shard)?;
        let mut fingerprints = Vec::new();
        for (i, tensor) in shard.tensors.iter().enumerate() {
            let bytes = vec![i as u8 + 1; tensor.len as usize];
            writer.write(i, 0, &bytes)?;
            fingerprints.push((tensor.spec.name.clone(), Fingerprint::of(&bytes)));
        }
        writer.finish(&fingerprints)?;
    }
    output.publish()?;
    Ok(found)
}

fn content(disk: &SimulatedDisk) -> Option<Vec<u8>> {
    let file = disk.shared().open(Path::new(OUT)).ok()?;
    let mut bytes = vec![0; file.len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn disk(before: Option<&[u8]>) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.put("/models/other/model.safetensors", b"not ours");
    if let Some(bytes) = before {
        disk.put(OUT, bytes);
    }
    disk
}

#[test]
fn power_cut_before_every_operation() {
    let whole = disk(None);
    build(&whole.shared(), false).unwrap();
    let new = content(&whole).unwrap();
    for before in [None, Some(OLD)] {
        let first = disk(before).operations();
        let counted = disk(before);
        build(&counted.shared(), before.is_some()).unwrap();
        for n in (first..counted.operations()).chain([u64::MAX]) {
            let cut = disk(before);
            cut.power_off_at(n);
            let _ = build(&cut.shared(), before.is_some());
            let survivals = [Survives::Synced, Survives::Everything].into_iter();
            for survives in survivals.chain((0..8).map(|i| Survives::Some(n.wrapping_mul(8) + i))) {
                let context = format!("before: {before:?}, cut at {n}, {survives:?}");
                let after = cut.crash(survives);
                let found = content(&after);
                assert!(found.as_deref() == before || found.as_ref() == Some(&new), "{context}: {found:?}");
                assert!(n < u64::MAX || found.as_ref() == Some(&new), "{context}: a finished build was undone");
                match build(&after.shared(), before.is_some()) {
                    // The build was over, and its work folder is gone: to run it again means to build again.
                    Err(Error::OutputFileExists { .. }) => assert!(before.is_none(), "{context}"),
                    outcome => assert!(outcome.is_ok(), "{context}: {outcome:?}"),
                }
                let durable = after.crash(Survives::Synced);
                assert_eq!(content(&durable), Some(new.clone()), "{context}: after the rerun");
                let names = after.shared().list(Path::new("/models")).unwrap();
                assert_eq!(names, ["other", "out.gguf"], "{context}: after the rerun");
            }
        }
    }
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let disk = SimulatedDisk::new();
    disk.put(Path::new(OUT).join("inner"), b"a folder");
    assert!(matches!(build(&disk.shared(), true), Err(Error::OutputIsNoFile { .. })));
    let taken = SimulatedDisk::new();
    taken.put(OUT, OLD);
    assert!(matches!(build(&taken.shared(), false), Err(Error::OutputFileExists { .. })));
    assert_eq!(content(&taken).as_deref(), Some(OLD));
}
