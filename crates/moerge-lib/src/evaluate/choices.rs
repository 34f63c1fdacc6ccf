//! Scores multiple-choice questions: the model picks the choice with the highest probability after the question.
//!
//! As in the lm-evaluation-harness (`multiple_choice` in its `api/task.py`), `acc` takes the choice with the highest log
//! probability, `acc_norm` that with the highest log probability per character, `acc_bytes` per byte of UTF-8. The
//! tokens of a choice are those of prompt and choice together, without those of the prompt alone.

use rayon::prelude::*;
use serde::Serialize;

use super::{
    choices_file::Choices,
    requests::{Passes, Request, Tokenized, tokenize},
    scores::Estimate,
};
use moerge_core::{error::Result, progress::Progress};
use moerge_infer::{
    runner::{Runner, Scored},
    tokenizer::Tokenizer,
};

/// A model's score on a file of questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoicesScore {
    /// The file's name.
    pub name: String,
    /// Fraction of questions whose most probable choice is correct.
    pub acc: Estimate,
    /// The same by log probability per character.
    pub acc_norm: Estimate,
    /// The same by log probability per byte.
    pub acc_bytes: Estimate,
    /// Questions that lost their beginning to fit the context.
    pub cut: usize,
    /// One entry per question.
    pub items: Vec<ItemScore>,
}

/// A model's score on one question. Choices are counted from 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemScore {
    /// The correct choice.
    pub answer: usize,
    /// The most probable choice.
    pub chosen: usize,
    /// The most probable choice per character.
    pub chosen_norm: usize,
    /// The most probable choice per byte.
    pub chosen_bytes: usize,
    /// Log probability of each choice.
    pub log_probabilities: Vec<f64>,
}

/// Tokenized questions.
pub struct TokenizedChoices<'a> {
    choices: &'a Choices,
    /// For each question, its choices.
    items: Vec<Vec<Tokenized>>,
}

impl<'a> TokenizedChoices<'a> {
    /// Tokenizes `choices` with `shots` solved examples before each, for a model with a context of `longest` tokens.
    /// Longer sequences lose their beginning.
    ///
    /// # Errors
    /// There are too few solved examples, or the tokenizer fails at a question.
    pub fn new(choices: &'a Choices, shots: usize, tokenizer: &Tokenizer, longest: usize) -> Result<Self> {
        choices.check_shots(shots)?;
        let item = |index: usize| {
            let context = choices.prompt(index, shots);
            let request = |choice: &String| Request { context: context.clone(), continuation: format!(" {choice}") };
            let requests: Vec<Request> = choices.items[index].choices.iter().map(request).collect();
            tokenize(tokenizer, &requests, longest, &|| format!("question {index} of {}", choices.file))
        };
        let items = (0..choices.items.len()).into_par_iter().map(item).collect::<Result<_>>()?;
        Ok(Self { choices, items })
    }

    /// Number of tokens to run: what choices share once, and the rest of each.
    pub fn work(&self, pass_tokens: usize) -> u64 {
        Passes::new(&self.sequences(), pass_tokens).tokens()
    }

    fn sequences(&self) -> Vec<&Scored> {
        self.items.iter().flatten().map(|choice| &choice.sequence).collect()
    }
}

/// Scores the questions. Counts tokens as [`Stage::Score`](moerge_core::progress::Stage::Score), which the caller starts
/// and ends.
///
/// # Errors
/// The weights cannot be read, or the user stops the run.
pub fn score_choices(
    runner: &Runner<'_>,
    tokenized: &TokenizedChoices<'_>,
    progress: &dyn Progress,
) -> Result<ChoicesScore> {
    let sequences = tokenized.sequences();
    let mut sums = vec![0.0; sequences.len()];
    Passes::new(&sequences, runner.pass_tokens()).run(
        runner,
        &sequences,
        &mut (),
        progress,
        &mut |index, tokens| {
            sums[index] = tokens.iter().map(|token| token.log_probability).sum();
            Ok(())
        },
    )?;
    let mut sums = sums.into_iter();
    let questions = tokenized.choices.items.iter();
    let items: Vec<ItemScore> = questions
        .map(|item| ItemScore::new(item.answer, &item.choices, sums.by_ref().take(item.choices.len()).collect()))
        .collect();
    let share = |chosen: fn(&ItemScore) -> usize| {
        Estimate::mean(items.iter().map(|item| f64::from(u8::from(chosen(item) == item.answer))))
    };
    Ok(ChoicesScore {
        name: tokenized.choices.name.clone(),
        acc: share(|item| item.chosen),
        acc_norm: share(|item| item.chosen_norm),
        acc_bytes: share(|item| item.chosen_bytes),
        cut: tokenized.items.iter().filter(|choices| choices.iter().any(|choice| choice.cut)).count(),
        items,
    })
}

impl ItemScore {
    fn new(answer: usize, choices: &[String], log_probabilities: Vec<f64>) -> Self {
        let best = |length: fn(&String) -> usize| {
            let scores = log_probabilities.iter().zip(choices).map(|(p, choice)| p / length(choice).max(1) as f64);
            let better = |best: (usize, f64), this: (usize, f64)| if this.1 > best.1 { this } else { best };
            scores.enumerate().fold((0, f64::NEG_INFINITY), better).0
        };
        Self {
            answer,
            chosen: best(|_| 1),
            chosen_norm: best(|choice| choice.chars().count()),
            chosen_bytes: best(String::len),
            log_probabilities,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_taken_out_by_character_or_byte() {
        // Three characters of nine bytes, four of four, and a long one.
        let choices = ["日本語", "abcd", "abcdefghij"].map(str::to_owned);
        let item = ItemScore::new(1, &choices, vec![-6.0, -5.0, -9.0]);
        assert_eq!((item.chosen, item.chosen_norm, item.chosen_bytes), (1, 2, 0));
        let equal = ItemScore::new(0, &choices, vec![-6.0, -6.0, -6.0]);
        assert_eq!(equal.chosen, 0, "of equal ones the first");
    }
}
