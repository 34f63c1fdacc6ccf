//! Runs a model on whole texts: from memory if it fits, else streamed layer by layer.

use crate::{
    decoder::{
        Activations, Divergence, Observer, Pass, Quantisation, ResidentModel, TokenScore, Weights, divergences,
        forward, forward_tree, logits, token_scores,
    },
    prefix_tree::PrefixTree,
};
use moerge_core::{
    error::{Error, Result},
    model::families::DecoderOptions,
    progress::Progress,
};

/// Logits of each of two models that are compared which exist at once: 32 MiB, so that a large vocabulary times many
/// tokens never does. Streaming reads the head again for each block.
const SCORES: usize = 8 << 20;
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

/// A sequence whose last tokens are to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// At least one more than `last`.
    pub tokens: Vec<u32>,
    /// The number of tokens to score; at least one.
    pub last: usize,
}

impl Scored {
    /// What the model reads: all tokens but the last, whose successor is nobody's question.
    pub fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len().saturating_sub(1)]
    }
}

impl<'a> Runner<'a> {
    /// Reads the weights into memory, or says that they will be streamed.
    ///
    /// # Errors
    /// A weight cannot be read, the model does not fit into the memory it is given, or the run was stopped.
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

    /// A name for the precision of the weights, which were placed as `placement` says.
    pub fn precision(&self, placement: Placement) -> &'static str {
        match self.resident {
            Some(_) => placement.quantisation.name(),
            None => "streamed",
        }
    }

    /// Tokens that one pass should have.
    pub fn pass_tokens(&self) -> usize {
        if self.resident.is_some() { TOKENS_IN_MEMORY } else { TOKENS_STREAMED }
    }

    /// The residual stream that leaves the last layer over `sequences`, packed in order.
    ///
    /// # Errors
    /// A weight cannot be read, a token has no embedding, or the run was stopped.
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
    /// layer.
    ///
    /// # Errors
    /// A token is outside the vocabulary, a weight cannot be read, or the run was stopped.
    pub fn log_probabilities(
        &self,
        x: &Activations,
        wanted: &[(usize, u32)],
        progress: &dyn Progress,
    ) -> Result<Vec<f64>> {
        Ok(self.token_scores(x, wanted, progress)?.into_iter().map(|score| score.log_probability).collect())
    }

    fn token_scores(
        &self,
        x: &Activations,
        wanted: &[(usize, u32)],
        progress: &dyn Progress,
    ) -> Result<Vec<TokenScore>> {
        let vocabulary = self.options().vocabulary;
        if let Some((_, id)) = wanted.iter().find(|(_, id)| *id as usize >= vocabulary) {
            let message = format!("the tokenizer gave token {id}, but the model's embeddings have {vocabulary} rows");
            return Err(Error::input(message).hint("tokenizer.json and config.json must be of the same model"));
        }
        match &self.resident {
            Some(model) => model.token_scores(x, wanted, progress),
            None => token_scores(self.weights.as_ref(), x, wanted, progress),
        }
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
        for block in columns.chunks((SCORES / vocabulary.max(1)).max(1)) {
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

    /// The scores of the last tokens of each of `sequences`. What several begin with is computed, and observed, once.
    ///
    /// # Errors
    /// A weight cannot be read, a token has no embedding, or the run was stopped.
    pub fn score(
        &self,
        sequences: &[&Scored],
        observer: &mut dyn Observer,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<TokenScore>>> {
        let tree = PrefixTree::new(&sequences.iter().map(|sequence| sequence.inputs()).collect::<Vec<_>>());
        let x = match &self.resident {
            Some(model) => model.forward_tree(&tree, observer, progress)?,
            None => forward_tree(self.weights.as_ref(), &tree, observer, progress)?,
        };
        let wanted = sequences.iter().enumerate().flat_map(|(index, sequence)| {
            let targets = &sequence.tokens[sequence.tokens.len() - sequence.last..];
            tree.last_columns(index, sequence.last).into_iter().zip(targets.iter().copied())
        });
        let mut found = self.token_scores(&x, &wanted.collect::<Vec<_>>(), progress)?.into_iter();
        Ok(sequences.iter().map(|sequence| found.by_ref().take(sequence.last).collect()).collect())
    }
}
