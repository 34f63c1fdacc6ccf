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
use moerge_infer::{decoder::ranges, runner::Runner, tokenizer::Tokenizer};

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
    pub fn new(text: &Text, tokenizer: &Tokenizer, windowing: Windowing) -> Result<Self> {
        let document = |text: &String| -> Result<Document> {
            let (tokens, ends) = tokenizer.encode_with_ends(text)?;
            Ok(Document { tokens, ends })
        };
        let documents: Vec<Document> = text.documents.iter().map(document).collect::<Result<_>>()?;
        if documents.iter().all(|d| d.tokens.len() < 2) {
            return Err(Error::input(format!("{} has no token that follows another", text.file))
                .hint("a text of two tokens at least is needed"));
        }
        Ok(Self { name: text.name.clone(), documents, windowing })
    }

    /// Number of tokens to run; overlaps of windows count each time.
    pub fn work(&self) -> u64 {
        let work = |d: &Document| self.windowing.of(d.tokens.len()).iter().map(|w| w.all.len() as u64).sum::<u64>();
        self.documents.iter().map(work).sum()
    }
}

/// Scores `text`. Counts tokens as [`Stage::Score`], which the caller starts and ends.
pub fn perplexity(runner: &Runner<'_>, text: &TokenizedText, progress: &dyn Progress) -> Result<TextScore> {
    let windows: Vec<(&Document, Window)> = text
        .documents
        .iter()
        .flat_map(|d| text.windowing.of(d.tokens.len()).into_iter().map(move |w| (d, w)))
        .collect();
    let mut surprises = Vec::new();
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
        surprises.extend(score(runner, pass, progress)?);
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
    })
}

/// `-ln p` of every token that the windows score.
fn score(runner: &Runner<'_>, windows: &[(&Document, Window)], progress: &dyn Progress) -> Result<Vec<f64>> {
    let sequences: Vec<Vec<u32>> = windows.iter().map(|(d, w)| d.tokens[w.all.clone()].to_vec()).collect();
    let x = runner.forward(&sequences, &mut (), progress)?;
    let mut wanted = Vec::new();
    for ((document, window), columns) in windows.iter().zip(ranges(&sequences)) {
        // Token i is predicted in the column of token i - 1.
        let column = |token: usize| columns.start + token - 1 - window.all.start;
        wanted.extend(window.scored.clone().map(|token| (column(token), document.tokens[token])));
    }
    Ok(runner.log_probabilities(&x, &wanted, progress)?.into_iter().map(|p| -p).collect())
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
