//! The texts on which routing is measured, and the experts they are meant for.

use moerge_checkpoint::ReadStorage;

use super::BalancedLoad;
use crate::routers::{ROUTING_REPORT, RoutingReport};
use moerge_core::{
    error::{Error, Result},
    model::files::read_text,
    plan::Slots,
    recipe::Recipe,
    record::{MOERGE_JSON, MoergeJson},
};
use moerge_infer::model::Model;

/// A text, and the expert that it is meant for, if known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedText {
    /// Its name in the report.
    pub name: String,
    /// The expert, counted from 0.
    pub expert: Option<usize>,
    /// Documents, each routed separately.
    pub documents: Vec<String>,
    /// Whether they are prompts, which begin with the bos token as in the fit of the routers.
    pub prompts: bool,
}

/// A tokenized text.
pub(super) struct Tokenized {
    pub name: String,
    pub expert: Option<usize>,
    sequences: Vec<Vec<u32>>,
    /// The piece of the text of each token, sequence after sequence.
    pub pieces: Vec<String>,
}

/// The recipe that `model` was made with, if moerge made it.
fn recipe(model: &Model, storage: &dyn ReadStorage) -> Result<Option<Recipe>> {
    let path = model.dir.join(MOERGE_JSON);
    if storage.facts(&path).is_err() {
        return Ok(None);
    }
    let record = MoergeJson::parse(&read_text(storage, &path)?, &path.display().to_string())?;
    Recipe::parse(&path.display().to_string(), &record.recipe).map(Some)
}

/// Which expert of the recipe is in which slot of `model`. Without a recipe, every slot is its own expert.
///
/// # Errors
/// `moerge.json` is there, but is not a record.
pub fn expert_slots(model: &Model, storage: &dyn ReadStorage) -> Result<Slots> {
    let decoder = &model.description().decoder;
    let Some(experts) = decoder.experts().map(|spec| spec.experts) else { return Ok(plain_slots(model)) };
    let slots = recipe(model, storage)?.map(|recipe| Slots::of(&recipe, decoder.layers.len()));
    // A recipe that was edited by hand may not match the weights.
    Ok(slots.filter(|slots| slots.width() == experts).unwrap_or_else(|| plain_slots(model)))
}

/// Every slot of `model` as its own expert.
pub fn plain_slots(model: &Model) -> Slots {
    let decoder = &model.description().decoder;
    Slots::all(decoder.experts().map_or(0, |spec| spec.experts), decoder.layers.len())
}

/// The result of balancing in the routing report of `model`, if any.
pub fn balanced_load(model: &Model, storage: &dyn ReadStorage) -> Option<BalancedLoad> {
    let report = RoutingReport::parse(&read_text(storage, &model.dir.join(ROUTING_REPORT)).ok()?).ok()?;
    let load_after = report.layers.into_iter().map(|layer| layer.load).collect();
    Some(BalancedLoad { balance: report.balance?, load_after })
}

/// The names of the experts: the last component of their models' names in the recipe. Empty without a recipe.
///
/// # Errors
/// `moerge.json` is there, but is not a record.
pub fn expert_names(model: &Model, storage: &dyn ReadStorage) -> Result<Vec<String>> {
    let last = |reference: String| {
        let end = reference.trim_end_matches(['/', '\\']).len();
        reference[..end].rsplit(['/', '\\', '+']).next().unwrap_or_default().to_owned()
    };
    let experts = recipe(model, storage)?.map(|recipe| recipe.experts).unwrap_or_default();
    let short: Vec<String> = experts.iter().map(|e| last(e.source_model.value.to_string())).collect();
    let name = |(index, name): (usize, &String)| {
        let alone = short.iter().filter(|other| *other == name).count() == 1;
        if alone { name.clone() } else { format!("{name} ({index})") }
    };
    Ok(short.iter().enumerate().map(name).collect())
}

/// The prompts of the recipe of `model`, one text per expert.
///
/// # Errors
/// `moerge.json` is there, but is not a record.
pub fn recipe_texts(model: &Model, storage: &dyn ReadStorage) -> Result<Vec<RoutedText>> {
    let names = expert_names(model, storage)?;
    let experts = recipe(model, storage)?.map(|recipe| recipe.experts).unwrap_or_default();
    let texts = experts.into_iter().zip(names).enumerate().map(|(expert, (e, name))| RoutedText {
        name,
        expert: Some(expert),
        documents: e.positive_prompts.into_iter().filter(|prompt| !prompt.trim().is_empty()).collect(),
        prompts: true,
    });
    Ok(texts.filter(|text| !text.documents.is_empty()).collect())
}

/// The tokens of `text` in sequences of at most `context` tokens, at most `max` in total.
pub(super) fn tokenize(text: &RoutedText, model: &Model, context: usize, max: usize) -> Result<Tokenized> {
    let (mut sequences, mut pieces) = (Vec::new(), Vec::new());
    let mut left = max;
    for document in &text.documents {
        let (mut tokens, ends) = model.tokenizer.encode_with_ends(document)?;
        let prompt = if text.prompts { model.tokenizer.encode_prompt(document)? } else { tokens.clone() };
        // A prompt begins with the bos token; a text may not.
        let added = prompt.len().saturating_sub(tokens.len());
        tokens = prompt;
        tokens.truncate(left);
        left -= tokens.len();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let piece = |(start, end): (usize, usize)| document.get(start..end).unwrap_or("\u{fffd}").to_owned();
        let all = std::iter::repeat_n(String::new(), added).chain(starts.zip(ends.iter().copied()).map(piece));
        let first = pieces.len();
        pieces.extend(all.take(tokens.len()));
        if first > 0
            && let Some(piece) = pieces[first..].iter_mut().find(|piece| !piece.is_empty())
        {
            // In the display, each document begins on its own line.
            piece.insert(0, '\n');
        }
        sequences.extend(tokens.chunks(context).map(<[u32]>::to_vec));
        if left == 0 {
            break;
        }
    }
    if sequences.is_empty() {
        return Err(Error::input(format!("{} has no tokens", text.name)));
    }
    Ok(Tokenized { name: text.name.clone(), expert: text.expert, sequences, pieces })
}

impl Tokenized {
    /// The sequences, each with the number of tokens at its beginning that are no text, such as bos.
    pub fn sequences_with_special(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let mut before = 0;
        self.sequences.iter().map(move |sequence| {
            let pieces = &self.pieces[before..before + sequence.len()];
            before += sequence.len();
            (pieces.iter().take_while(|piece| piece.is_empty()).count(), &sequence[..])
        })
    }

    /// Total number of tokens.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// The sequences in groups of about `tokens` tokens.
    pub fn passes(&self, tokens: usize) -> Vec<&[Vec<u32>]> {
        let (mut passes, mut rest) = (Vec::new(), &self.sequences[..]);
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = |s: &&Vec<u32>| {
                sum += s.len();
                sum <= tokens
            };
            let (pass, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            passes.push(pass);
            rest = later;
        }
        passes
    }
}
