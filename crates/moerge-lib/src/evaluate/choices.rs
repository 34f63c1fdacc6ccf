//! Scores multiple-choice questions: the model picks the choice with the highest probability after the question.
//!
//! As in the lm-evaluation-harness (`multiple_choice` in its `api/task.py`), `acc` takes the choice with the highest log
//! probability, `acc_norm` that with the highest log probability per character, `acc_bytes` per byte of UTF-8. The
//! tokens of a choice are those of prompt and choice together, without those of the prompt alone.

use serde::Serialize;

use super::{choices_file::Choices, scores::Estimate};
use moerge_core::{
    error::{Error, Result},
    progress::{Progress, Stage},
};
use moerge_infer::{
    runner::{Continuations, Runner},
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
    items: Vec<Continuations>,
    cut: usize,
}

impl<'a> TokenizedChoices<'a> {
    /// Tokenizes `choices` with `shots` solved examples before each, for a model with a context of `longest` tokens.
    /// Longer sequences lose their beginning.
    pub fn new(choices: &'a Choices, shots: usize, tokenizer: &Tokenizer, longest: usize) -> Result<Self> {
        choices.check_shots(shots)?;
        let mut cut = 0;
        let mut item = |index: usize| -> Result<Continuations> {
            let prompt = choices.prompt(index, shots);
            // Tokenizers join a space with the word after it, so spaces at the prompt's end belong to the choice.
            let context = prompt.trim_end();
            let spaces = &prompt[context.len()..];
            let mut context_tokens = tokenizer.encode(context)?;
            let ending = |choice: &String| -> Result<Vec<u32>> {
                let mut whole = tokenizer.encode(&format!("{context}{spaces} {choice}"))?;
                Ok(whole.split_off(context_tokens.len().min(whole.len())))
            };
            let endings: Vec<Vec<u32>> = choices.items[index].choices.iter().map(ending).collect::<Result<_>>()?;
            let (shortest, longest_ending) = (endings.iter().map(Vec::len).min(), endings.iter().map(Vec::len).max());
            let wrong = |what: &str| Error::input(format!("question {index} of {} has {what}", choices.file));
            if context_tokens.is_empty() || shortest.unwrap_or(0) == 0 {
                return Err(wrong("a choice without tokens of its own")
                    .hint("this model's tokenizer joins it with the question; write them differently"));
            }
            // The last token of a choice is predicted, so the model does not read it.
            let room = (longest + 1).saturating_sub(longest_ending.unwrap_or(0));
            if room == 0 {
                return Err(wrong(&format!("a choice longer than the model's context of {longest} tokens")));
            }
            if context_tokens.len() > room {
                context_tokens.drain(..context_tokens.len() - room);
                cut += 1;
            }
            Ok(Continuations { context: context_tokens, endings })
        };
        let items = (0..choices.items.len()).map(&mut item).collect::<Result<_>>()?;
        Ok(Self { choices, items, cut })
    }

    /// Number of tokens to run: each context once, and every choice.
    pub fn work(&self) -> u64 {
        self.items.iter().map(work).sum()
    }
}

fn work(item: &Continuations) -> u64 {
    (item.context.len() + item.endings.iter().map(Vec::len).sum::<usize>()) as u64
}

/// Scores the questions. Counts tokens as [`Stage::Score`], which the caller starts and ends.
pub fn score_choices(
    runner: &Runner<'_>,
    tokenized: &TokenizedChoices<'_>,
    progress: &dyn Progress,
) -> Result<ChoicesScore> {
    let mut items = Vec::new();
    let mut rest = &tokenized.items[..];
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = |item: &&Continuations| {
            tokens += work(item) as usize;
            tokens <= runner.pass_tokens()
        };
        let (pass, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = later;
        for tokens in runner.continuations(pass, progress)? {
            let item = &tokenized.choices.items[items.len()];
            let sums: Vec<f64> = tokens.iter().map(|ending| ending.iter().sum()).collect();
            items.push(ItemScore::new(item.answer, &item.choices, sums));
        }
        progress.advance(Stage::Score, pass.iter().map(work).sum());
    }
    let share = |chosen: fn(&ItemScore) -> usize| {
        Estimate::mean(items.iter().map(|item| f64::from(u8::from(chosen(item) == item.answer))))
    };
    Ok(ChoicesScore {
        name: tokenized.choices.name.clone(),
        acc: share(|item| item.chosen),
        acc_norm: share(|item| item.chosen_norm),
        acc_bytes: share(|item| item.chosen_bytes),
        cut: tokenized.cut,
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
