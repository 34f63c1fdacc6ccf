//! How probable tokens are, without the logits of the whole vocabulary in memory.
//!
//! The head's product is taken a few rows at a time, and each part is reduced at once to its largest logit and its sum
//! of `exp(logit - largest)`. Parts are merged in the order of their rows, so results do not depend on the number of
//! threads.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{
    activations::Activations,
    exp::exp,
    forward::head,
    lanes::vectorised,
    linear::Streamed,
    matrices::Matrices,
    norm::rms_norm,
    stream::with_stream,
    weights::{Weights, bug},
};
use moerge_core::{error::Result, model::families::Role, progress::Progress};

/// Columns of a pass over the head. Parts that are done before those in front of them wait to be merged, and take memory.
pub(super) const COLUMNS: usize = 2048;

/// How probable a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of its probability.
    pub log_probability: f64,
    /// Whether no token is more probable.
    pub greedy: bool,
}

/// The scores of tokens `.1` after columns `.0` of `x`, the residual stream after the last layer. The head is read once
/// for every 2048 columns.
///
/// # Errors
/// A weight is missing or cannot be read, or the run was stopped.
pub fn token_scores(
    weights: &dyn Weights,
    x: &Activations,
    wanted: &[(usize, u32)],
    progress: &dyn Progress,
) -> Result<Vec<TokenScore>> {
    let mut roles = vec![Role::FinalNorm];
    roles.extend(columns_of(wanted).chunks(COLUMNS).map(|_| head(&weights.description().decoder)));
    with_stream(weights, &roles, progress, |stream| scores(&mut Streamed::new(stream, None), x, wanted, progress))
}

/// The same for a model whose weights are in use already.
pub(super) fn scores(
    matrices: &mut impl Matrices,
    x: &Activations,
    wanted: &[(usize, u32)],
    progress: &dyn Progress,
) -> Result<Vec<TokenScore>> {
    let norm = matrices.vector(Role::FinalNorm)?;
    let mut found = vec![TokenScore::default(); wanted.len()];
    for columns in columns_of(wanted).chunks(COLUMNS) {
        progress.check()?;
        let x = rms_norm(&x.gather(columns), &norm, matrices.options().norm_eps);
        let place = |column: usize| columns.binary_search(&column).ok();
        let inside = (0..).zip(wanted).filter_map(|(index, (column, token))| {
            place(*column).map(|column| Wanted { token: *token as usize, column, index })
        });
        let mut inside: Vec<Wanted> = inside.collect();
        inside.sort_unstable_by_key(|wanted| wanted.token);
        let (logits, sums) = logits_and_sums(matrices, &x, &inside)?;
        for (wanted, logit) in inside.iter().zip(logits) {
            let (largest, sum) = (sums.largest[wanted.column], sums.sums[wanted.column]);
            let logit = logit.ok_or_else(|| bug(format!("token {} is outside of the vocabulary", wanted.token)))?;
            let log_probability = f64::from(logit) - f64::from(largest) - sum.ln();
            found[wanted.index] = TokenScore { log_probability, greedy: logit >= largest };
        }
    }
    Ok(found)
}

/// The columns of `wanted` in order, each once.
fn columns_of(wanted: &[(usize, u32)]) -> Vec<usize> {
    let mut columns: Vec<usize> = wanted.iter().map(|(column, _)| *column).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// A token whose logit in a column is wanted, and its place among all.
struct Wanted {
    token: usize,
    column: usize,
    index: usize,
}

/// The logits of `wanted`, which is sorted by token, and the sums over the vocabulary for every column of `x`, which is
/// normalized.
fn logits_and_sums(
    matrices: &mut impl Matrices,
    x: &Activations,
    wanted: &[Wanted],
) -> Result<(Vec<Option<f32>>, Sums)> {
    let columns = x.tokens();
    let merged = Mutex::new(Merged { next: 0, early: BTreeMap::new(), sums: Sums::none(columns) });
    let logits = Mutex::new(vec![None; wanted.len()]);
    matrices.parts(head(matrices.options()), x, &|first, part| {
        let rows = part.len() / columns.max(1);
        let inside = wanted.partition_point(|w| w.token < first)..wanted.partition_point(|w| w.token < first + rows);
        let found = wanted[inside.clone()].iter().map(|w| Some(part[(w.token - first) * columns + w.column]));
        let found: Vec<Option<f32>> = found.collect();
        super::lock(&logits)[inside].copy_from_slice(&found);
        let sums = Sums::of(part, columns);
        super::lock(&merged).add(first, rows, sums);
    })?;
    let logits = logits.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((logits, merged.into_inner().unwrap_or_else(PoisonError::into_inner).sums))
}

/// Of some rows of the logits, by column.
struct Sums {
    largest: Vec<f32>,
    /// The sum of `exp(logit - largest)`.
    sums: Vec<f64>,
}

impl Sums {
    fn none(columns: usize) -> Self {
        Self { largest: vec![f32::NEG_INFINITY; columns], sums: vec![0.0; columns] }
    }

    /// Of `logits`, `[rows, columns]`.
    fn of(logits: &[f32], columns: usize) -> Self {
        let mut found = Self::none(columns);
        let Self { largest, sums } = &mut found;
        vectorised(
            #[inline(always)]
            || {
                for row in logits.chunks_exact(columns.max(1)) {
                    largest.iter_mut().zip(row).for_each(|(m, s)| *m = m.max(*s));
                }
                // Where all are -inf, exp is 0 and not NaN.
                largest.iter_mut().for_each(|m| *m = m.max(f32::MIN));
                for row in logits.chunks_exact(columns.max(1)) {
                    sums.iter_mut().zip(&*largest).zip(row).for_each(|((sum, m), s)| *sum += f64::from(exp(s - m)));
                }
            },
        );
        found
    }

    /// Adds more rows.
    fn add(&mut self, other: &Self) {
        for (((largest, sum), more), more_sum) in
            self.largest.iter_mut().zip(&mut self.sums).zip(&other.largest).zip(&other.sums)
        {
            let both = largest.max(*more);
            let scaled = |largest: f32, sum: f64| if sum == 0.0 { 0.0 } else { sum * f64::from(largest - both).exp() };
            *sum = scaled(*largest, *sum) + scaled(*more, *more_sum);
            *largest = both;
        }
    }
}

/// The sums of all rows before `next`, and of later parts that came early.
struct Merged {
    next: usize,
    early: BTreeMap<usize, (usize, Sums)>,
    sums: Sums,
}

impl Merged {
    fn add(&mut self, first: usize, rows: usize, sums: Sums) {
        self.early.insert(first, (rows, sums));
        while let Some((rows, sums)) = self.early.remove(&self.next) {
            self.sums.add(&sums);
            self.next += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_parts_are_those_of_the_whole_in_any_order() {
        let logits: Vec<f32> = (0..30).map(|i| (i * 7919 % 31) as f32 * 6.0 - 90.0).collect();
        let columns = 3;
        let whole = Sums::of(&logits, columns);
        let mut merged = Merged { next: 0, early: BTreeMap::new(), sums: Sums::none(columns) };
        for (first, rows) in [(7, 3), (0, 2), (2, 5)] {
            merged.add(first, rows, Sums::of(&logits[first * columns..][..rows * columns], columns));
        }
        assert_eq!((merged.next, merged.early.len()), (10, 0));
        for column in 0..columns {
            assert_eq!(merged.sums.largest[column], whole.largest[column]);
            let expected: f64 =
                logits.iter().skip(column).step_by(columns).map(|x| f64::from(x - whole.largest[column]).exp()).sum();
            assert!((merged.sums.sums[column] / expected - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn nan_is_not_hidden() {
        let sums = Sums::of(&[1.0, f32::NAN], 1);
        assert!(sums.sums[0].is_nan());
    }
}
