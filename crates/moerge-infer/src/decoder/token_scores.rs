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

/// How probable a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TokenScore {
    /// The natural logarithm of its probability.
    pub log_probability: f64,
    /// Whether no token is more probable.
    pub greedy: bool,
}

/// The scores of tokens `.1` after columns `.0` of `x`, the residual stream after the last layer. The head is read once.
///
/// # Errors
/// A weight is missing or cannot be read, or the run was stopped.
pub fn token_scores(
    weights: &dyn Weights,
    x: &Activations,
    wanted: &[(usize, u32)],
    progress: &dyn Progress,
) -> Result<Vec<TokenScore>> {
    let roles = [Role::FinalNorm, head(&weights.description().decoder)];
    with_stream(weights, &roles, progress, |stream| scores(&mut Streamed::new(stream, None), x, wanted))
}

/// The same for a model whose weights are in use already.
pub(super) fn scores(
    matrices: &mut impl Matrices,
    x: &Activations,
    wanted: &[(usize, u32)],
) -> Result<Vec<TokenScore>> {
    let mut columns: Vec<usize> = wanted.iter().map(|(column, _)| *column).collect();
    columns.sort_unstable();
    columns.dedup();
    let x = rms_norm(&x.gather(&columns), &matrices.vector(Role::FinalNorm)?, matrices.options().norm_eps);
    let place = |column: &usize| columns.partition_point(|other| other < column);
    let mut by_token: Vec<Wanted> = (0..).zip(wanted).map(|(i, (c, token))| (*token as usize, place(c), i)).collect();
    by_token.sort_unstable();

    let merged = Mutex::new(Merged { next: 0, early: BTreeMap::new(), sums: Sums::none(columns.len()) });
    let logits = Mutex::new(vec![None; wanted.len()]);
    matrices.parts(head(matrices.options()), &x, &|first, part| {
        let rows = part.len() / columns.len().max(1);
        let from = by_token.partition_point(|(token, ..)| *token < first);
        let inside = by_token[from..].iter().take_while(|(token, ..)| *token < first + rows);
        {
            let mut logits = logits.lock().unwrap_or_else(PoisonError::into_inner);
            inside.for_each(|(token, column, i)| logits[*i] = Some(part[(token - first) * columns.len() + column]));
        }
        let sums = Sums::of(part, columns.len());
        merged.lock().unwrap_or_else(PoisonError::into_inner).add(first, rows, sums);
    })?;

    let sums = merged.into_inner().unwrap_or_else(PoisonError::into_inner).sums;
    let logits = logits.into_inner().unwrap_or_else(PoisonError::into_inner);
    let score = |((column, token), logit): (&(usize, u32), Option<f32>)| {
        let logit = logit.ok_or_else(|| bug(format!("token {token} is outside of the vocabulary")))?;
        let (largest, sum) = (sums.largest[place(column)], sums.sums[place(column)]);
        let log_probability = f64::from(logit) - f64::from(largest) - sum.ln();
        Ok(TokenScore { log_probability, greedy: logit >= largest })
    };
    wanted.iter().zip(logits).map(score).collect()
}

/// A token, its column, and its index among the wanted ones.
type Wanted = (usize, usize, usize);

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
