//! How long a merge would take on this machine: bytes over the disk's rate, and tokens over the rate of matrix
//! products. Both rates are measured in a fraction of a second, so this is a rough estimate, and not part of `--json`.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use moerge_core::{plan::PlanSummary, recipe::GateMode};
use moerge_infer::decoder::{Panels, matmul};
use moerge_lib::merge::Prepared;

use crate::numbers::whole_seconds;

/// Time for each of the two measurements.
const MEASURE_FOR: Duration = Duration::from_millis(150);
/// Bytes of a read.
const BLOCK: usize = 1 << 20;
/// Rows and columns of the matrices that are multiplied.
const SIDE: usize = 384;

/// One line, `about 2 min 10 s`. `None` if nothing can be measured, as when no source is on this machine.
pub fn line(prepared: &Prepared, plan: &PlanSummary, output_bytes: u64, router_tokens: usize) -> Option<String> {
    let files = prepared.models.sources.iter().flat_map(|s| s.checkpoints()).flat_map(|c| c.files());
    let largest = files.max_by_key(|file| file.len)?;
    let disk = read_rate(&largest.path, largest.len)?;
    let copy = (plan.source_bytes + output_bytes) as f64 / disk;
    let products = match router_tokens {
        0 => 0.0,
        // Two operations per weight and token.
        tokens => 2.0 * plan.active_parameters as f64 * tokens as f64 / multiply_rate(),
    };
    let seconds = Duration::try_from_secs_f64(copy + products).ok()?;
    let about = match seconds < Duration::from_secs(2) {
        true => "a few seconds".to_owned(),
        false => format!("about {}", whole_seconds(seconds)),
    };
    Some(match prepared.recipe.gate_mode {
        GateMode::SelfCalibrated | GateMode::PhatGoose => {
            format!("{about}, plus the time for the experts to generate text (rough estimate)")
        }
        _ => format!("{about} (rough estimate)"),
    })
}

/// Bytes per second of reads scattered over a file of `len` bytes.
fn read_rate(path: &Path, len: u64) -> Option<f64> {
    let mut file = File::open(path).ok()?;
    let mut block = vec![0; BLOCK];
    let (started, mut read, mut at) = (Instant::now(), 0u64, 0u64);
    // A stride that is not a multiple of the block visits different places in every round.
    let stride = len / 61 + BLOCK as u64 / 3;
    while started.elapsed() < MEASURE_FOR {
        file.seek(SeekFrom::Start(at)).ok()?;
        read += file.read(&mut block).ok()? as u64;
        at = (at + stride) % len.max(1);
    }
    (read > 0).then(|| read as f64 / started.elapsed().as_secs_f64())
}

/// Floating-point operations per second of matrix products, with all threads.
fn multiply_rate() -> f64 {
    let left = vec![0.5; SIDE * SIDE];
    let right = Panels::from_rows(&left, SIDE);
    // The first product starts the threads.
    matmul(&left, &right);
    let (started, mut products) = (Instant::now(), 0u32);
    while started.elapsed() < MEASURE_FOR {
        matmul(&left, &right);
        products += 1;
    }
    let operations = 2.0 * (SIDE as f64).powi(3) * f64::from(products);
    operations / started.elapsed().as_secs_f64()
}
