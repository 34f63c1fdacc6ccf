//! Perplexity on documents that change their subject: what a Mixture of Experts is for.
//!
//! A mixed document has one segment of each text, in an order of its own. An MoE reads the documents with its routers,
//! with each of its experts alone, and with every token sent to the expert of its text: what routers could reach. The
//! expert of a text is the one that predicts its segments best.

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::{
    known_experts::{MixedMoe, WithoutRouters},
    scores::Estimate,
    text_file::Text,
};
use crate::following::{FirstChoices, Following, Place, places};
use moerge_core::{
    error::{Error, Result},
    numeric::noise::uniform,
    plan::Slots,
    progress::{Progress, Stage},
};
use moerge_infer::{
    decoder::{Observer, Routes, ranges},
    runner::Runner,
    tokenizer::Tokenizer,
};

/// How mixed documents are made.
#[derive(Debug, Clone, Copy)]
pub struct Mixing {
    /// Maximum number of documents.
    pub documents: usize,
    /// Tokens per segment.
    pub segment: usize,
}

/// A model's score on mixed documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixedScore {
    /// Number of documents.
    pub documents: usize,
    /// Number of tokens that were predicted.
    pub scored: usize,
    /// Tokens per segment.
    pub segment: usize,
    /// With the model's own routing.
    pub perplexity: Estimate,
    /// What its experts do, if it is an MoE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertsScore>,
    /// The mean of `-ln p` of each document.
    #[serde(skip)]
    pub losses: Vec<f64>,
}

/// What the experts of an MoE do on mixed documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertsScore {
    /// The expert of each text: the one with the lowest loss on its segments.
    pub of_texts: Vec<usize>,
    /// Every token goes to the expert of its text.
    pub forced: Estimate,
    /// Every document goes to the expert that predicts it best.
    pub best_single: Estimate,
    /// How often the expert of a token's text is the first choice, averaged over the layers.
    pub following: Following,
}

/// Mixed documents in the tokens of one tokenizer.
pub struct MixedDocuments {
    documents: Vec<Vec<u32>>,
    /// The text of every token of the packed documents; `None` for bos.
    texts: Vec<Option<usize>>,
    places: Vec<Option<Place>>,
    segment: usize,
    count_of_texts: usize,
}

impl MixedDocuments {
    /// Mixes `texts`. A document has a segment of each, until one of them has no more, and at most
    /// `mixing.documents` documents are made.
    ///
    /// # Errors
    /// There are fewer than two texts, or one of them is shorter than a segment.
    pub fn new(texts: &[Text], tokenizer: &Tokenizer, mixing: Mixing) -> Result<Self> {
        if texts.len() < 2 {
            return Err(Error::input("mixed documents need several texts, each of one subject"));
        }
        let mut prefix = Vec::new();
        let mut segments: Vec<Vec<Vec<u32>>> = Vec::new();
        for text in texts {
            let mut own = Vec::new();
            for document in &text.documents {
                let (tokens, ends) = tokenizer.encode_with_ends(document)?;
                // Tokens without text, such as bos, begin a document.
                let special = ends.iter().take_while(|end| **end == 0).count();
                prefix = tokens[..special].to_vec();
                own.extend(tokens[special..].chunks_exact(mixing.segment).map(<[u32]>::to_vec));
                if own.len() >= mixing.documents {
                    break;
                }
            }
            if own.is_empty() {
                return Err(Error::input(format!("{} has no segment of {} tokens", text.file, mixing.segment))
                    .hint("only documents that are as long as a segment are used"));
            }
            segments.push(own);
        }
        let count = segments.iter().map(Vec::len).min().unwrap_or(0).min(mixing.documents);
        let mut segments: Vec<_> = segments.into_iter().map(Vec::into_iter).collect();
        let mut mixed = Self {
            documents: Vec::new(),
            texts: Vec::new(),
            places: Vec::new(),
            segment: mixing.segment,
            count_of_texts: texts.len(),
        };
        for document in 0..count {
            let mut tokens = prefix.clone();
            let mut of_tokens = vec![None; prefix.len()];
            let mut starts = Vec::new();
            for text in order(texts.len(), document) {
                starts.push(tokens.len());
                tokens.extend(segments[text].next().unwrap_or_default());
                of_tokens.extend(vec![Some(text); mixing.segment]);
            }
            mixed.places.extend(places(&starts, tokens.len()));
            mixed.texts.extend(of_tokens);
            mixed.documents.push(tokens);
        }
        Ok(mixed)
    }

    /// A hash of the documents and of their segments.
    pub fn digest(&self) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(format!("{:?} {:?}", self.documents, self.texts).as_bytes());
        hash.digest128()
    }

    /// Tokens that [`score`](Self::score) reads: one pass for a dense model and for an MoE whose experts are known, one per
    /// expert and two more for another MoE.
    pub fn work(&self, moe: Option<&MixedMoe<'_>>) -> u64 {
        let unknown = moe.filter(|moe| moe.known().is_none());
        let passes = 1 + unknown.map_or(0, |moe| moe.slots.experts() + 1);
        (passes * self.texts.len()) as u64
    }

    /// Scores the model of `runner`. Counts tokens as [`Stage::Score`], which the caller starts and ends.
    ///
    /// # Errors
    /// The weights cannot be read, or the run is stopped.
    pub fn score(
        &self,
        runner: &Runner<'_>,
        moe: Option<&MixedMoe<'_>>,
        progress: &dyn Progress,
    ) -> Result<MixedScore> {
        let Some(moe) = moe else {
            let losses = self.losses(runner, &mut (), progress)?;
            return Ok(self.result(&losses, None));
        };
        let WithoutRouters { of_texts, forced, best_single } = match moe.known() {
            Some(known) => known,
            None => {
                let result = self.without_routers(runner, moe.slots, progress)?;
                moe.remember(&result);
                result
            }
        };
        let mut first = FirstChoices::new(moe.slots);
        let own = self.losses(runner, &mut first, progress)?;
        let own_experts = self.texts.iter().map(|text| Some(of_texts[(*text)?]));
        let following = first.following(&self.places, &own_experts.collect::<Vec<_>>());
        Ok(self.result(&own, Some(ExpertsScore { of_texts, forced, best_single, following })))
    }

    fn without_routers(&self, runner: &Runner<'_>, slots: &Slots, progress: &dyn Progress) -> Result<WithoutRouters> {
        let forced = |expert_of: &dyn Fn(usize) -> Option<usize>| {
            self.losses(runner, &mut Forced { slots, expert_of, first: 0 }, progress)
        };
        let alone: Vec<Vec<f64>> =
            (0..slots.experts()).map(|expert| forced(&|_| Some(expert))).collect::<Result<_>>()?;
        let of_texts: Vec<usize> = (0..self.count_of_texts).map(|text| self.best_for(text, &alone)).collect();
        // Tokens before the first text, such as bos, are read by its expert, so that no router has a say.
        let text_of = |column: usize| self.texts[column..].iter().flatten().next().copied();
        let right = forced(&|column| text_of(column).map(|text| of_texts[text]))?;
        let best_single = (0..self.documents.len()).flat_map(|document| {
            let of = |expert: &&Vec<f64>| self.of_document(expert, document).iter().sum::<f64>();
            let best = alone.iter().min_by(|a, b| of(a).total_cmp(&of(b)));
            best.map_or(&[][..], |losses| self.of_document(losses, document)).iter().copied()
        });
        let best_single = Estimate::mean(best_single).exp();
        Ok(WithoutRouters { of_texts, forced: Estimate::mean(right.into_iter()).exp(), best_single })
    }

    fn result(&self, losses: &[f64], experts: Option<ExpertsScore>) -> MixedScore {
        let mean = |document| {
            let losses = self.of_document(losses, document);
            losses.iter().sum::<f64>() / losses.len().max(1) as f64
        };
        MixedScore {
            documents: self.documents.len(),
            scored: losses.len(),
            segment: self.segment,
            perplexity: Estimate::mean(losses.iter().copied()).exp(),
            experts,
            losses: (0..self.documents.len()).map(mean).collect(),
        }
    }

    /// `-ln p` of every token but the first of each document.
    fn losses(&self, runner: &Runner<'_>, observer: &mut dyn Watch, progress: &dyn Progress) -> Result<Vec<f64>> {
        let mut losses = Vec::new();
        let mut first = 0;
        for pass in self.documents.chunks((runner.pass_tokens() / self.len().max(1)).max(1)) {
            observer.begin(first);
            let x = runner.forward(pass, observer, progress)?;
            let mut wanted = Vec::new();
            for (columns, document) in ranges(pass).into_iter().zip(pass) {
                wanted.extend(columns.zip(document.iter().skip(1).copied()));
            }
            losses.extend(runner.log_probabilities(&x, &wanted, progress)?.into_iter().map(|p| -p));
            first += pass.len() * self.len();
            progress.advance(Stage::Score, (pass.len() * self.len()) as u64);
        }
        Ok(losses)
    }

    /// Tokens of a document; all have as many.
    fn len(&self) -> usize {
        self.documents.first().map_or(0, Vec::len)
    }

    /// The part of `losses` that is of this document.
    fn of_document<'a>(&self, losses: &'a [f64], document: usize) -> &'a [f64] {
        let each = self.len().saturating_sub(1);
        &losses[document * each..(document + 1) * each]
    }

    /// The expert with the lowest loss on the segments of `text`, by the losses of each expert `alone`.
    fn best_for(&self, text: usize, alone: &[Vec<f64>]) -> usize {
        let predicted: Vec<bool> = self
            .texts
            .chunks(self.len().max(1))
            .flat_map(|document| document.iter().skip(1).map(|of| *of == Some(text)))
            .collect();
        let sum = |losses: &Vec<f64>| -> f64 {
            losses.iter().zip(&predicted).filter(|(_, own)| **own).map(|(loss, _)| loss).sum()
        };
        let best = alone.iter().map(sum).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(expert, _)| expert)
    }
}

/// The order of the texts in a document.
fn order(texts: usize, document: usize) -> Vec<usize> {
    let places = uniform(texts, document as u64, "mixed document");
    let mut order: Vec<usize> = (0..texts).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    order
}

/// An observer of several passes.
trait Watch: Observer {
    /// Begins a pass, whose first column is this one of all documents.
    fn begin(&mut self, _first: usize) {}
}

impl Watch for () {}

impl Watch for FirstChoices<'_> {}

/// Sends tokens to given experts.
struct Forced<'a> {
    slots: &'a Slots,
    expert_of: &'a dyn Fn(usize) -> Option<usize>,
    first: usize,
}

impl Watch for Forced<'_> {
    fn begin(&mut self, first: usize) {
        self.first = first;
    }
}

impl Observer for Forced<'_> {
    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        for (column, choices) in (self.first..).zip(&mut routes.experts) {
            // A layer without the expert routes as it does.
            if let Some(slot) = (self.expert_of)(column).and_then(|expert| self.slots.slot(layer, expert)) {
                *choices = vec![(slot, 1.0)];
            }
        }
        Ok(())
    }
}
