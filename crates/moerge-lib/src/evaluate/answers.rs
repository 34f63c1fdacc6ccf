//! Scores questions with free answers: exact match of what a regular expression finds in the answer.

use std::ops::ControlFlow;

use serde::Serialize;

use super::{
    questions_file::{Extraction, Questions, until_stop},
    resident::resident,
    scores::Estimate,
};
use moerge_core::{
    error::Result,
    progress::{Progress, Stage},
};
use moerge_infer::{
    generate::{Generator, Limits, Sampler, Sampling, answer},
    model::Model,
    runner::Runner,
};

/// A model's score on a file of questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswersScore {
    /// The file's name.
    pub name: String,
    /// Fraction of questions answered correctly.
    pub exact_match: Estimate,
    /// One entry per question.
    pub items: Vec<WrittenAnswer>,
}

/// An answer that the model wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenAnswer {
    /// All of it.
    pub text: String,
    /// The match of the regular expression in it.
    pub answer: Option<String>,
    /// Whether the match is the correct answer.
    pub right: bool,
}

/// Generates answers greedily, at most `tokens` tokens each. Reports `tokens` per question as progress of
/// [`Stage::Score`], which the caller starts and ends.
///
/// # Errors
/// The model is streamed from disk, a prompt exceeds its context, or the user stops the run.
pub fn score_answers(
    runner: &Runner<'_>,
    model: &Model,
    questions: &Questions,
    shots: usize,
    extraction: &Extraction,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<AnswersScore> {
    let mut generator = Generator::new(resident(runner, model)?, model.config.max_positions);
    let mut items = Vec::new();
    for (index, question) in questions.items.iter().enumerate() {
        let prompt = model.tokenizer.encode(&questions.prompt(index, shots))?;
        let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() }, 0);
        let mut text = String::new();
        answer(&mut generator, &model.tokenizer, &prompt, &mut sampler, limits, progress, &mut |piece| {
            text.push_str(piece.text);
            if until_stop(&text).1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let text = until_stop(&text).0.to_owned();
        let right = extraction.is_right(&text, &question.answer);
        items.push(WrittenAnswer { answer: extraction.answer(&text), right, text });
        progress.advance(Stage::Score, limits.tokens as u64);
    }
    let exact_match = Estimate::mean(items.iter().map(|item| f64::from(u8::from(item.right))));
    Ok(AnswersScore { name: questions.name.clone(), exact_match, items })
}
