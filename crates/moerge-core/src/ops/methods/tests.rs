//! Every method against its formula, written out, on tensors in a file.

mod elements;
mod passes;
mod spheres;
mod task_vectors;

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage, ShardLayout, TensorSpec};

use super::*;
use crate::{
    numeric::noise::uniform,
    ops::{ComputedValues, Evaluator, Expr, Preparation},
};

const SHAPE: [usize; 2] = [37, 48];
const COLUMNS: usize = SHAPE[1];

/// Tensors in a safetensors file in `dir`.
fn write(dir: &Path, shape: &[usize], values: &[Vec<f32>]) -> Vec<Expr> {
    let spec = |n| TensorSpec { name: format!("x{n}"), encoding: Dtype::F32.into(), shape: shape.to_vec() };
    let layout = ShardLayout::new((0..values.len()).map(spec).collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        let index: usize = tensor.spec.name[1..].parse().unwrap();
        bytes.extend(values[index].iter().flat_map(|x| x.to_le_bytes()));
    }
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    (0..values.len()).map(|n| Expr::View(checkpoint.get(&format!("x{n}")).unwrap().clone())).collect()
}

/// Tensors of random f32 in a safetensors file in `dir`.
fn tensors(dir: &Path, count: usize) -> (Vec<Expr>, Vec<Vec<f32>>) {
    let values: Vec<Vec<f32>> = (0..count).map(|n| uniform(SHAPE[0] * SHAPE[1], 1, &format!("x{n}"))).collect();
    (write(dir, &SHAPE, &values), values)
}

/// All rows of `expr`, computed `at_once` rows at a time.
fn evaluate(expr: &Expr, at_once: usize) -> Vec<f32> {
    evaluate_on(expr, at_once, 1)
}

/// All rows of `expr`, prepared on `threads` threads.
fn evaluate_on(expr: &Expr, at_once: usize, threads: usize) -> Vec<f32> {
    let preparation = Preparation { seed: SEED, threads, check: &|| Ok(()) };
    let evaluator = Evaluator::prepare(expr, &preparation).unwrap();
    let (rows, columns) = evaluator.shape();
    let computed: &dyn ComputedValues = &std::collections::HashMap::new();
    let (mut all, mut raw) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(at_once) {
        let now = first..(first + at_once).min(rows);
        let mut out = vec![f32::NAN; now.len() * columns];
        evaluator.fetch(now.clone(), &mut raw).unwrap();
        evaluator.compute(now, &raw, computed, &mut out).unwrap();
        all.extend(out);
    }
    all
}

const SEED: u64 = 42;

/// Merges random tensors by `method`, and wants what `formula` makes of them.
fn check_all(method: impl Into<Method>, count: usize, formula: impl Fn(&[Vec<f64>]) -> Vec<f64>) {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), count);
    let method = method.into();
    let name = method.name();
    let expr = Expr::Combine { method, inputs };
    let whole = evaluate(&expr, SHAPE[0]);
    assert_eq!(whole, evaluate(&expr, 5), "{name}: rows do not depend on how they are cut");
    let values: Vec<Vec<f64>> = values.iter().map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect();
    let expected = formula(&values);
    assert_eq!(whole.len(), expected.len());
    for (index, (x, expected)) in whole.iter().zip(expected).enumerate() {
        let off = (f64::from(*x) - expected).abs();
        assert!(off <= 2e-7 * expected.abs().max(1.0), "{name} {index}: {x}, {expected}");
    }
}

/// Merges random tensors by `method`, and wants what `formula` says of each element.
fn check(method: impl Into<Method>, count: usize, formula: impl Fn(&[Vec<f64>], usize) -> f64) {
    check_all(method, count, |values| (0..values[0].len()).map(|index| formula(values, index)).collect());
}

fn at(values: &[Vec<f64>], input: usize, index: usize) -> f64 {
    values[input][index]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The sum of vectors times factors.
fn sum(parts: &[(f64, &[f64])]) -> Vec<f64> {
    (0..parts[0].1.len()).map(|i| parts.iter().map(|(factor, x)| factor * x[i]).sum()).collect()
}

/// The differences of the tensors after the first from the first, rounded to f32.
fn differences(values: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let difference = |x: &Vec<f64>| x.iter().zip(&values[0]).map(|(x, b)| f64::from((x - b) as f32)).collect();
    values[1..].iter().map(difference).collect()
}

#[test]
fn every_spec_makes_the_method_of_its_name() {
    assert_eq!(MethodSpec::ALL.len(), 20);
    for spec in MethodSpec::ALL {
        let values = spec.parameters.iter().map(|p| vec![p.default.unwrap_or(0.5); 2]).collect();
        let method = spec.method(&Values { tensor: "w".into(), base: spec.base == Base::Required, values });
        assert_eq!(method.name(), spec.name);
    }
}

#[test]
fn linear_is_the_weighted_mean_or_sum() {
    let weights = vec![0.5, 2.0, -0.25];
    let sum = |v: &[Vec<f64>], i| 0.5 * at(v, 0, i) + 2.0 * at(v, 1, i) - 0.25 * at(v, 2, i);
    check(Linear { weights: weights.clone(), normalize: true }, 3, |v, i| sum(v, i) / 2.25);
    check(Linear { weights, normalize: false }, 3, sum);
}

#[test]
fn an_input_of_a_method_may_be_a_merge_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 3);
    let mean = Method::from(Linear { weights: vec![1.0, 1.0], normalize: true });
    let inner = Expr::Combine { method: mean.clone(), inputs: inputs[..2].to_vec() };
    let merged = evaluate(&Expr::Combine { method: mean, inputs: vec![inner, inputs[2].clone()] }, 4);
    for (i, x) in merged.iter().enumerate() {
        let expected = 0.25 * values[0][i] + 0.25 * values[1][i] + 0.5 * values[2][i];
        assert!((x - expected).abs() < 1e-6, "{i}");
    }
}

#[test]
fn rows_can_be_mapped_and_padded() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 1);
    let map: Arc<[Option<usize>]> = [Some(3), Some(4), None, Some(0), Some(36), Some(35)].into();
    let mapped =
        Expr::RowMap { input: Box::new(inputs[0].clone()), map: map.clone(), shape: vec![map.len(), SHAPE[1]] };
    let padded = Expr::Pad { input: Box::new(mapped), shape: vec![8, SHAPE[1] + 2] };
    for at_once in [1, 3, 8] {
        let out = evaluate(&padded, at_once);
        for (row, out) in out.chunks(SHAPE[1] + 2).enumerate() {
            let mut expected = vec![0.0; SHAPE[1] + 2];
            if let Some(from) = map.get(row).copied().flatten() {
                expected[..SHAPE[1]].copy_from_slice(&values[0][from * SHAPE[1]..(from + 1) * SHAPE[1]]);
            }
            assert_eq!(out, expected, "row {row}");
        }
    }
}
