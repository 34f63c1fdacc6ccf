//! The loss, and its gradient with respect to the output of the last layer.
//!
//! The head is processed once, in tiles of its vocabulary. The sums of `exp(score)` and of `exp(score) W` are kept
//! relative to the largest score so far and rescaled when a larger one appears (as in FlashAttention, arXiv
//! 2205.14135). The loss is `log(sum) - score[target]`, and its gradient with respect to the normalized residual stream
//! is `sum W / sum - W[target]`. The scores of the whole vocabulary are never in memory.

use rayon::prelude::*;

use super::{
    group::Group,
    product::{Matrix, Rows, vector},
    rms_norm::{Norm, rms_norm},
};
use crate::decoder::{
    Weights,
    forward::head,
    stream::tile_rows,
    weights::{matrix_shape, tensor_of},
};
use moerge_core::{
    error::Result,
    model::families::{DecoderOptions, Role},
    progress::Progress,
};

/// The final norm and the language-model head.
pub(super) struct Head<'a> {
    model: &'a dyn Weights,
    norm: Vec<f32>,
    /// Vocabulary entries per tile.
    step: usize,
    /// The head's tiles, if they are kept in memory.
    kept: Option<Vec<Matrix>>,
}

impl<'a> Head<'a> {
    /// Reads the norm, and with `keep` also the head.
    pub fn new(model: &'a dyn Weights, keep: bool) -> Result<Self> {
        Self::in_tiles(model, keep, tile_rows(model.description().decoder.hidden))
    }

    pub(super) fn in_tiles(model: &'a dyn Weights, keep: bool, step: usize) -> Result<Self> {
        let mut made = Self { model, norm: vector(model, Role::FinalNorm)?, step, kept: None };
        if keep {
            made.kept = Some(made.tiles()?.map(|tile| made.read(tile)).collect::<Result<_>>()?);
        }
        Ok(made)
    }

    fn role(&self) -> Role {
        head(&self.model.description().decoder)
    }

    /// First row and number of rows of each tile.
    fn tiles(&self) -> Result<impl Iterator<Item = (usize, usize)> + use<>> {
        let (rows, _) = matrix_shape(tensor_of(self.model.description(), self.role())?);
        let step = self.step;
        Ok((0..rows).step_by(step).map(move |first| (first, step.min(rows - first))))
    }

    fn read(&self, (first, rows): (usize, usize)) -> Result<Matrix> {
        Matrix::rows_of(self.model, self.role(), first..first + rows, None)
    }

    /// The mean loss, and per group its gradient with respect to `x`, `[tokens, hidden]`.
    pub fn loss(
        &self,
        options: &DecoderOptions,
        x: &[Rows],
        groups: &[Group],
        progress: &dyn Progress,
    ) -> Result<(f64, Vec<Rows>)> {
        let mut sums: Vec<Sums> = x.iter().zip(groups).map(|(x, g)| self.begin(options, x, g)).collect();
        for (index, tile) in self.tiles()?.enumerate() {
            progress.check()?;
            let read;
            let weights = match self.kept.as_ref().and_then(|kept| kept.get(index)) {
                Some(kept) => kept,
                None => {
                    read = self.read(tile)?;
                    &read
                }
            };
            sums.par_iter_mut().for_each(|sums| sums.add(tile.0, weights));
        }
        let count = sums.iter().map(|sums| sums.targets.len()).sum::<usize>().max(1) as f64;
        let loss = sums.iter().flat_map(Sums::losses).sum::<f64>() / count;
        let grads = sums.into_iter().zip(x).map(|(sums, x)| sums.grad(&self.norm, x, count));
        Ok((loss, grads.collect()))
    }

    /// Starts the sums of a group, whose tokens are normalized.
    fn begin(&self, options: &DecoderOptions, x: &Rows, group: &Group) -> Sums {
        let (rows, targets): (Vec<usize>, Vec<u32>) = group.targets.iter().copied().unzip();
        let tokens = rows.len();
        let mut normed = Rows::zeros(tokens, x.columns);
        for (token, row) in normed.rows_mut().zip(&rows) {
            token.copy_from_slice(&x.values[row * x.columns..(row + 1) * x.columns]);
        }
        let norm = rms_norm(&mut normed, &self.norm, options.norm_eps);
        Sums {
            rows,
            norm,
            normed,
            targets,
            largest: vec![f32::NEG_INFINITY; tokens],
            sums: vec![0.0; tokens],
            score: vec![0.0; tokens],
            mean: vec![0.0; tokens * options.hidden],
            target_rows: vec![0.0; tokens * options.hidden],
        }
    }
}

/// The sums over the vocabulary so far, for the tokens of a group.
struct Sums {
    rows: Vec<usize>,
    norm: Norm,
    normed: Rows,
    /// The next tokens.
    targets: Vec<u32>,
    /// The largest score.
    largest: Vec<f32>,
    /// Sum of `exp(score - largest)`.
    sums: Vec<f64>,
    /// The score of the next token.
    score: Vec<f32>,
    /// Sum of `exp(score - largest) W`, `[tokens, hidden]`.
    mean: Vec<f32>,
    /// `W` of the next token.
    target_rows: Vec<f32>,
}

impl Sums {
    /// Adds the vocabulary entries from `first` on, whose rows of the head are `weights`.
    fn add(&mut self, first: usize, weights: &Matrix) {
        if self.targets.is_empty() {
            return;
        }
        let (entries, hidden) = (weights.outputs(), self.normed.columns);
        let mut scores = weights.times(&self.normed);
        for (token, scores) in scores.rows_mut().enumerate() {
            let largest = scores.iter().fold(self.largest[token], |m, s| m.max(*s));
            let rescale = (self.largest[token] - largest).exp();
            self.largest[token] = largest;
            self.mean[token * hidden..][..hidden].iter_mut().for_each(|x| *x *= rescale);
            if let Some(score) = (self.targets[token] as usize).checked_sub(first).and_then(|entry| scores.get(entry)) {
                self.score[token] = *score;
            }
            let mut sum = 0.0f64;
            for score in scores {
                *score = (*score - largest).exp();
                sum += f64::from(*score);
            }
            self.sums[token] = self.sums[token] * f64::from(rescale) + sum;
        }
        let parts = weights.times_transposed(&scores).values;
        self.mean.iter_mut().zip(parts).for_each(|(mean, part)| *mean += part);
        for (token, target) in self.targets.iter().enumerate() {
            let entry = (*target as usize).checked_sub(first).filter(|entry| *entry < entries);
            if let Some(entry) = entry {
                self.target_rows[token * hidden..][..hidden].copy_from_slice(weights.row(entry));
            }
        }
    }

    fn losses(&self) -> impl Iterator<Item = f64> {
        let sums = self.sums.iter().zip(&self.largest).zip(&self.score);
        sums.map(|((sum, largest), score)| sum.ln() + f64::from(*largest) - f64::from(*score))
    }

    /// The gradient of the mean loss of `count` tokens with respect to `x`.
    fn grad(self, weight: &[f32], x: &Rows, count: f64) -> Rows {
        let hidden = x.columns;
        let mut grad = Rows { columns: hidden, values: self.mean };
        for ((mean, row), sum) in grad.rows_mut().zip(self.target_rows.chunks_exact(hidden.max(1))).zip(&self.sums) {
            mean.iter_mut().zip(row).for_each(|(m, w)| *m = ((f64::from(*m) / sum - f64::from(*w)) / count) as f32);
        }
        let of_rows = self.norm.backward(weight, &grad);
        let mut below = Rows { columns: hidden, values: vec![0.0; x.values.len()] };
        for (row, grad) in self.rows.iter().zip(of_rows.rows()) {
            below.values[row * hidden..(row + 1) * hidden].copy_from_slice(grad);
        }
        below
    }
}
