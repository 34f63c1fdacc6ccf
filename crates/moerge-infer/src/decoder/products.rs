//! Products of matrices in memory with tokens, on several threads.
//!
//! With few tokens, memory bandwidth is the limit, so every weight is read once in its stored format. With many, chunks
//! of weights are converted to f32: without byte instructions that is as fast as products of bytes, and more exact.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    activations::Activations,
    linear::{chunk_rows, chunks, part_rows},
    matmul::{Panels, multiply},
    quantised::{Inputs, Matrix},
};

/// At most this many tokens count as few.
const FEW_TOKENS: usize = 8;
/// Weights per task with few tokens: enough to be worth waking a thread, few enough to balance the load.
const TASK_WEIGHTS: usize = 128 << 10;

/// `W x` for each `W` in `matrices`, whose number of columns is the number of features of `x`.
pub(super) fn times<const N: usize>(matrices: [&Matrix; N], x: &Activations) -> [Activations; N] {
    let mut results = matrices.map(|matrix| Activations::zeros(matrix.rows(), x.tokens()));
    if x.tokens() <= FEW_TOKENS {
        times_few(matrices, x, &mut results);
    } else {
        times_many(matrices, x, &mut results);
    }
    results
}

fn times_few<const N: usize>(matrices: [&Matrix; N], x: &Activations, results: &mut [Activations; N]) {
    let inputs = Inputs::new(x.to_tokens(), &matrices);
    let mut tasks = Vec::new();
    for (matrix, y) in matrices.into_iter().zip(results) {
        let columns = y.columns().max(1);
        let step = (TASK_WEIGHTS / matrix.columns().max(1)).max(1);
        let parts = y.values_mut().chunks_mut(step * columns).enumerate();
        tasks.extend(parts.map(|(part, out)| (matrix, part * step, out, columns)));
    }
    let run = |(matrix, first, out, columns): (&Matrix, usize, &mut [f32], usize)| {
        matrix.times_few(first, &inputs, out, columns);
    };
    if tasks.len() < 2 {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().for_each(run);
    }
}

fn times_many<const N: usize>(matrices: [&Matrix; N], x: &Activations, results: &mut [Activations; N]) {
    let x = Panels::of(x, 0..x.features(), 0..x.tokens());
    rayon::scope(|scope| {
        for (matrix, y) in matrices.into_iter().zip(results) {
            let columns = y.columns();
            let mut rest = y.values_mut();
            let step = chunk_rows((matrix.rows(), matrix.columns()));
            for chunk in chunks(&(0..matrix.rows()), step) {
                let (out, after) = std::mem::take(&mut rest).split_at_mut(chunk.len() * columns);
                rest = after;
                let x = &x;
                scope.spawn(move |_| {
                    let read = |row: usize, part, to: &mut [f32]| matrix.widen(chunk.start + row, part, to);
                    multiply(chunk.len(), read, x, out, columns);
                });
            }
        }
    });
}

/// Calls `each` with parts of the product of `matrix` with `x` ([`super::matrices`]).
pub(super) fn parts(matrix: &Matrix, x: &Activations, each: &(dyn Fn(usize, &[f32]) + Sync)) {
    let tokens = x.tokens();
    let x = Panels::of(x, 0..x.features(), 0..tokens);
    let step = part_rows((matrix.rows(), matrix.columns()), tokens);
    let parts: Vec<Range<usize>> = chunks(&(0..matrix.rows()), step).collect();
    parts.into_par_iter().for_each_init(Vec::new, |out, rows| {
        out.resize(rows.len() * tokens, 0.0);
        let read = |row: usize, part, to: &mut [f32]| matrix.widen(rows.start + row, part, to);
        multiply(rows.len(), read, &x, out, tokens);
        each(rows.start, out);
    });
}
