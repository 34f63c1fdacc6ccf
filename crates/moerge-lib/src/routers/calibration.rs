//! The labelled tokens that routers are fitted to.

use std::ops::Range;

use moerge_core::{
    error::Result,
    plan::{Prompts, Routing},
    progress::Progress,
};
use moerge_infer::{decoder::ranges, tokenizer::Tokenizer};

use super::{
    ExpertText,
    fit::{Class, Samples},
    long_text::{pieces, spread},
};
use crate::{
    following::{Place, places},
    splice::{SEGMENTS, SPLICED, Segment, splice},
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
    /// Where each token is in its sequence; `None` for bos.
    pub(super) places: Vec<Option<Place>>,
    owners: Vec<Owner>,
    /// The token that all sequences begin with, if they do. It is unlabelled: it says nothing about the expert, and its
    /// vector is the same in all sequences, and far from all others.
    bos: Option<u32>,
}

/// Whose text a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Expert(usize),
    /// Segments of several experts' text.
    Experts,
    /// Text that an expert is not for, or that of a shared expert.
    Other,
}

/// A sequence of a calibration.
struct Labelled {
    tokens: Vec<u32>,
    classes: Vec<Option<Class>>,
    held_out: Vec<bool>,
    owner: Owner,
    /// Where its segments start.
    starts: Vec<usize>,
}

impl ExpertTokens {
    /// Tokenizes `prompts`. Long texts are cut into sequences of [`WINDOW`] tokens, of which an evenly spaced subset of
    /// `max_tokens` tokens is used.
    ///
    /// # Errors
    /// A text cannot be tokenized, or the user stops the run.
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

impl Owner {
    fn expert(&self) -> Option<usize> {
        if let Self::Expert(expert) = self { Some(*expert) } else { None }
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
        let texts: Vec<(Class, &Vec<Vec<u32>>)> = texts.collect();
        let mut calibration = Self::empty(first_token_of_all(texts.iter().flat_map(|(_, sequences)| *sequences)));
        for (class, sequences) in texts {
            calibration.add(class, sequences);
        }
        calibration
    }

    fn empty(bos: Option<u32>) -> Self {
        let samples = Samples { classes: Vec::new(), held_out: Vec::new() };
        Self { sequences: Vec::new(), samples, places: Vec::new(), owners: Vec::new(), bos }
    }

    fn add(&mut self, class: Class, sequences: &[Vec<u32>]) {
        let whole = sequences.len() >= KEPT_BACK;
        let owner = if let Class::Expert(expert) = class { Owner::Expert(expert) } else { Owner::Other };
        let mut before = 0;
        for (index, tokens) in sequences.iter().enumerate() {
            let start = usize::from(self.bos.is_some() && tokens.len() > 1);
            // Tokens of a sequence are similar; holding out whole sequences says more about unseen text.
            let held_out = |token| (if whole { index } else { before + token } + 1).is_multiple_of(KEPT_BACK);
            self.push(Labelled {
                classes: (0..tokens.len()).map(|token| (token >= start).then_some(class)).collect(),
                held_out: (0..tokens.len()).map(held_out).collect(),
                tokens: tokens.clone(),
                owner,
                starts: vec![start],
            });
            before += tokens.len();
        }
    }

    fn push(&mut self, sequence: Labelled) {
        self.places.extend(places(&sequence.starts, sequence.tokens.len()));
        self.samples.classes.extend(sequence.classes);
        self.samples.held_out.extend(sequence.held_out);
        self.sequences.push(sequence.tokens);
        self.owners.push(sequence.owner);
    }

    /// These sequences, and the experts' text again in sequences that change their expert. A token keeps its label.
    ///
    /// At most `max_tokens` tokens of an expert are in both together: a longer text is shared out.
    pub(super) fn with_spliced(&self, max_tokens: usize, seed: u64) -> Self {
        let ranges = ranges(&self.sequences);
        let of = |owner: Owner| (0..ranges.len()).filter(move |s| self.owners[*s] == owner);
        let experts = self.owners.iter().filter_map(Owner::expert).max().map_or(0, |last| last + 1);
        let mut whole: Vec<usize> = of(Owner::Other).collect();
        let mut texts = Vec::new();
        for expert in 0..experts {
            let own: Vec<usize> = of(Owner::Expert(expert)).collect();
            let (kept, cut) = shared_out(&own, |s| ranges[*s].len(), max_tokens);
            texts.push(cut.iter().map(|s| self.labelled(ranges[*s].clone())).collect());
            whole.extend(kept);
        }
        whole.sort_unstable();

        let mut both = Self::empty(self.bos);
        for sequence in whole {
            let columns = ranges[sequence].clone();
            both.push(Labelled {
                tokens: self.sequences[sequence].clone(),
                starts: vec![columns.len() - self.labelled(columns.clone()).len()],
                classes: self.samples.classes[columns.clone()].to_vec(),
                held_out: self.samples.held_out[columns].to_vec(),
                owner: self.owners[sequence],
            });
        }
        let ids = self.sequences.concat();
        for segments in splice(&texts, SEGMENTS, SPLICED, seed) {
            let mut spliced = Labelled {
                tokens: self.bos.into_iter().collect(),
                classes: self.bos.map(|_| None).into_iter().collect(),
                held_out: self.bos.map(|_| false).into_iter().collect(),
                owner: Owner::Experts,
                starts: Vec::new(),
            };
            for Segment { tokens: columns, .. } in segments {
                spliced.starts.push(spliced.tokens.len());
                spliced.tokens.extend(&ids[columns.clone()]);
                spliced.classes.extend(&self.samples.classes[columns.clone()]);
                spliced.held_out.extend(&self.samples.held_out[columns]);
            }
            both.push(spliced);
        }
        both
    }

    /// The columns of a sequence without bos.
    fn labelled(&self, columns: Range<usize>) -> Range<usize> {
        let bos = self.bos.is_some() && columns.len() > 1;
        columns.start + usize::from(bos)..columns.end
    }

    /// The number of tokens of `expert`, and how many of them are held out.
    pub(super) fn tokens_of(&self, expert: usize) -> (usize, usize) {
        let own = |class: &Option<Class>| *class == Some(Class::Expert(expert));
        let tokens = self.samples.classes.iter().zip(&self.samples.held_out).filter(|(class, _)| own(class));
        tokens.fold((0, 0), |(all, held), (_, h)| (all + 1, held + usize::from(*h)))
    }

    /// The sequences of single experts: all, or an evenly spaced subset of about `most` tokens.
    pub(crate) fn texts_of_experts(&self, most: usize) -> Vec<Vec<u32>> {
        let texts = self.sequences.iter().zip(&self.owners).filter(|(_, owner)| owner.expert().is_some());
        spread(texts.map(|(sequence, _)| sequence.clone()).collect(), Vec::len, most)
    }

    /// The numbers of some sequences of experts, single or several, of about `most` tokens.
    pub(super) fn some_of_experts(&self, most: usize) -> Vec<usize> {
        let of_experts = (0..self.sequences.len()).filter(|s| self.owners[*s] != Owner::Other);
        spread(of_experts.collect(), |s| self.sequences[*s].len(), most)
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.samples.classes.len()
    }
}

/// The token that all `sequences` begin with, if there are several and they do.
fn first_token_of_all<'a>(mut sequences: impl Iterator<Item = &'a Vec<u32>>) -> Option<u32> {
    let first = *sequences.next()?.first()?;
    let mut others = sequences.peekable();
    (others.peek().is_some() && others.all(|s| s.first() == Some(&first))).then_some(first)
}

/// The sequences of an expert that are used whole, and those that are cut into segments. Of at most `max_tokens` tokens that
/// are read, a third are whole and two thirds in segments; they are of different sequences if there are enough, otherwise
/// all are cut, and half of them also used whole.
fn shared_out<T: Copy + PartialEq>(all: &[T], len: impl Fn(&T) -> usize, max_tokens: usize) -> (Vec<T>, Vec<T>) {
    let tokens: usize = all.iter().map(&len).sum();
    let read = max_tokens.min(tokens + tokens / 2);
    let whole = spread(all.to_vec(), &len, read / 3);
    let mut room = read.saturating_sub(whole.iter().map(&len).sum());
    let unused = all.iter().filter(|s| !whole.contains(s));
    let mut cut: Vec<T> = Vec::new();
    for sequence in unused.chain(&whole) {
        if !cut.is_empty() && len(sequence) > room {
            break;
        }
        room = room.saturating_sub(len(sequence));
        cut.push(*sequence);
    }
    (whole, cut)
}

/// The tokenized texts of the recipe: the experts', and that of a shared expert with a gate.
///
/// # Errors
/// A text cannot be tokenized, or the user stops the run.
pub fn recipe_texts(
    routing: &Routing,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<(Vec<ExpertTokens>, Option<ExpertTokens>)> {
    let tokens = |prompts: &Prompts| ExpertTokens::of(prompts, tokenizer, routing.fit.tokens, progress);
    let experts = routing.experts.iter().map(tokens).collect::<Result<_>>()?;
    Ok((experts, routing.shared_expert.as_ref().map(tokens).transpose()?))
}

/// The lengths in tokens of the sequences of a fit.
#[derive(Debug, Clone, Default)]
pub struct TextLengths {
    /// Of each expert's text.
    pub experts: Vec<Vec<usize>>,
    /// Of text that an expert is not for, or of a shared expert.
    pub others: Vec<usize>,
}

impl TextLengths {
    /// The lengths of the recipe's texts.
    ///
    /// # Errors
    /// A text cannot be tokenized, or the user stops the run.
    pub fn of_recipe(routing: &Routing, tokenizer: &Tokenizer, progress: &dyn Progress) -> Result<Self> {
        let (experts, shared) = recipe_texts(routing, tokenizer, progress)?;
        let lengths = |sequences: &Vec<Vec<u32>>| sequences.iter().map(Vec::len).collect::<Vec<_>>();
        let shared = shared.iter().flat_map(|tokens| [&tokens.positive, &tokens.negative]);
        Ok(Self {
            experts: experts.iter().map(|tokens| lengths(&tokens.positive)).collect(),
            others: experts.iter().map(|tokens| &tokens.negative).chain(shared).flat_map(lengths).collect(),
        })
    }

    /// All lengths.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        self.experts.iter().flatten().chain(&self.others).copied()
    }

    /// The lengths of the sequences of a fit that also splices the text, at most.
    pub(super) fn with_spliced(&self, max_tokens: usize) -> Vec<usize> {
        let mut lengths = self.others.clone();
        let mut spliced = 0;
        for expert in &self.experts {
            let sequences: Vec<usize> = (0..expert.len()).collect();
            let (whole, cut) = shared_out(&sequences, |s| expert[*s], max_tokens);
            lengths.extend(whole.into_iter().map(|s| expert[s]));
            spliced += cut.into_iter().map(|s| expert[s]).sum::<usize>();
        }
        // Less than a segment of each sequence is unused, and each begins with bos.
        let sequences = spliced.div_ceil(SPLICED - SEGMENTS.min) + 1;
        lengths.extend(std::iter::repeat_n(SPLICED + 1, sequences));
        lengths
    }
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
    #[test]
    fn spliced_tokens_keep_their_labels() {
        let text = |first: u32| ExpertTokens {
            positive: (0..10).map(|s| (0..41).map(|t| if t == 0 { 1 } else { first + 40 * s + t }).collect()).collect(),
            negative: Vec::new(),
        };
        let plain = Calibration::new(&[text(1000), text(5000)], None);
        let both = plain.with_spliced(usize::MAX, 7);
        let (whole, spliced) = both.sequences.split_at(10);
        assert!(whole.iter().all(|s| plain.sequences.contains(s)), "every other one");
        assert!(spliced.iter().all(|s| s[0] == 1 && s.len() <= SPLICED + 1));
        let held_out: Vec<(u32, bool)> =
            plain.sequences.concat().into_iter().zip(plain.samples.held_out.clone()).collect();
        let columns = both.sequences.concat();
        for (column, token) in columns.iter().enumerate().filter(|(_, token)| **token != 1) {
            assert_eq!(both.samples.classes[column], Some(Class::Expert(usize::from(*token > 5000))));
            assert!(held_out.contains(&(*token, both.samples.held_out[column])));
            let place = both.places[column].unwrap();
            let changed =
                column.checked_sub(1 + place.distance).map(|before| (columns[before], both.samples.classes[before]));
            assert!(changed.is_some_and(|(token, class)| token == 1 || class != both.samples.classes[column]));
        }
        let spliced = both.tokens() - 10 * 41;
        assert!((700..=820).contains(&spliced), "{spliced}");

        let lengths = TextLengths { experts: vec![vec![41; 10]; 2], others: Vec::new() };
        for (max_tokens, whole) in [(usize::MAX, 10), (615, 10), (410, 6)] {
            let both = plain.with_spliced(max_tokens, 7);
            assert_eq!(both.sequences.iter().filter(|s| plain.sequences.contains(s)).count(), whole, "{max_tokens}");
            assert!(lengths.with_spliced(max_tokens).iter().sum::<usize>() >= both.tokens());
        }
    }
}
