//! The weight of spliced text in a fit, beside the whole text of the same expert.
//!
//! Spliced text teaches a router to follow a change of subject, whole text to use the context. How much of each is best
//! depends on the model: in wide ones, spliced text costs nothing on single subjects, in narrow ones it does. So each layer
//! is fitted with several weights, and held-out text decides ([`super::trial`]).

use super::statistics::Statistics;
use moerge_core::error::Result;
use moerge_infer::decoder::Activations;

/// The weights of an expert's spliced text that are tried besides [`EQUAL`]; its whole text has the weight 1.
pub(super) const OTHERS: [f64; 2] = [3.0, 0.25];

/// The weight with which a fit begins.
pub(super) const EQUAL: f64 = 1.0;

/// A token and its expert.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled {
    pub column: usize,
    pub expert: usize,
    /// Whether its sequence changes its expert.
    pub spliced: bool,
}

/// An expert's numbers of tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TextCounts {
    whole: usize,
    spliced: usize,
}

/// The weights of an expert's tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenWeights {
    whole: f64,
    spliced: f64,
}

impl TextCounts {
    pub fn add(&mut self, spliced: bool) {
        *(if spliced { &mut self.spliced } else { &mut self.whole }) += 1;
    }
}

impl TokenWeights {
    pub fn of(&self, spliced: bool) -> f64 {
        if spliced { self.spliced } else { self.whole }
    }
}

/// The weights of the tokens of each expert. Those of all tokens sum to 1, each expert has the same part of it, and its
/// spliced text has `spliced` times the part of its whole text.
pub(super) fn token_weights(counts: &[TextCounts], spliced: f64) -> Vec<TokenWeights> {
    let seen = counts.iter().filter(|n| n.whole + n.spliced > 0).count().max(1) as f64;
    let weights = |n: &TextCounts| {
        // Of an expert with one kind of text only, that has everything.
        let part = if n.whole == 0 {
            1.0
        } else if n.spliced == 0 {
            0.0
        } else {
            spliced / (1.0 + spliced)
        };
        let each = |part: f64, tokens: usize| part / (seen * tokens.max(1) as f64);
        TokenWeights { whole: each(1.0 - part, n.whole), spliced: each(part, n.spliced) }
    };
    counts.iter().map(weights).collect()
}

/// The statistics of whole and of spliced text.
pub(super) struct TextStatistics {
    whole: Statistics,
    spliced: Statistics,
}

impl TextStatistics {
    /// Empty sums, centred at the mean of `columns` of `u`.
    pub fn new(classes: usize, u: &Activations, columns: &[usize]) -> Self {
        let whole = Statistics::new(classes, u, columns);
        Self { spliced: whole.empty_copy(), whole }
    }

    /// Adds `columns` of `u` with their classes; `spliced` says of every column of `u` whether it is spliced text.
    pub fn add(
        &mut self,
        u: &Activations,
        (columns, classes): &(Vec<usize>, Vec<usize>),
        spliced: &[bool],
        moment: bool,
    ) -> Result<()> {
        for (kind, sums) in [(false, &mut self.whole), (true, &mut self.spliced)] {
            let own = columns.iter().zip(classes).filter(|(column, _)| spliced[**column] == kind);
            let (columns, classes): (Vec<usize>, Vec<usize>) = own.unzip();
            sums.add(u, &columns, &classes, moment)?;
        }
        Ok(())
    }

    /// The statistics of all text, in which spliced text has `weight` times the weight of whole text.
    pub fn weighted(&self, weight: f64) -> Statistics {
        let mut all = self.whole.clone();
        if self.spliced.tokens() > 0.0 {
            let equal = self.whole.tokens() / self.spliced.tokens();
            all.add_weighted(&self.spliced, if equal > 0.0 { weight * equal } else { 1.0 });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spliced_text_has_its_weight() {
        let counts = [(10, 5), (4, 0), (0, 2), (0, 0)].map(|(whole, spliced)| TextCounts { whole, spliced });
        for spliced in [0.0, 0.25, 1.0, 3.0] {
            let weights = token_weights(&counts, spliced);
            for (expert, n) in counts.iter().enumerate().take(3) {
                let all = weights[expert].whole * n.whole as f64 + weights[expert].spliced * n.spliced as f64;
                assert!((all - 1.0 / 3.0).abs() < 1e-12, "{expert} {spliced}");
            }
            let ratio = 5.0 * weights[0].spliced / (10.0 * weights[0].whole);
            assert!((ratio - spliced).abs() < 1e-12);
        }
    }
}
