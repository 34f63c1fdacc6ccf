//! How routers are fitted to text: the keys beside `gate_mode`.

use super::{
    fields::{Field, Fields},
    source::Source,
};
use crate::error::Result;

const FLAG: [(&str, bool); 2] = [("true", true), ("false", false)];

/// Settings of the fitted gate modes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitSettings {
    /// `label`: which expert a token belongs to.
    pub label: Label,
    /// `calibration_tokens`: at most so many tokens of an expert's text are used.
    pub tokens: usize,
    /// `splice_texts`: whether routers are also fitted to sequences that change their expert.
    pub splice: bool,
    /// `self_text`: what the experts generate.
    pub self_text: SelfText,
    /// `phatgoose`: how gates are trained.
    pub phatgoose: PhatGoose,
}

/// Which expert a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Label {
    /// The expert whose prompts the text is among.
    #[default]
    Prompt,
    /// The expert with the lowest next-token loss.
    Loss,
}

/// How much text each expert generates for `self_calibrated`, and those without prompts for `phatgoose`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfText {
    /// Texts per expert.
    pub samples: usize,
    /// Tokens per text.
    pub tokens: usize,
    /// The sampling's temperature.
    pub temperature: f64,
    /// The sampling's seed; the recipe's by default.
    pub seed: Option<u64>,
}

/// How gates are trained for `gate_mode: phatgoose`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PhatGoose {
    /// Steps of the optimiser.
    pub steps: usize,
    /// Its learning rate, after the first 6 % of the steps.
    pub learning_rate: f64,
    /// At most so many tokens per step, but at least one text.
    pub batch_tokens: usize,
}

impl Label {
    /// By the names a recipe uses.
    pub const TABLE: [(&'static str, Self); 2] = [("prompt", Self::Prompt), ("loss", Self::Loss)];

    /// The name a recipe uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Loss => "loss",
        }
    }
}

impl Default for SelfText {
    fn default() -> Self {
        Self { samples: 32, tokens: 32, temperature: 1.0, seed: None }
    }
}

impl Default for PhatGoose {
    fn default() -> Self {
        Self { steps: 100, learning_rate: 5e-3, batch_tokens: 1024 }
    }
}

impl Default for FitSettings {
    fn default() -> Self {
        Self {
            label: Label::default(),
            tokens: 8192,
            splice: true,
            self_text: SelfText::default(),
            phatgoose: PhatGoose::default(),
        }
    }
}

impl FitSettings {
    /// The keys of the recipe that are read here.
    pub(super) const KEYS: [&'static str; 5] =
        ["label", "calibration_tokens", "splice_texts", "self_text", "phatgoose"];

    pub(super) fn read(source: &Source, fields: &Fields) -> Self {
        let default = Self::default();
        Self {
            label: fields.read("label", |field| field.one_of(&Label::TABLE)).map_or(default.label, |l| l.value),
            tokens: fields.read("calibration_tokens", count).unwrap_or(default.tokens),
            splice: fields.read("splice_texts", |field| field.one_of(&FLAG)).map_or(default.splice, |flag| flag.value),
            self_text: fields.read("self_text", |field| self_text(source, field)).unwrap_or(default.self_text),
            phatgoose: fields.read("phatgoose", |field| phatgoose(source, field)).unwrap_or(default.phatgoose),
        }
    }
}

fn self_text(source: &Source, field: Field) -> Result<SelfText> {
    let fields = Fields::open(source, field.node(), "`self_text`", &["samples", "tokens", "temperature", "seed"])?;
    let default = SelfText::default();
    Ok(SelfText {
        samples: fields.read("samples", count).unwrap_or(default.samples),
        tokens: fields.read("tokens", count).unwrap_or(default.tokens),
        temperature: fields.read("temperature", temperature).unwrap_or(default.temperature),
        seed: fields.read("seed", |field| field.whole_number()),
    })
}

fn phatgoose(source: &Source, field: Field) -> Result<PhatGoose> {
    let keys = ["steps", "learning_rate", "batch_tokens"];
    let fields = Fields::open(source, field.node(), "`phatgoose`", &keys)?;
    let default = PhatGoose::default();
    Ok(PhatGoose {
        steps: fields.read("steps", count).unwrap_or(default.steps),
        learning_rate: fields.read("learning_rate", learning_rate).unwrap_or(default.learning_rate),
        batch_tokens: fields.read("batch_tokens", count).unwrap_or(default.batch_tokens),
    })
}

/// A number from 1 to more than any machine could handle.
fn count(field: Field) -> Result<usize> {
    const MAX: u64 = 1 << 24;
    match field.whole_number()? {
        0 => Err(field.wrong("1 or more")),
        n if n > MAX => Err(field.wrong(&format!("at most {MAX}"))),
        n => Ok(n as usize),
    }
}

fn learning_rate(field: Field) -> Result<f64> {
    let rate = field.number()?;
    if rate > 0.0 && rate <= 1.0 { Ok(rate) } else { Err(field.wrong("a learning rate above 0, at most 1")) }
}

fn temperature(field: Field) -> Result<f64> {
    let temperature = field.number()?;
    if temperature > 0.0 { Ok(temperature) } else { Err(field.wrong("a temperature above 0")) }
}
