//! The tasks of the lm-evaluation-harness, version 0.4.13: the same prompts, the same solved examples, the same metrics.
//!
//! A [`task`] is a table; [`catalogue`] has them all. [`rows`] reads data sets, [`questions`] makes prompts of rows, and
//! [`grade`] makes numbers of answers; all of these are pure but for the reading.

mod answers;
pub mod catalogue;
mod compare;
pub mod data_folder;
mod examples;
pub mod grade;
mod groups;
mod kept_answers;
mod prepare;
mod python_random;
pub mod questions;
pub mod rows;
mod score;
pub mod suites;
pub mod task;
mod template;

pub(crate) use answers::TokenizedQuestions;
pub use compare::{Comparison, compare, mcnemar};
pub use groups::{GroupScore, group_scores};
pub(crate) use kept_answers::KeptAnswers;
pub(crate) use score::score_task;
pub use score::{MetricScore, QuestionScore, TaskScore};
