//! The block types' speed: a matrix of 1024 rows of 4096 weights on one thread, in memory.
//!
//!     cargo bench -p moerge-core --bench blocks
//!
//! A row is one type: millions of weights per CPU second that are encoded, encoded by importance, decoded.
//! `tests/it/blocks/compare.py speed` runs this and puts ggml's speed beside it.

use moerge_checkpoint::BlockType;
use moerge_core::numeric::{
    blocks::{decode_row, encode_row, row_bytes},
    noise::{add_noise, uniform},
};

const ROWS: usize = 1024;
const COLUMNS: usize = 4096;

fn main() {
    let mut weights = vec![0.0; ROWS * COLUMNS];
    add_noise(&mut weights, 1, "weights", 0, 0.02);
    let importance: Vec<f32> = uniform(COLUMNS, 2, "importance").iter().map(|x| x.abs() + 0.01).collect();
    println!("{:<8} {:>10} {:>14} {:>10}", "type", "encode", "by importance", "decode");
    for &block in BlockType::ALL {
        let row_bytes = row_bytes(block, COLUMNS).expect("whole blocks");
        let mut bytes = vec![0; ROWS * row_bytes];
        let mut decoded = vec![0.0; COLUMNS];
        let mut encode = |importance: Option<&[f32]>| {
            rate(|| {
                for (row, out) in weights.chunks(COLUMNS).zip(bytes.chunks_mut(row_bytes)) {
                    encode_row(block, row, importance, out).expect("encoded");
                }
            })
        };
        let (plain, by_importance) = (encode(None), encode(Some(&importance)));
        let decode = rate(|| {
            for row in bytes.chunks(row_bytes) {
                decode_row(block, row, &mut decoded).expect("decoded");
            }
        });
        println!("{:<8} {plain:>10.1} {by_importance:>14.1} {decode:>10.1}", block.name());
    }
}

/// Millions of weights per CPU second.
fn rate(mut work: impl FnMut()) -> f64 {
    let (start, mut runs) = (cpu_seconds(), 0);
    while runs == 0 || cpu_seconds() - start < 0.5 {
        work();
        runs += 1;
    }
    (runs * ROWS * COLUMNS) as f64 / (cpu_seconds() - start) / 1e6
}

/// CPU seconds of this thread so far.
fn cpu_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    statistics.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0.0) / 1e9
}
