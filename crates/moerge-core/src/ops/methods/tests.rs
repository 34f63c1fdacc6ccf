//! Every method against its formula, written out, on tensors in a file.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ShardLayout, Storage, TensorSpec};

use super::*;
use crate::{
    numeric::noise::uniform,
    ops::{ComputedValues, Evaluator, Expr},
};

const SHAPE: [usize; 2] = [37, 48];

/// Tensors of random f32 in a safetensors file in `dir`.
fn tensors(dir: &Path, count: usize) -> (Vec<Expr>, Vec<Vec<f32>>) {
    let values: Vec<Vec<f32>> = (0..count).map(|n| uniform(SHAPE[0] * SHAPE[1], 1, &format!("x{n}"))).collect();
    let spec = |n| TensorSpec { name: format!("x{n}"), dtype: Dtype::F32, shape: SHAPE.to_vec() };
    let layout = ShardLayout::new((0..count).map(spec).collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for tensor in &layout.shards[0].tensors {
        let index: usize = tensor.spec.name[1..].parse().unwrap();
        bytes.extend(values[index].iter().flat_map(|x| x.to_le_bytes()));
    }
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    let view = |n| Expr::View(checkpoint.get(&format!("x{n}")).unwrap().clone());
    ((0..count).map(view).collect(), values)
}

/// All rows of `expr`, computed `at_once` rows at a time.
fn evaluate(expr: &Expr, at_once: usize) -> Vec<f32> {
    let evaluator = Evaluator::new(expr, 0).unwrap();
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

/// Merges random tensors by `method`, and wants what `formula` says of each element.
fn check(method: Method, count: usize, formula: impl Fn(&[Vec<f32>], usize) -> f64) {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), count);
    let expr = Expr::Combine { method, inputs };
    let whole = evaluate(&expr, SHAPE[0]);
    assert_eq!(whole, evaluate(&expr, 5), "rows do not depend on how they are cut");
    for (index, x) in whole.iter().enumerate() {
        let expected = formula(&values, index);
        assert!((f64::from(*x) - expected).abs() <= 1e-7 * expected.abs().max(1.0), "{index}: {x}, {expected}");
    }
}

fn at(values: &[Vec<f32>], input: usize, index: usize) -> f64 {
    f64::from(values[input][index])
}

#[test]
fn linear_is_the_weighted_mean_or_sum() {
    let weights = vec![0.5, 2.0, -0.25];
    let sum = |v: &[Vec<f32>], i| 0.5 * at(v, 0, i) + 2.0 * at(v, 1, i) - 0.25 * at(v, 2, i);
    check(Method::Linear(Linear { weights: weights.clone(), normalize: true }), 3, |v, i| sum(v, i) / 2.25);
    check(Method::Linear(Linear { weights, normalize: false }), 3, sum);
}

#[test]
fn slerp_turns_from_one_tensor_to_the_other() {
    for t in [0.0, 0.3, 1.0] {
        check(Method::Slerp(Slerp { t }), 2, |v, i| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let cosine = dot(&v[0], &v[1]) / (dot(&v[0], &v[0]) * dot(&v[1], &v[1])).sqrt();
            let theta = cosine.acos();
            (((1.0 - t) * theta).sin() * at(v, 0, i) + (t * theta).sin() * at(v, 1, i)) / theta.sin()
        });
    }
}

#[test]
fn slerp_of_parallel_tensors_is_linear() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 1);
    let doubled = Expr::Scale { input: Box::new(inputs[0].clone()), factor: 2.0 };
    let inputs = vec![inputs[0].clone(), doubled];
    let merged = evaluate(&Expr::Combine { method: Method::Slerp(Slerp { t: 0.25 }), inputs }, 7);
    assert!(merged.iter().zip(&values[0]).all(|(m, x)| (m - 1.25 * x).abs() < 1e-6));
}

#[test]
fn task_arithmetic_adds_differences_to_the_base() {
    let method = TaskArithmetic { weights: vec![0.6, -0.2], lambda: 0.5, normalize: false };
    check(Method::TaskArithmetic(method), 3, |v, i| {
        let base = at(v, 0, i);
        base + 0.5 * (0.6 * (at(v, 1, i) - base) - 0.2 * (at(v, 2, i) - base))
    });
    let method = TaskArithmetic { weights: vec![1.0, 3.0], lambda: 1.0, normalize: true };
    check(Method::TaskArithmetic(method), 3, |v, i| {
        let base = at(v, 0, i);
        base + ((at(v, 1, i) - base) + 3.0 * (at(v, 2, i) - base)) / 4.0
    });
}

#[test]
fn an_input_of_a_method_may_be_a_merge_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 3);
    let mean = Method::Linear(Linear { weights: vec![1.0, 1.0], normalize: true });
    let inner = Expr::Combine { method: mean.clone(), inputs: inputs[..2].to_vec() };
    let merged = evaluate(&Expr::Combine { method: mean, inputs: vec![inner, inputs[2].clone()] }, 4);
    for (i, x) in merged.iter().enumerate() {
        let expected = 0.25 * at(&values, 0, i) + 0.25 * at(&values, 1, i) + 0.5 * at(&values, 2, i);
        assert!((f64::from(*x) - expected).abs() < 1e-6, "{i}");
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
