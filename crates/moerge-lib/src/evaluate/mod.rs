//! Measures the quality of a model: perplexity of texts, multiple-choice questions, and questions with free answers.
//!
//! The measures are standard: perplexity follows transformers' sliding-window recipe, choices follow the
//! lm-evaluation-harness. Cutting and scoring ([`windows`], [`scores`]) are pure; the model runs behind a
//! [`Runner`](moerge_infer::runner::Runner).

mod answers;
mod card;
mod choices;
mod choices_file;
mod evaluation;
mod expert_use;
pub mod html;
mod known_experts;
mod mixed;
mod perplexity;
mod questions_file;
mod requests;
mod resident;
mod scores;
pub mod tasks;
mod text_file;
mod windows;

pub use answers::{AnswersScore, WrittenAnswer, score_answers};
pub use card::with_evaluation;
pub use choices::{ChoicesScore, ItemScore, TokenizedChoices, score_choices};
pub use choices_file::{Choices, Item};
pub use evaluation::{ModelScore, Reference, Tests};
pub use known_experts::{KnownExperts, MixedMoe};
pub use mixed::{ExpertsScore, MixedDocuments, MixedScore, Mixing};
pub use perplexity::{DivergenceScore, TextScore, TokenizedText, perplexity, splits_alike};
pub use questions_file::{Extraction, NUMBER, Question, Questions};
pub use scores::{Estimate, geometric_mean};
pub use text_file::Text;
pub use windows::Windowing;
