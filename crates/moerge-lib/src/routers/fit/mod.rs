//! Fits one layer's router to labelled router inputs.
//!
//! Fisher's linear discriminant with shrinkage: `w_i = S^-1 (mu_i - mu)`, where `mu_i` is the mean router input of
//! the texts of expert i, `mu` the mean of these means, and `S` the pooled covariance within the classes, shrunk towards
//! a multiple of the identity (Friedman 1989; Ledoit and Wolf 2004). [`GateMode::RouterInput`] omits `S`. Logistic
//! regression refines the rows if that raises the likelihood of held-out tokens.
//!
//! [`statistics`] accumulates sums, [`discriminant`] computes rows, [`logistic`] refines them, [`temperature`] calibrates
//! their softmax, and [`scores()`] measures how well they route. Nothing here reads files or depends on the number of
//! threads.

mod conjugate_gradients;
mod discriminant;
mod l_bfgs;
mod logistic;
mod scores;
mod statistics;
mod temperature;

pub(super) use scores::{Confusion, load, scores};

use std::borrow::Cow;

use discriminant::rows;
pub(super) use logistic::bytes as regression_bytes;
use logistic::{PENALTY, Regression};
use moerge_core::{error::Result, recipe::GateMode};
use moerge_infer::decoder::Activations;
use scores::{ranked, right};
use statistics::Statistics;
pub(super) use statistics::bytes as statistics_bytes;

/// Standard errors by which regression has to beat the discriminant. On a few hundred self-written tokens, a smaller gain
/// was a loss on other text (examples/tiny).
const SURE: f64 = 2.0;

/// What is known about the expert of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It belongs to this expert.
    Expert(usize),
    /// It does not belong to this expert.
    NotExpert(usize),
    /// It belongs to the shared expert.
    Shared,
}

/// Labels of the tokens, one per column.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    /// The class of each, if known.
    pub classes: Vec<Option<Class>>,
    /// Which tokens are held out for measuring.
    pub held_out: Vec<bool>,
}

/// What to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    /// The method: class means or discriminants.
    pub mode: GateMode,
    /// Number of routed experts.
    pub experts: usize,
    /// Whether there is a shared expert with a gate.
    pub shared: bool,
}

/// One layer's router, and its performance on held-out tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerFit {
    /// `[experts, hidden]`.
    pub gate: Vec<f32>,
    /// The shared expert's `[1, hidden]`.
    pub shared_gate: Option<Vec<f32>>,
    /// Held-out tokens by their own expert and by the router's first choice.
    pub confusion: Confusion,
    /// The columns of these tokens, each with whether the first choice is its own expert.
    pub right: Vec<(usize, bool)>,
    /// The temperature that the rows were divided by.
    pub temperature: f64,
    /// The penalty of the regression; 0 for the discriminant's rows.
    pub penalty: f64,
}

/// Rows fitted without the held-out tokens, and their loss on those.
struct Trial {
    penalty: f64,
    rows: Vec<Vec<f64>>,
    scores: Vec<Vec<f64>>,
    temperature: f64,
    /// Cross entropy of each held-out token at that temperature.
    losses: Vec<f64>,
}

impl Class {
    /// Its index among the sums: the experts, then the shared expert. A negative label has none.
    fn index(self, experts: usize) -> Option<usize> {
        match self {
            Self::Expert(e) => Some(e),
            Self::NotExpert(_) => None,
            Self::Shared => Some(experts),
        }
    }
}

impl Samples {
    /// The columns of the tokens that are `held_out` or not, with the index of their class.
    fn select(&self, held_out: bool, experts: usize) -> (Vec<usize>, Vec<usize>) {
        let tokens = self.classes.iter().zip(&self.held_out).enumerate();
        let wanted = tokens.filter(|(_, (_, held))| **held == held_out);
        wanted.filter_map(|(column, (class, _))| Some((column, (*class)?.index(experts)?))).unzip()
    }

    /// The columns of all tokens of experts with their experts; without held-out tokens unless `all`.
    fn of_experts(&self, all: bool, experts: usize) -> (Vec<usize>, Vec<usize>) {
        let tokens = self.classes.iter().zip(&self.held_out).enumerate();
        let wanted = tokens.filter(|(_, (_, held))| all || !**held);
        wanted
            .filter_map(|(column, (class, _))| Some((column, (*class)?.index(experts).filter(|e| *e < experts)?)))
            .unzip()
    }

    /// The same tokens for the experts that are `members` of a layer, renumbered. Labels of other experts are dropped.
    pub fn among(&self, members: &[usize]) -> Self {
        let place = |expert: &usize| members.iter().position(|e| e == expert);
        let class = |class: &Option<Class>| match class.as_ref()? {
            Class::Expert(expert) => place(expert).map(Class::Expert),
            Class::NotExpert(expert) => place(expert).map(Class::NotExpert),
            Class::Shared => Some(Class::Shared),
        };
        Self { classes: self.classes.iter().map(class).collect(), held_out: self.held_out.clone() }
    }

    /// The same for held-out tokens that belong to an expert.
    fn experts_held_out(&self, experts: usize) -> (Vec<usize>, Vec<usize>) {
        let (columns, labels) = self.select(true, experts);
        columns.into_iter().zip(labels).filter(|(_, label)| *label < experts).unzip()
    }

    /// Assigns negative text of an expert to the other expert that scores it highest.
    fn without_negatives(&self, u: &Activations, shape: Shape) -> Result<Cow<'_, Self>> {
        let negative = |(column, class): (usize, &Option<Class>)| match class {
            Some(Class::NotExpert(expert)) => Some((column, *expert)),
            _ => None,
        };
        let negatives: Vec<(usize, usize)> = self.classes.iter().enumerate().filter_map(negative).collect();
        if negatives.is_empty() {
            return Ok(Cow::Borrowed(self));
        }
        let (known, classes) = self.select(false, shape.experts);
        let mut statistics = Statistics::new(shape.experts + 1, u, &known);
        statistics.add(u, &known, &classes, shape.covariance());
        let columns: Vec<usize> = negatives.iter().map(|(column, _)| *column).collect();
        let scores = scores(&rows(&statistics, shape).experts, u, &columns);
        let mut settled = self.clone();
        for (token, (column, expert)) in negatives.into_iter().enumerate() {
            let best = ranked(&scores, token).into_iter().find(|e| *e != expert);
            settled.classes[column] = best.map(Class::Expert);
        }
        Ok(Cow::Owned(settled))
    }
}

impl Shape {
    /// Whether the covariance within the classes is used.
    fn covariance(self) -> bool {
        self.mode != GateMode::RouterInput
    }
}

/// Fits the router of a layer whose router inputs are `u`, a column per sample.
///
/// The temperature, the penalty and the confusion are measured on held-out tokens with rows fitted to the others; the
/// returned rows are fitted to all tokens.
pub(super) fn fit(u: &Activations, samples: &Samples, shape: Shape) -> Result<LayerFit> {
    let experts = shape.experts;
    let (columns, labels) = samples.experts_held_out(experts);
    let samples = samples.without_negatives(u, shape)?;
    let (train, train_classes) = samples.select(false, experts);
    let (held, held_classes) = samples.select(true, experts);

    let mut statistics = Statistics::new(experts + 1, u, &train);
    statistics.add(u, &train, &train_classes, shape.covariance());
    let attempt = |penalty, rows: Vec<Vec<f64>>| Trial::new(penalty, rows, u, &columns, &labels);
    let mut best = attempt(0.0, rows(&statistics, shape).experts);
    let discriminant_temperature = best.temperature;
    if shape.covariance() && experts > 1 && !labels.is_empty() {
        let regression = Regression::new(u, &samples.of_experts(false, experts), experts);
        let discriminant = divided(&best.rows, discriminant_temperature);
        let refined = attempt(PENALTY, regression.rows(&discriminant, &discriminant));
        if refined.surely_better_than(&best) {
            best = refined;
        }
    }

    statistics.add(u, &held, &held_classes, shape.covariance());
    let mut fitted = rows(&statistics, shape);
    if best.penalty > 0.0 {
        let regression = Regression::new(u, &samples.of_experts(true, experts), experts);
        let discriminant = divided(&fitted.experts, discriminant_temperature);
        fitted.experts = regression.rows(&best.rows, &discriminant);
    }
    let gate = fitted.experts.iter().flatten().map(|w| (w / best.temperature) as f32).collect();
    let shared_gate = fitted.shared.map(|row| row.into_iter().map(|w| w as f32).collect());
    let confusion = Confusion::new(experts, &best.scores, &labels);
    let right = columns.into_iter().zip(right(&best.scores, &labels)).collect();
    Ok(LayerFit { gate, shared_gate, confusion, right, temperature: best.temperature, penalty: best.penalty })
}

impl Trial {
    fn new(penalty: f64, rows: Vec<Vec<f64>>, u: &Activations, columns: &[usize], labels: &[usize]) -> Self {
        let scores = scores(&rows, u, columns);
        let temperature = temperature::temperature(&scores, labels);
        let losses = temperature::losses(&scores, labels, 1.0 / temperature).collect();
        Self { penalty, rows, scores, temperature, losses }
    }

    /// Whether its loss is lower than `other`'s by more than [`SURE`] standard errors of the mean difference.
    fn surely_better_than(&self, other: &Self) -> bool {
        let gains: Vec<f64> = other.losses.iter().zip(&self.losses).map(|(other, own)| other - own).collect();
        let count = gains.len().max(1) as f64;
        let mean = gains.iter().sum::<f64>() / count;
        let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / count;
        mean > SURE * (variance / count).sqrt()
    }
}

/// The rows, each divided by `temperature`.
fn divided(rows: &[Vec<f64>], temperature: f64) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|w| w / temperature).collect()).collect()
}

/// The direction along which all router inputs `u` are about 1: adding `c` times it to a row adds the constant `c` to the
/// scores.
pub(super) fn common_direction(u: &Activations, samples: &Samples, shape: Shape) -> Result<Vec<f64>> {
    let parts = [false, true].map(|held_out| samples.select(held_out, shape.experts));
    let [(mut columns, mut classes), (held, held_classes)] = parts;
    columns.extend(held);
    classes.extend(held_classes);
    let mut statistics = Statistics::new(shape.experts + 1, u, &columns);
    statistics.add(u, &columns, &classes, shape.covariance());
    Ok(discriminant::common(&statistics, shape))
}

/// Measures an existing router `gate` on held-out tokens; its rows were divided by `temperature`.
pub(super) fn given(gate: Vec<f32>, temperature: f64, u: &Activations, samples: &Samples, shape: Shape) -> LayerFit {
    let (columns, labels) = samples.experts_held_out(shape.experts);
    let row = |row: &[f32]| row.iter().map(|w| f64::from(*w)).collect();
    let rows: Vec<Vec<f64>> = gate.chunks(u.features().max(1)).map(row).collect();
    let scores = scores(&rows, u, &columns);
    let confusion = Confusion::new(shape.experts, &scores, &labels);
    let right = columns.into_iter().zip(right(&scores, &labels)).collect();
    LayerFit { gate, shared_gate: None, confusion, right, temperature, penalty: 0.0 }
}

#[cfg(test)]
mod tests;
