//! A small build as the upper crate does it: resume what is there, write the rest, publish.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moerge_checkpoint::{
    Dtype, Error, Fingerprint, Found, Index, OutputDir, OutputStorage, Result, ShardLayout, ShardWriter, TensorSpec,
};

pub const OUT: &str = "/models/out";
pub const WORK: &str = "/models/.out.moerge-build";

/// Files by their paths in a folder, sorted.
pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// What a run did, also if it failed.
#[derive(Debug, Default)]
pub struct Done {
    pub found: Option<Found>,
    /// Shards that `finish` was successful for.
    pub shards_written: usize,
}

/// Three shards of two tensors each.
pub fn layout() -> ShardLayout {
    let spec = |i: usize| TensorSpec { name: format!("t{i}"), encoding: Dtype::BF16.into(), shape: vec![i + 1, 4] };
    let layout = ShardLayout::new((0..6).map(spec).collect(), 0).unwrap();
    assert_eq!(layout.shards.len(), 6);
    let layout = ShardLayout::new((0..5).map(spec).collect(), 50).unwrap();
    assert_eq!(layout.shards.len(), 3);
    layout
}

/// The bytes of a tensor depend on the plan, so that a mixture of two plans would be seen.
fn bytes(plan: &str, name: &str, len: u64) -> Vec<u8> {
    let seed = Fingerprint::of(format!("{plan} {name}").as_bytes()).0;
    (0..len).map(|i| (seed >> (i % 16 * 8)) as u8 ^ i as u8).collect()
}

/// Builds and publishes `OUT`; what was done up to an error goes into `done`.
pub fn build(storage: &Arc<dyn OutputStorage>, plan: &str, overwrite: bool, done: &mut Done) -> Result<()> {
    let layout = layout();
    let (output, found) = OutputDir::open(storage, Path::new(OUT), plan, overwrite)?;
    done.found = Some(found);
    if found == Found::AlreadyPublished {
        return output.publish();
    }
    if output.kept("routers.bin")?.is_none() {
        output.keep("routers.bin", plan.as_bytes())?;
    }
    assert_eq!(output.kept("routers.bin")?.unwrap(), plan.as_bytes());
    write_missing(&output, plan, &layout, |_| true, done)?;
    output.write_file("model.safetensors.index.json", &Index::of(&layout).encode())?;
    output.write_file("config.json", plan.as_bytes())?;
    output.publish()
}

/// Writes every `count`-th shard from the `number`-th on, as one of several processes.
pub fn build_part(storage: &Arc<dyn OutputStorage>, plan: &str, number: usize, count: usize) -> Result<()> {
    let (output, found) = OutputDir::open_part(storage, Path::new(OUT), plan, false)?;
    assert_ne!(found, Found::AlreadyPublished);
    write_missing(&output, plan, &layout(), |shard| shard % count == number, &mut Done::default())
}

fn write_missing(
    output: &OutputDir,
    plan: &str,
    layout: &ShardLayout,
    own: impl Fn(usize) -> bool,
    done: &mut Done,
) -> Result<()> {
    let shards = layout.shards.iter().zip(output.finished_shards(layout)?).enumerate();
    for (_, (shard, finished)) in shards.filter(|(number, _)| own(*number)) {
        let expected: Vec<(String, Fingerprint)> = shard
            .tensors
            .iter()
            .map(|tensor| (tensor.spec.name.clone(), Fingerprint::of(&bytes(plan, &tensor.spec.name, tensor.len))))
            .collect();
        if let Some(fingerprints) = finished {
            assert_eq!(fingerprints, expected);
            continue;
        }
        let writer = ShardWriter::create(output, shard)?;
        for (i, tensor) in shard.tensors.iter().enumerate() {
            let bytes = bytes(plan, &tensor.spec.name, tensor.len);
            let (first, second) = bytes.split_at(bytes.len() / 3);
            writer.write(i, first.len() as u64, second)?;
            writer.write(i, 0, first)?;
        }
        writer.finish(&expected)?;
        done.shards_written += 1;
    }
    Ok(())
}

/// A build that must succeed.
#[track_caller]
pub fn build_whole(storage: &Arc<dyn OutputStorage>, plan: &str, overwrite: bool) -> Done {
    let mut done = Done::default();
    build(storage, plan, overwrite, &mut done).unwrap();
    done
}

/// A build that must fail.
#[track_caller]
pub fn build_failing(storage: &Arc<dyn OutputStorage>, plan: &str, overwrite: bool) -> Error {
    build(storage, plan, overwrite, &mut Done::default()).unwrap_err()
}
