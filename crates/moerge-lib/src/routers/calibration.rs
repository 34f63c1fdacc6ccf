//! The labelled tokens that routers are fitted to.

use moerge_core::{
    error::Result,
    plan::{Prompts, Routing},
    progress::Progress,
};
use moerge_infer::tokenizer::Tokenizer;

use super::{
    ExpertText,
    fit::{Class, Samples},
    long_text::{pieces, spread},
};

/// Maximum number of tokens of a sequence; longer texts are cut.
pub const WINDOW: usize = 512;

/// One sequence in this many is held out for measuring, or one token if there are fewer sequences.
const KEPT_BACK: usize = 5;

/// The text of an expert as sequences of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpertTokens {
    /// Text that the expert is for.
    pub positive: Vec<Vec<u32>>,
    /// Text that it is not for.
    pub negative: Vec<Vec<u32>>,
}

/// All sequences of a fit, with the labels of their tokens.
#[derive(Debug, Clone)]
pub struct Calibration {
    pub(super) sequences: Vec<Vec<u32>>,
    /// One label per token of the packed sequences.
    pub(super) samples: Samples,
}

impl ExpertTokens {
    /// Tokenizes `prompts`. Long texts are cut into sequences of [`WINDOW`] tokens, of which an evenly spaced subset of
    /// `max_tokens` tokens is used.
    pub fn of(prompts: &Prompts, tokenizer: &Tokenizer, max_tokens: usize, progress: &dyn Progress) -> Result<Self> {
        let tokens = |texts: &[String]| -> Result<Vec<Vec<u32>>> {
            let mut sequences = Vec::new();
            for piece in pieces(texts, max_tokens) {
                progress.check()?;
                sequences.extend(tokenizer.encode_windows(piece, WINDOW)?);
            }
            Ok(spread(sequences, Vec::len, max_tokens))
        };
        Ok(Self { positive: tokens(&prompts.positive)?, negative: tokens(&prompts.negative)? })
    }
}

impl From<ExpertText> for ExpertTokens {
    fn from(text: ExpertText) -> Self {
        Self { positive: text.samples.into_iter().map(|s| s.tokens).collect(), negative: Vec::new() }
    }
}

impl Calibration {
    /// Labels every token with the expert of its text. `shared` is the text of a shared expert that has a gate.
    pub fn new(experts: &[ExpertTokens], shared: Option<&ExpertTokens>) -> Self {
        let texts = experts
            .iter()
            .enumerate()
            .flat_map(|(e, tokens)| [(Class::Expert(e), &tokens.positive), (Class::NotExpert(e), &tokens.negative)]);
        let texts = texts.chain(shared.map(|tokens| (Class::Shared, &tokens.positive)));
        let mut calibration =
            Self { sequences: Vec::new(), samples: Samples { classes: Vec::new(), held_out: Vec::new() } };
        for (class, sequences) in texts {
            calibration.add(class, sequences);
        }
        calibration.pass_over_first_tokens();
        calibration
    }

    fn add(&mut self, class: Class, sequences: &[Vec<u32>]) {
        let whole = sequences.len() >= KEPT_BACK;
        let mut tokens = 0;
        for (index, sequence) in sequences.iter().enumerate() {
            for _ in sequence {
                tokens += 1;
                self.samples.classes.push(Some(class));
                // Tokens of a sequence are similar; holding out whole sequences says more about unseen text.
                let place = if whole { index + 1 } else { tokens };
                self.samples.held_out.push(place % KEPT_BACK == 0);
            }
            self.sequences.push(sequence.clone());
        }
    }

    /// Whether all sequences begin with the same token (bos). It says nothing about the expert: its vector is the same
    /// in all of them, and far from all others.
    fn pass_over_first_tokens(&mut self) {
        let mut firsts = self.sequences.iter().map(|s| s.first());
        let first = firsts.next().flatten();
        if self.sequences.len() < 2 || !firsts.all(|f| f == first) {
            return;
        }
        for range in moerge_infer::decoder::ranges(&self.sequences) {
            if range.len() > 1 {
                self.samples.classes[range.start] = None;
            }
        }
    }

    /// The number of tokens of `expert`, and how many of them are held out.
    pub(super) fn tokens_of(&self, expert: usize) -> (usize, usize) {
        let own = |class: &Option<Class>| *class == Some(Class::Expert(expert));
        let tokens = self.samples.classes.iter().zip(&self.samples.held_out).filter(|(class, _)| own(class));
        tokens.fold((0, 0), |(all, held), (_, h)| (all + 1, held + usize::from(*h)))
    }

    /// The sequences that belong to an expert: all, or an evenly spaced subset of about `most` tokens.
    pub(crate) fn texts_of_experts(&self, most: usize) -> Vec<Vec<u32>> {
        let of_experts = |range: &std::ops::Range<usize>| {
            self.samples.classes[range.clone()].iter().any(|class| matches!(class, Some(Class::Expert(_))))
        };
        let ranges = moerge_infer::decoder::ranges(&self.sequences);
        let texts = self.sequences.iter().zip(ranges).filter(|(_, range)| of_experts(range));
        spread(texts.map(|(sequence, _)| sequence.clone()).collect(), Vec::len, most)
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.samples.classes.len()
    }
}

/// The tokenized texts of the recipe: the experts', and that of a shared expert with a gate.
pub fn recipe_texts(
    routing: &Routing,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<(Vec<ExpertTokens>, Option<ExpertTokens>)> {
    let tokens = |prompts: &Prompts| ExpertTokens::of(prompts, tokenizer, routing.fit.tokens, progress);
    let experts = routing.experts.iter().map(tokens).collect::<Result<_>>()?;
    Ok((experts, routing.shared_expert.as_ref().map(tokens).transpose()?))
}

/// The lengths in tokens of the sequences of the recipe's texts.
pub fn text_lengths(routing: &Routing, tokenizer: &Tokenizer, progress: &dyn Progress) -> Result<Vec<usize>> {
    let (experts, shared) = recipe_texts(routing, tokenizer, progress)?;
    let sequences = |tokens: ExpertTokens| tokens.positive.into_iter().chain(tokens.negative);
    Ok(experts.into_iter().chain(shared).flat_map(sequences).map(|sequence| sequence.len()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_labelled_and_some_kept_back() {
        let many = ExpertTokens { positive: vec![vec![1, 7, 8]; 10], negative: vec![vec![1, 9]] };
        let few = ExpertTokens { positive: vec![vec![1, 2, 3, 4, 5, 6]], negative: Vec::new() };
        let calibration = Calibration::new(&[many, few], None);
        assert_eq!(calibration.tokens(), 30 + 2 + 6);
        // The first token, the same in all, is unlabelled.
        assert_eq!(calibration.tokens_of(0), (20, 4), "every fifth sequence");
        assert_eq!(calibration.tokens_of(1), (5, 1), "every fifth token");
        assert_eq!(calibration.samples.classes[31], Some(Class::NotExpert(0)));
    }
}
