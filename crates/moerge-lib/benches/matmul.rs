//! The decoder's matrix products against faer's, the fastest library that the project has, on one core.
//!
//!     RAYON_NUM_THREADS=1 cargo bench -p moerge-lib --bench matmul
//!
//! `[rows, inner] x [inner, tokens]` in f32, with shapes of SmolLM2 and Mistral-7B.
//! The right operand is in row-major order, so packing it counts. The rounds of both take turns; a row has the best of
//! each.

use std::{hint::black_box, time::Instant};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul as faer_matmul};
use moerge_infer::decoder::{Panels, matmul};

const SHAPES: [[usize; 3]; 8] = [
    [1536, 576, 1024],
    [576, 1536, 1024],
    [1536, 576, 256],
    [1536, 576, 32],
    [1536, 576, 16],
    [4096, 4096, 512],
    [1024, 14336, 512],
    [4096, 4096, 64],
];
const ROUNDS: usize = 7;
/// Operations per round.
const OPERATIONS: f64 = 4e9;

fn main() {
    println!("{:>6} {:>6} {:>6} {:>8} {:>8} {:>6}", "rows", "inner", "tokens", "faer", "moerge", "ratio");
    for [rows, inner, tokens] in SHAPES {
        let numbers = |count: usize| (0..count).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
        let (left, right) = (numbers(rows * inner), numbers(inner * tokens));
        let mut out = vec![0.0; rows * tokens];
        let theirs = |out: &mut [f32]| {
            let out = MatMut::from_row_major_slice_mut(out, rows, tokens);
            let left = MatRef::from_row_major_slice(&left, rows, inner);
            let right = MatRef::from_row_major_slice(&right, inner, tokens);
            faer_matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
        };
        let operations = 2.0 * (rows * inner * tokens) as f64;
        let repeats = (OPERATIONS / operations).ceil();
        let mut best = [0.0f64; 2];
        for _ in 0..ROUNDS {
            let rate = |seconds: f64| operations * repeats / seconds / 1e9;
            best[0] = best[0].max(rate(seconds(repeats, || theirs(black_box(&mut out)))));
            let ours = || drop(black_box(matmul(&left, &Panels::from_rows(&right, tokens))));
            best[1] = best[1].max(rate(seconds(repeats, ours)));
        }
        println!("{rows:6} {inner:6} {tokens:6} {:8.1} {:8.1} {:6.2}   GFLOP/s", best[0], best[1], best[1] / best[0]);
    }
}

fn seconds(repeats: f64, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..repeats as usize {
        work();
    }
    start.elapsed().as_secs_f64()
}
