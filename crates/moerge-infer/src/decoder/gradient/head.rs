//! The loss and its gradient by what leaves the last layer.
//!
//! The head goes by in tiles of its vocabulary, once: sums of `exp(score)` and of `exp(score) W` are kept relative to the
//! largest score so far and brought down where a larger one comes (as FlashAttention does, arXiv 2205.14135). Then
//! `log(sum) - score` is the loss and `sum W / sum - W[came]` its gradient by the normed stream; the scores of the whole
//! vocabulary never exist at once.

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
    /// Entries of the vocabulary in a tile.
    step: usize,
    /// The head's tiles, where they are kept.
    kept: Option<Vec<Matrix>>,
}

impl<'a> Head<'a> {
    /// Reads the norm, and all else where it is to be kept.
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

    /// The mean loss of the tokens that count, and per group its gradient by `x`, `[tokens, hidden]`.
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
            sums.par_iter_mut().try_for_each(|sums| sums.add(tile.0, weights))?;
        }
        let count = sums.iter().map(|sums| sums.came.len()).sum::<usize>().max(1) as f64;
        let loss = sums.iter().flat_map(Sums::losses).sum::<f64>() / count;
        let grads = sums.into_iter().zip(x).map(|(sums, x)| sums.grad(&self.norm, x, count));
        Ok((loss, grads.collect()))
    }

    /// The tokens of a group that count, normed.
    fn begin(&self, options: &DecoderOptions, x: &Rows, group: &Group) -> Sums {
        let (rows, came): (Vec<usize>, Vec<u32>) = group.targets.iter().copied().unzip();
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
            came,
            largest: vec![f32::NEG_INFINITY; tokens],
            sums: vec![0.0; tokens],
            score: vec![0.0; tokens],
            mean: vec![0.0; tokens * options.hidden],
            own: vec![0.0; tokens * options.hidden],
        }
    }
}

/// What is known of a group's tokens so far.
struct Sums {
    rows: Vec<usize>,
    norm: Norm,
    normed: Rows,
    /// The tokens that came next.
    came: Vec<u32>,
    /// The largest score.
    largest: Vec<f32>,
    /// Sum of `exp(score - largest)`.
    sums: Vec<f64>,
    /// The score of the token that came.
    score: Vec<f32>,
    /// Sum of `exp(score - largest) W`, `[tokens, hidden]`.
    mean: Vec<f32>,
    /// `W` of the token that came.
    own: Vec<f32>,
}

impl Sums {
    /// The vocabulary's entries from `first` on, whose rows of the head are `weights`.
    fn add(&mut self, first: usize, weights: &Matrix) -> Result<()> {
        if self.came.is_empty() {
            return Ok(());
        }
        let (entries, hidden) = (weights.outputs(), self.normed.columns);
        let mut scores = weights.times(&self.normed)?;
        for (token, scores) in scores.rows_mut().enumerate() {
            let largest = scores.iter().fold(self.largest[token], |m, s| m.max(*s));
            let brought_down = (self.largest[token] - largest).exp();
            self.largest[token] = largest;
            self.mean[token * hidden..][..hidden].iter_mut().for_each(|x| *x *= brought_down);
            if let Some(score) = (self.came[token] as usize).checked_sub(first).and_then(|entry| scores.get(entry)) {
                self.score[token] = *score;
            }
            let mut sum = 0.0f64;
            for score in scores {
                *score = (*score - largest).exp();
                sum += f64::from(*score);
            }
            self.sums[token] = self.sums[token] * f64::from(brought_down) + sum;
        }
        let parts = weights.back(&scores)?.values;
        self.mean.iter_mut().zip(parts).for_each(|(mean, part)| *mean += part);
        for (token, came) in self.came.iter().enumerate() {
            let entry = (*came as usize).checked_sub(first).filter(|entry| *entry < entries);
            if let Some(entry) = entry {
                self.own[token * hidden..][..hidden].copy_from_slice(&weights.row(entry)?);
            }
        }
        Ok(())
    }

    fn losses(&self) -> impl Iterator<Item = f64> {
        let sums = self.sums.iter().zip(&self.largest).zip(&self.score);
        sums.map(|((sum, largest), score)| sum.ln() + f64::from(*largest) - f64::from(*score))
    }

    /// The gradient of the mean loss of `count` tokens by `x`.
    fn grad(self, weight: &[f32], x: &Rows, count: f64) -> Rows {
        let hidden = x.columns;
        let mut grad = Rows { columns: hidden, values: self.mean };
        for ((mean, own), sum) in grad.rows_mut().zip(self.own.chunks_exact(hidden.max(1))).zip(&self.sums) {
            mean.iter_mut().zip(own).for_each(|(m, own)| *m = ((f64::from(*m) / sum - f64::from(*own)) / count) as f32);
        }
        let of_rows = self.norm.down(weight, &grad);
        let mut below = Rows { columns: hidden, values: vec![0.0; x.values.len()] };
        for (row, grad) in self.rows.iter().zip(of_rows.rows()) {
            below.values[row * hidden..(row + 1) * hidden].copy_from_slice(grad);
        }
        below
    }
}
