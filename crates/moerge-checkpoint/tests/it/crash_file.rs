//! The same promises where the output is a single file: it exists only whole, an earlier one stays until then, and the
//! same command again ends with the new one and nothing beside it. Where it is split into several, the first is there only
//! with all others of the same output.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{
    Dtype, Error, Fingerprint, Found, OutputDir, OutputStorage, Result, ShardLayout, ShardWriter, SimulatedDisk,
    SimulatedObjects, Survives, TensorSpec, gguf,
};

const OUT: &str = "/models/out.gguf";
const OLD: &[u8] = b"an earlier file";

fn layout(max_bytes: Option<u64>) -> ShardLayout {
    let spec = |i: usize| TensorSpec { name: format!("t{i}"), encoding: Dtype::F32.into(), shape: vec![i + 1, 4] };
    gguf::layout("out", &Vec::new(), &[], (0..3).map(spec).collect(), max_bytes).unwrap()
}

fn build(storage: &Arc<dyn OutputStorage>, overwrite: bool) -> Result<Found> {
    build_layout(storage, "A", &layout(None), overwrite)
}

fn build_layout(storage: &Arc<dyn OutputStorage>, plan: &str, layout: &ShardLayout, overwrite: bool) -> Result<Found> {
    let names: Vec<String> = layout.shards.iter().map(|shard| shard.file_name.clone()).collect();
    let (output, found) = OutputDir::open_files(storage, Path::new(OUT), &names, plan, overwrite)?;
    if found == Found::AlreadyPublished {
        output.publish()?;
        return Ok(found);
    }
    for (shard, finished) in layout.shards.iter().zip(output.finished_shards(layout)?) {
        if finished.is_some() {
            continue;
        }
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
    read(disk, Path::new(OUT))
}

fn read(disk: &SimulatedDisk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.shared().open(path).ok()?;
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

/// The places of the files that the output is split into.
fn places(layout: &ShardLayout) -> Vec<PathBuf> {
    layout.shards.iter().map(|shard| Path::new("/models").join(&shard.file_name)).collect()
}

fn split_disk(layout: &ShardLayout, before: bool) -> SimulatedDisk {
    let disk = disk(None);
    places(layout).iter().filter(|_| before).for_each(|place| disk.put(place, OLD));
    disk
}

#[test]
fn power_cut_before_every_operation_on_several_files() {
    let layout = layout(Some(32));
    let places = places(&layout);
    assert_eq!(places.len(), 3);
    let contents = |disk: &SimulatedDisk| places.iter().map(|place| read(disk, place)).collect::<Vec<_>>();
    let whole = split_disk(&layout, false);
    build_layout(&whole.shared(), "A", &layout, false).unwrap();
    let new = contents(&whole);
    let old = vec![Some(OLD.to_vec()); 3];
    for before in [false, true] {
        let first = split_disk(&layout, before).operations();
        let counted = split_disk(&layout, before);
        build_layout(&counted.shared(), "A", &layout, before).unwrap();
        for n in (first..counted.operations()).chain([u64::MAX]) {
            let cut = split_disk(&layout, before);
            cut.power_off_at(n);
            let _ = build_layout(&cut.shared(), "A", &layout, before);
            let survivals = [Survives::Synced, Survives::Everything].into_iter();
            for survives in survivals.chain((0..8).map(|i| Survives::Some(n.wrapping_mul(8) + i))) {
                let context = format!("before: {before}, cut at {n}, {survives:?}");
                let after = cut.crash(survives);
                let found = contents(&after);
                assert!(found[0].is_none() || found == new || (before && found == old), "{context}: {found:?}");
                match build_layout(&after.shared(), "A", &layout, before) {
                    Err(Error::OutputFileExists { .. }) => assert!(!before && found == new, "{context}"),
                    outcome => assert!(outcome.is_ok(), "{context}: {outcome:?}"),
                }
                let durable = after.crash(Survives::Synced);
                assert_eq!(contents(&durable), new, "{context}: after the rerun");
                let names = after.shared().list(Path::new("/models")).unwrap();
                assert_eq!(names.len(), 4, "{context}: after the rerun: {names:?}");
            }
        }
    }
}

/// Files that were put in their places before the cut are not left there when another plan takes over.
#[test]
fn another_plan_after_a_cut_between_the_files() {
    let split = layout(Some(32));
    let counted = split_disk(&split, false);
    build_layout(&counted.shared(), "A", &split, false).unwrap();
    let mut between = 0;
    for n in split_disk(&split, false).operations()..counted.operations() {
        let cut = split_disk(&split, false);
        cut.power_off_at(n);
        let _ = build_layout(&cut.shared(), "A", &split, false);
        let after = cut.crash(Survives::Everything);
        let there = places(&split).iter().filter(|place| read(&after, place).is_some()).count();
        if there == 0 || there == 3 {
            continue;
        }
        between += 1;
        build_layout(&after.shared(), "B", &layout(None), false).unwrap();
        let names = after.shared().list(Path::new("/models")).unwrap();
        assert_eq!(names, ["other", "out.gguf"], "cut at {n}");
    }
    assert!(between > 2);
}

#[test]
fn cut_before_every_operation_in_an_object_store() {
    let objects = |disk: &SimulatedDisk| SimulatedObjects(disk.clone()).shared();
    for (layout, before) in [None, Some(32)].into_iter().flat_map(|max| [(layout(max), false), (layout(max), true)]) {
        let places = places(&layout);
        let contents = |disk: &SimulatedDisk| places.iter().map(|place| read(disk, place)).collect::<Vec<_>>();
        let whole = split_disk(&layout, before);
        build_layout(&objects(&whole), "A", &layout, before).unwrap();
        let (new, old) = (contents(&whole), vec![Some(OLD.to_vec()); places.len()]);
        assert!(new.iter().all(Option::is_some) && new != old);
        for n in split_disk(&layout, before).operations()..whole.operations() {
            let cut = split_disk(&layout, before);
            cut.power_off_at(n);
            let _ = build_layout(&objects(&cut), "A", &layout, before);
            let context = format!("{} files, before: {before}, cut at {n}", places.len());
            let after = cut.crash(Survives::Synced);
            let found = contents(&after);
            assert!(found[0].is_none() || found == new || (before && found == old), "{context}: {found:?}");
            match build_layout(&objects(&after), "A", &layout, before) {
                // Who opens it has recognised the file before.
                Err(Error::OutputFileExists { .. }) => assert!(!before && found == new, "{context}"),
                outcome => {
                    assert!(outcome.is_ok(), "{context}: {outcome:?}");
                    let left = after.files("/models/.out.gguf.moerge-build");
                    assert!(left.iter().all(|(name, _)| name == Path::new("prepared")), "{context}: {left:?}");
                }
            }
            assert_eq!(contents(&after), new, "{context}: after the rerun");
        }
    }
}
