//! Runs a model on whole texts: from memory if it fits, else streamed layer by layer.

use crate::decoder::{
    Activations, Divergence, KvCache, Observer, Pass, Quantisation, ResidentModel, Weights, divergences, forward,
    log_probabilities, logits,
};
use moerge_core::{
    error::{Error, Result},
    model::families::DecoderOptions,
    progress::Progress,
};

/// Scores that exist at once: 64 MB, so that a large vocabulary times many tokens never does. Streaming reads the head
/// again for each block, so its blocks are larger.
const SCORES_IN_MEMORY: usize = 16 << 20;
const SCORES_STREAMED: usize = 64 << 20;
/// Tokens of a pass over the weights: enough for the products to be worth it, and few enough for the activations.
const TOKENS_IN_MEMORY: usize = 2048;
const TOKENS_STREAMED: usize = 8192;

/// How a model is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    /// How its weights are kept in memory.
    pub quantisation: Quantisation,
    /// Bytes that they may take; a model that needs more is streamed.
    pub memory: u64,
    /// Stream it in any case.
    pub stream: bool,
}

/// A model that can be run.
pub struct Runner<'a> {
    weights: Box<dyn Weights + 'a>,
    resident: Option<ResidentModel>,
}

/// Tokens whose successors are to be scored, with those before them.
#[derive(Debug, Clone)]
pub struct Continuations {
    /// What they all follow; at least a token.
    pub context: Vec<u32>,
    /// Each at least a token.
    pub endings: Vec<Vec<u32>>,
}

impl<'a> Runner<'a> {
    /// Reads the weights into memory, or says that they will be streamed.
    pub fn new(weights: Box<dyn Weights + 'a>, placement: Placement, progress: &dyn Progress) -> Result<Self> {
        let need = ResidentModel::bytes(weights.description(), placement.quantisation);
        let fits = need <= placement.memory;
        if !fits && !placement.stream {
            progress.note(&format!(
                "streaming the weights from disk, in f32: in memory they would take {:.1} GiB of the {:.1} GiB allowed",
                need as f64 / (1u64 << 30) as f64,
                placement.memory as f64 / (1u64 << 30) as f64,
            ));
        }
        let resident = (fits && !placement.stream)
            .then(|| ResidentModel::load(weights.as_ref(), placement.quantisation, progress))
            .transpose()?;
        Ok(Self { weights, resident })
    }

    /// How the model runs.
    pub fn options(&self) -> &DecoderOptions {
        &self.weights.description().decoder
    }

    /// The model in memory, if it is.
    pub fn resident(&self) -> Option<&ResidentModel> {
        self.resident.as_ref()
    }

    /// Tokens that one pass should have.
    pub fn pass_tokens(&self) -> usize {
        if self.resident.is_some() { TOKENS_IN_MEMORY } else { TOKENS_STREAMED }
    }

    /// The residual stream that leaves the last layer over `sequences`, packed in order.
    pub fn forward(
        &self,
        sequences: &[Vec<u32>],
        observer: &mut dyn Observer,
        progress: &dyn Progress,
    ) -> Result<Activations> {
        match &self.resident {
            Some(model) => model.forward_whole(sequences, observer, progress),
            None => forward(self.weights.as_ref(), sequences, Pass::default(), observer, progress),
        }
    }

    /// Natural logarithms of the probability that token `.1` follows column `.0` of `x`, the stream that left the last
    /// layer. Computed in blocks of columns.
    pub fn log_probabilities(
        &self,
        x: &Activations,
        wanted: &[(usize, u32)],
        progress: &dyn Progress,
    ) -> Result<Vec<f64>> {
        let vocabulary = self.options().vocabulary;
        if let Some((_, id)) = wanted.iter().find(|(_, id)| *id as usize >= vocabulary) {
            let message = format!("the tokenizer gave token {id}, but the model's embeddings have {vocabulary} rows");
            return Err(Error::input(message).hint("tokenizer.json and config.json must be of the same model"));
        }
        let scores = if self.resident.is_some() { SCORES_IN_MEMORY } else { SCORES_STREAMED };
        let mut found = Vec::with_capacity(wanted.len());
        for block in wanted.chunks((scores / vocabulary.max(1)).max(1)) {
            progress.check()?;
            let (columns, targets): (Vec<usize>, Vec<u32>) = block.iter().copied().unzip();
            let x = x.gather(&columns);
            found.extend(log_probabilities(&self.scores(&x, progress)?, &targets));
        }
        Ok(found)
    }

    /// How far the predictions of this model are from those of `reference` in `columns` of `x` and of `reference_x`, the
    /// streams that left their last layers. Computed in blocks of columns.
    ///
    /// # Errors
    /// The models have vocabularies of different sizes.
    pub fn divergences(
        &self,
        x: &Activations,
        (reference, reference_x): (&Self, &Activations),
        columns: &[usize],
        progress: &dyn Progress,
    ) -> Result<Vec<Divergence>> {
        let vocabulary = self.options().vocabulary;
        if vocabulary != reference.options().vocabulary {
            return Err(Error::input("models with different vocabularies cannot be compared token by token")
                .fact("rows of the embeddings", format!("{} and {vocabulary}", reference.options().vocabulary)));
        }
        let mut found = Vec::with_capacity(columns.len());
        // Two models' scores exist at once.
        for block in columns.chunks((SCORES_IN_MEMORY / 2 / vocabulary.max(1)).max(1)) {
            progress.check()?;
            let scores = self.scores(&x.gather(block), progress)?;
            found.extend(divergences(&reference.scores(&reference_x.gather(block), progress)?, &scores));
        }
        Ok(found)
    }

    /// Next-token logits of the columns of `x`.
    fn scores(&self, x: &Activations, progress: &dyn Progress) -> Result<Activations> {
        match &self.resident {
            Some(model) => model.logits(x),
            None => logits(self.weights.as_ref(), x, progress),
        }
    }

    /// For each of `items`, the log probability of each token of each of its endings.
    ///
    /// In memory a context is computed once for all its endings; streamed, all sequences go through the layers
    /// together.
    pub fn continuations(&self, items: &[Continuations], progress: &dyn Progress) -> Result<Vec<Vec<Vec<f64>>>> {
        // The token after the last of an ending is nobody's question.
        let inputs = |ending: &Vec<u32>| ending[..ending.len().saturating_sub(1)].to_vec();
        let (x, wanted) = match &self.resident {
            None => {
                let (mut sequences, mut wanted, mut column) = (Vec::new(), Vec::new(), 0);
                for item in items {
                    for ending in &item.endings {
                        column += item.context.len();
                        wanted.extend((column - 1..).zip(ending.iter().copied()));
                        let sequence = [&item.context[..], &inputs(ending)].concat();
                        column += sequence.len() - item.context.len();
                        sequences.push(sequence);
                    }
                }
                (self.forward(&sequences, &mut (), progress)?, wanted)
            }
            Some(model) => {
                let endings: usize = items.iter().map(|item| item.endings.len()).sum();
                let mut cache = KvCache::new(model.options(), items.len() + endings);
                let contexts: Vec<(usize, &[u32])> =
                    items.iter().enumerate().map(|(i, item)| (i, &item.context[..])).collect();
                let first = model.forward(&mut cache, &contexts, &mut (), progress)?;
                let (mut rest, mut slot) = (Vec::new(), items.len());
                for (index, item) in items.iter().enumerate() {
                    for ending in &item.endings {
                        if ending.len() > 1 {
                            cache.copy(index, slot);
                            rest.push((slot, inputs(ending)));
                        }
                        slot += 1;
                    }
                }
                let next: Vec<(usize, &[u32])> = rest.iter().map(|(slot, tokens)| (*slot, &tokens[..])).collect();
                let second = if next.is_empty() {
                    Activations::zeros(first.features(), 0)
                } else {
                    model.forward(&mut cache, &next, &mut (), progress)?
                };
                let (mut wanted, mut last, mut column) = (Vec::new(), 0, first.tokens());
                for item in items {
                    last += item.context.len();
                    for ending in &item.endings {
                        let columns = std::iter::once(last - 1).chain(column..);
                        wanted.extend(columns.zip(ending.iter().copied()));
                        column += ending.len() - 1;
                    }
                }
                (first.beside(&second), wanted)
            }
        };
        let mut found = self.log_probabilities(&x, &wanted, progress)?.into_iter();
        let mut of = |item: &Continuations| -> Vec<Vec<f64>> {
            item.endings.iter().map(|ending| found.by_ref().take(ending.len()).collect()).collect()
        };
        Ok(items.iter().map(&mut of).collect())
    }
}
