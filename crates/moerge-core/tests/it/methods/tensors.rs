//! Tensors in files, as inputs of expressions, and the values of expressions.

use std::{collections::HashMap, path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage, ShardLayout, TensorSpec};
use moerge_core::ops::{Evaluator, Expr, Preparation};

/// The files beside this one.
pub fn here() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/methods"))
}

/// The tensors in the folder `dir`.
pub fn open(dir: &Path) -> Checkpoint {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Checkpoint::open(&storage, dir).unwrap()
}

/// The tensor `name`.
pub fn view(checkpoint: &Checkpoint, name: &str) -> Expr {
    Expr::View(checkpoint.get(name).unwrap().clone())
}

/// Tensors of `shape` with these values, in a file in `dir`.
pub fn write(dir: &Path, shape: &[usize], tensors: &[Vec<f32>]) -> Vec<Expr> {
    let spec = |n| TensorSpec { name: format!("{n:03}"), encoding: Dtype::F32.into(), shape: shape.to_vec() };
    let layout = ShardLayout::new((0..tensors.len()).map(spec).collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for placed in &layout.shards[0].tensors {
        let values = &tensors[placed.spec.name.parse::<usize>().unwrap()];
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
    let path = dir.join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = open(dir);
    (0..tensors.len()).map(|n| view(&checkpoint, &format!("{n:03}"))).collect()
}

/// All elements of `expr`, `at_once` rows at a time, prepared on `threads` threads.
pub fn evaluate(expr: &Expr, at_once: usize, threads: usize) -> Vec<f32> {
    let preparation = Preparation { seed: 42, threads, check: &|| Ok(()) };
    let evaluator = Evaluator::prepare(expr, &preparation).unwrap();
    let (rows, columns) = evaluator.shape();
    let (mut all, mut raw) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        let mut out = vec![f32::NAN; now.len() * columns];
        evaluator.fetch(now.clone(), &mut raw).unwrap();
        evaluator.compute(now, &raw, &HashMap::new(), &mut out).unwrap();
        all.extend(out);
    }
    all
}
