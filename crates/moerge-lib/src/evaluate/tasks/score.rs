//! A model's score on a task.

use serde::Serialize;

use moerge_core::{error::Result, plan::Slots, progress::Progress};
use moerge_infer::{model::Model, runner::Runner};

use super::{
    answers::TokenizedQuestions,
    grade::{Answer, Grade, grade, summary},
    kept_answers::KeptAnswers,
    questions::Question,
    task::Metric,
};
use crate::evaluate::{expert_use::ExpertUse, scores::Estimate};

/// A model's score on a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScore {
    /// The task.
    pub name: String,
    /// Solved examples before each question.
    pub shots: usize,
    /// What was measured.
    pub metrics: Vec<MetricScore>,
    /// Questions that lost their beginning to fit the context.
    pub cut: usize,
    /// Of an MoE, each expert's share of the routers' weight, over all layers and the tokens that were read or written now;
    /// `None` if all answers were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Vec<f64>>,
    /// One entry per question.
    pub items: Vec<QuestionScore>,
}

/// A metric of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricScore {
    /// The metric.
    #[serde(skip)]
    pub metric: Metric,
    /// Its name in the harness.
    pub name: &'static str,
    /// The number.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// A model's answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuestionScore {
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// Its grade by each metric.
    pub grades: Vec<Grade>,
}

impl MetricScore {
    /// Whether more is better.
    pub fn higher_is_better(&self) -> bool {
        self.metric.higher_is_better()
    }
}

impl TaskScore {
    /// The estimate of the metric `name`.
    pub fn metric(&self, name: &str) -> Option<Estimate> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.estimate)
    }
}

/// Puts the questions to a model and grades its answers.
pub(crate) fn score_task(
    tokenized: &TokenizedQuestions<'_>,
    runner: &Runner<'_>,
    model: &Model,
    slots: Option<&Slots>,
    kept: Option<&KeptAnswers>,
    progress: &dyn Progress,
) -> Result<TaskScore> {
    let questions = tokenized.questions;
    let mut experts = ExpertUse::new(slots);
    let answers = tokenized.ask(runner, model, kept, &mut experts, progress)?;
    let graded = |(answer, question): (Answer, &Question)| {
        let metrics = questions.task.metrics.iter();
        let grades = metrics.map(|metric| grade(*metric, &question.key, &answer)).collect();
        QuestionScore { answer, grades }
    };
    let items: Vec<QuestionScore> = answers.into_iter().zip(&questions.items).map(graded).collect();
    let measured = |(index, metric): (usize, &Metric)| {
        let grades: Vec<Grade> = items.iter().map(|item| item.grades[index]).collect();
        MetricScore { metric: *metric, name: metric.name(), estimate: summary(*metric, &grades) }
    };
    let metrics = questions.task.metrics.iter().enumerate().map(measured).collect();
    let (name, shots, cut) = (questions.task.name.clone(), questions.shots, tokenized.cut());
    Ok(TaskScore { name, shots, metrics, cut, experts: experts.shares(), items })
}
