//! Perplexity: `exp` of the mean of `-ln p(token | tokens before it)`.

use serde::Serialize;

use super::{
    scores::Estimate,
    text_file::Text,
    windows::{Window, Windowing},
};
use moerge_core::{
    error::{Error, Result},
    progress::{Progress, Stage},
};
use moerge_infer::{
    decoder::{Divergence, ranges},
    runner::Runner,
    tokenizer::Tokenizer,
};

/// A model's score on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextScore {
    /// The text's name.
    pub text: String,
    /// Number of its tokens, including special ones that the tokenizer adds.
    pub tokens: usize,
    /// Number of tokens that were predicted.
    pub scored: usize,
    /// Bytes of the text of these tokens.
    pub bytes: usize,
    /// `exp` of the mean of `-ln p`; the error treats tokens as independent.
    pub perplexity: Estimate,
    /// Bits per byte of the text, which is comparable between tokenizers.
    pub bits_per_byte: f64,
    /// How far its predictions are from those of the first model, if they are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<DivergenceScore>,
}

/// How far the predictions of the next token are from another model's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DivergenceScore {
    /// The mean Kullback-Leibler divergence from the other model, in nats.
    pub kl: Estimate,
    /// The share of tokens after which both think the same one the most likely.
    pub same_top: Estimate,
}

/// A tokenized text.
pub struct TokenizedText {
    name: String,
    documents: Vec<Document>,
    windowing: Windowing,
}

struct Document {
    tokens: Vec<u32>,
    /// For each token, the length in bytes of the text up to its end.
    ends: Vec<usize>,
}

impl TokenizedText {
    /// Tokenizes `text`; `windowing` cuts it.
    ///
    /// # Errors
    /// The tokenizer fails, or no token follows another.
    pub fn new(text: &Text, tokenizer: &Tokenizer, windowing: Windowing) -> Result<Self> {
        let document = |text: &String| -> Result<Document> {
            let (tokens, ends) = tokenizer.encode_with_ends(text)?;
            Ok(Document { tokens, ends })
        };
        let documents: Vec<Document> = text.documents.iter().map(document).collect::<Result<_>>()?;
        if documents.iter().all(|d| d.tokens.len() < 2) {
            return Err(Error::input(format!("{} has no token that follows another", text.file))
                .hint("the text needs at least two tokens"));
        }
        Ok(Self { name: text.name.clone(), documents, windowing })
    }

    /// Number of tokens to run; overlaps of windows count each time.
    pub fn work(&self) -> u64 {
        let work = |d: &Document| self.windowing.of(d.tokens.len()).iter().map(|w| w.all.len() as u64).sum::<u64>();
        self.documents.iter().map(work).sum()
    }
}

/// Whether two tokenizers make the same tokens of `text`.
///
/// # Errors
/// One cannot split it.
pub fn splits_alike(text: &Text, one: &Tokenizer, other: &Tokenizer) -> Result<bool> {
    for document in &text.documents {
        if one.encode_with_ends(document)?.0 != other.encode_with_ends(document)?.0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Scores `text`, and compares the predictions with those of `reference`. Counts tokens as [`Stage::Score`], which the
/// caller starts and ends.
///
/// # Errors
/// The weights cannot be read, or the user stops the run.
pub fn perplexity(
    runner: &Runner<'_>,
    text: &TokenizedText,
    reference: Option<&Runner<'_>>,
    progress: &dyn Progress,
) -> Result<TextScore> {
    let windows: Vec<(&Document, Window)> = text
        .documents
        .iter()
        .flat_map(|d| text.windowing.of(d.tokens.len()).into_iter().map(move |w| (d, w)))
        .collect();
    let (mut surprises, mut divergences) = (Vec::new(), Vec::new());
    let mut rest = &windows[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |(_, window): &&(&Document, Window)| {
            tokens += window.all.len();
            tokens <= runner.pass_tokens()
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (pass, later) = rest.split_at(count);
        rest = later;
        let (own, compared) = score(runner, pass, reference, progress)?;
        surprises.extend(own);
        divergences.extend(compared);
        progress.advance(Stage::Score, pass.iter().map(|(_, w)| w.all.len() as u64).sum());
    }
    let bytes = windows.iter().map(|(document, window)| document.bytes(window)).sum();
    let mean = Estimate::mean(surprises.iter().copied());
    Ok(TextScore {
        text: text.name.clone(),
        tokens: text.documents.iter().map(|d| d.tokens.len()).sum(),
        scored: surprises.len(),
        bytes,
        perplexity: mean.exp(),
        bits_per_byte: mean.value * surprises.len() as f64 / std::f64::consts::LN_2 / bytes.max(1) as f64,
        divergence: reference.map(|_| DivergenceScore {
            kl: Estimate::mean(divergences.iter().map(|d| d.kl)),
            same_top: Estimate::mean(divergences.iter().map(|d| f64::from(u8::from(d.same_top)))),
        }),
    })
}

/// `-ln p` of every token that the windows score, and how far its prediction is from that of `reference`.
fn score(
    runner: &Runner<'_>,
    windows: &[(&Document, Window)],
    reference: Option<&Runner<'_>>,
    progress: &dyn Progress,
) -> Result<(Vec<f64>, Vec<Divergence>)> {
    let sequences: Vec<Vec<u32>> = windows.iter().map(|(d, w)| d.tokens[w.all.clone()].to_vec()).collect();
    let x = runner.forward(&sequences, &mut (), progress)?;
    let mut wanted = Vec::new();
    for ((document, window), columns) in windows.iter().zip(ranges(&sequences)) {
        // Token i is predicted in the column of token i - 1.
        let column = |token: usize| columns.start + token - 1 - window.all.start;
        wanted.extend(window.scored.clone().map(|token| (column(token), document.tokens[token])));
    }
    let surprises = runner.log_probabilities(&x, &wanted, progress)?.into_iter().map(|p| -p).collect();
    let Some(reference) = reference else { return Ok((surprises, Vec::new())) };
    let reference_x = reference.forward(&sequences, &mut (), progress)?;
    let columns: Vec<usize> = wanted.iter().map(|(column, _)| *column).collect();
    let divergences = runner.divergences(&x, (reference, &reference_x), &columns, progress)?;
    Ok((surprises, divergences))
}

impl Document {
    /// Bytes of the text of the scored tokens of `window`.
    fn bytes(&self, window: &Window) -> usize {
        if window.scored.is_empty() {
            return 0;
        }
        self.ends[window.scored.end - 1] - self.ends[window.scored.start - 1]
    }
}
