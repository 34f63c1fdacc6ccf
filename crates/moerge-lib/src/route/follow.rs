//! Measures how fast the routers follow a text that changes its subject, on the given texts spliced into each other.

use super::texts::Tokenized;
use crate::{
    following::{FirstChoices, Following, places},
    splice::{SEGMENTS, SPLICED, splice},
};
use moerge_core::{
    error::Result,
    plan::Slots,
    progress::{Progress, Stage},
};
use moerge_infer::runner::Runner;

/// Maximum number of tokens of a text.
const TOKENS: usize = 2048;

/// Texts spliced into each other.
pub(super) struct SplicedTexts {
    sequences: Vec<Vec<u32>>,
    /// The expert of each token; `None` for bos.
    experts: Vec<Option<usize>>,
    places: Vec<Option<crate::following::Place>>,
}

impl SplicedTexts {
    /// The texts whose expert is known; `None` if these are fewer than two experts.
    pub fn new(texts: &[Tokenized]) -> Option<Self> {
        let known: Vec<(&Tokenized, usize)> = texts.iter().filter_map(|text| Some((text, text.expert?))).collect();
        let mut ids = Vec::new();
        let mut bos = None;
        let mut ranges = vec![Vec::new(); known.iter().map(|(_, expert)| expert + 1).max()?];
        for (text, expert) in &known {
            let mut tokens = 0;
            for (special, sequence) in text.sequences_with_special().take_while(|(_, sequence)| {
                tokens += sequence.len();
                tokens <= TOKENS || tokens == sequence.len()
            }) {
                bos = bos.or(sequence.first().copied().filter(|_| special > 0));
                let sequence = &sequence[special..sequence.len().min(special + TOKENS)];
                ranges[*expert].push(ids.len()..ids.len() + sequence.len());
                ids.extend(sequence);
            }
        }
        if ranges.iter().filter(|own| !own.is_empty()).count() < 2 {
            return None;
        }
        let mut spliced = Self { sequences: Vec::new(), experts: Vec::new(), places: Vec::new() };
        for segments in splice(&ranges, SEGMENTS, SPLICED, 0) {
            let mut sequence: Vec<u32> = bos.into_iter().collect();
            let mut starts = Vec::new();
            spliced.experts.extend(bos.map(|_| None));
            for segment in segments {
                starts.push(sequence.len());
                spliced.experts.extend(segment.tokens.clone().map(|_| Some(segment.text)));
                sequence.extend(&ids[segment.tokens]);
            }
            spliced.places.extend(places(&starts, sequence.len()));
            spliced.sequences.push(sequence);
        }
        Some(spliced)
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.experts.len()
    }

    /// How the model of `runner` follows them. Counts tokens as [`Stage::Score`].
    pub fn follow(&self, runner: &Runner<'_>, slots: &Slots, progress: &dyn Progress) -> Result<Following> {
        let mut first = FirstChoices::new(slots);
        for pass in self.sequences.chunks((runner.pass_tokens() / SPLICED).max(1)) {
            runner.forward(pass, &mut first, progress)?;
            progress.advance(Stage::Score, pass.iter().map(|sequence| sequence.len() as u64).sum());
        }
        Ok(first.following(&self.places, &self.experts))
    }
}
