//! What a task of the lm-evaluation-harness is: a table of a data set, its splits, templates over its columns, solved
//! examples, and metrics. The fields mean what the keys of the harness's YAML files mean.
//!
//! Templates are Jinja. Where the harness parses what a template printed as a Python literal, the table has the
//! expression itself.

use moerge_core::error::Result;
use serde_json::{Map, Value};

/// A row of a data set, by column.
pub type Row = Map<String, Value>;

/// What is done to the rows of a split.
pub type Prepare = fn(Vec<Row>) -> Result<Vec<Row>>;

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name in the harness.
    pub name: String,
    /// The data set on the Hub, `org/name`.
    pub repository: &'static str,
    /// Its configuration; [`NO_CONFIG`] if it has one only.
    pub config: String,
    /// The splits that the data set has for each purpose. Questions are those of `test`, or else of `validation`.
    pub training: Option<&'static str>,
    /// See [`Task::training`].
    pub validation: Option<&'static str>,
    /// See [`Task::training`].
    pub test: Option<&'static str>,
    /// Where solved examples come from.
    pub examples: Examples,
    /// How they are chosen.
    pub sampler: Sampler,
    /// How many precede a question, unless asked otherwise.
    pub shots: usize,
    /// What is done to the rows before all else.
    pub prepare: Prepare,
    /// What precedes solved examples and question.
    pub description: String,
    /// What the model is asked.
    pub ask: Ask,
    /// What is computed from its answers.
    pub metrics: &'static [Metric],
}

/// The configuration of data sets that have one only, as the Hub calls it.
pub const NO_CONFIG: &str = "default";

/// Where solved examples come from.
#[derive(Debug, Clone)]
pub enum Examples {
    /// The training split, or else the validation split, or else the questions themselves.
    Usual,
    /// This split.
    Split(&'static str),
    /// These rows.
    Rows(Vec<Row>),
}

/// How solved examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// At random, others for each question.
    Random,
    /// The first ones.
    FirstN,
}

/// What the model is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// How probable each choice is after the text.
    Choices {
        /// A template.
        text: &'static str,
        /// The choices.
        choices: Choices,
        /// The correct ones.
        gold: Gold,
    },
    /// How probable the target is after each choice.
    Contexts {
        /// An expression for a list of texts.
        choices: &'static str,
        /// A template.
        target: &'static str,
        /// The correct one.
        gold: Gold,
    },
    /// How probable the target is after the text.
    Continuation {
        /// A template.
        text: &'static str,
        /// A template.
        target: &'static str,
    },
    /// How probable a whole text is.
    Document {
        /// A template for the text that the model reads.
        text: &'static str,
        /// A template for the text whose words and bytes are counted.
        counted: &'static str,
    },
    /// To write an answer.
    Generate {
        /// A template.
        text: &'static str,
        /// A template for the correct answer.
        target: &'static str,
        /// What ends an answer, besides the model's end of text.
        until: &'static [&'static str],
        /// Maximum number of tokens of an answer.
        tokens: usize,
    },
}

/// The choices of a question.
#[derive(Debug, Clone)]
pub enum Choices {
    /// The same for all.
    Fixed(Vec<String>),
    /// An expression for a list of strings.
    Expression(&'static str),
}

/// The correct choices of a question.
#[derive(Debug, Clone, Copy)]
pub enum Gold {
    /// An expression for an index, a choice, or a list of indices.
    Index(&'static str),
    /// An expression for a list with 1 for each correct choice.
    Labels(&'static str),
}

/// What is computed from the answers to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Whether the most probable choice, or every token of the target, is correct.
    Acc,
    /// Whether the most probable choice per character is correct.
    AccNorm,
    /// The probability of the correct choices among all.
    TrueMass,
    /// `exp` of the negated mean log-likelihood of the targets.
    Perplexity,
    /// Perplexity per word of the documents.
    WordPerplexity,
    /// Perplexity per byte.
    BytePerplexity,
    /// Its logarithm to base 2.
    BitsPerByte,
    /// Whether the number after `####` is the correct one.
    StrictMatch,
    /// Whether the last number is the correct one.
    FlexibleExtract,
    /// EQ-Bench's score of four emotions, 0 to 100.
    EqBench,
    /// Whether there are four emotions, 0 or 100.
    PercentParseable,
}

/// What the numbers of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Fractions of 1.
    Share,
    /// Points, at most 100.
    Points,
    /// Any positive numbers.
    Open,
}

impl Metric {
    /// What its numbers are.
    pub fn scale(self) -> Scale {
        match self {
            Self::EqBench | Self::PercentParseable => Scale::Points,
            Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => Scale::Open,
            _ => Scale::Share,
        }
    }

    /// Its name in the harness's results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc | Self::TrueMass => "acc",
            Self::AccNorm => "acc_norm",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::StrictMatch => "exact_match,strict-match",
            Self::FlexibleExtract => "exact_match,flexible-extract",
            Self::EqBench => "eqbench",
            Self::PercentParseable => "percent_parseable",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte)
    }
}

impl Task {
    /// The split of the questions.
    pub fn split(&self) -> Option<&'static str> {
        self.test.or(self.validation)
    }

    /// The split of the solved examples; `None` if they are part of the task.
    pub fn examples_split(&self) -> Option<&'static str> {
        match &self.examples {
            Examples::Usual => self.training.or(self.validation).or(self.test),
            Examples::Split(split) => Some(split),
            Examples::Rows(_) => None,
        }
    }

    /// The number of choices, if all questions have the same.
    pub(super) fn fixed_choices(&self) -> Option<usize> {
        match &self.ask {
            Ask::Choices { choices: Choices::Fixed(choices), .. } => Some(choices.len()),
            _ => None,
        }
    }

    /// Whether a question is taken out of its own solved examples. The harness compares the split it was told for
    /// examples with the test split, so it does so too where it was told neither.
    pub(super) fn excludes_question(&self) -> bool {
        match &self.examples {
            Examples::Split(split) => self.test == Some(split),
            Examples::Usual | Examples::Rows(_) => self.test.is_none(),
        }
    }
}

/// Leaves rows as they are.
pub(super) fn as_they_are(rows: Vec<Row>) -> Result<Vec<Row>> {
    Ok(rows)
}

/// The same choices for all questions.
pub(super) fn fixed(choices: &[&str]) -> Choices {
    Choices::Fixed(choices.iter().map(|choice| (*choice).to_owned()).collect())
}
