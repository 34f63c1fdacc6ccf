//! Puts the questions of a task to a model.

use rayon::prelude::*;

use moerge_core::{
    error::{Cause, Error, Result},
    progress::{Progress, Stage},
};
use moerge_infer::{
    generate::{GreedyLimits, generate_greedily},
    model::Model,
    runner::{Runner, Scored},
};

use super::{
    grade::{Answer, Likelihood},
    questions::{Prompt, Question, Questions},
    task::Ask,
};
use crate::evaluate::requests::{Passes, Tokenized, fitting, tokenize};

/// The questions of a task as tokens.
pub(crate) struct TokenizedQuestions<'a> {
    pub(super) questions: &'a Questions,
    items: Vec<Item>,
}

/// The tokens of a question.
enum Item {
    /// Continuations, or windows of a document.
    Score(Vec<Tokenized>),
    /// A prompt to continue.
    Generate(Vec<u32>),
}

impl<'a> TokenizedQuestions<'a> {
    /// Tokenizes `questions` for `model`. What exceeds its context loses its beginning.
    pub(crate) fn new(questions: &'a Questions, model: &Model) -> Result<Self> {
        let tokenized = |(index, question): (usize, &Question)| -> Result<Item> {
            let named = || format!("question {index} of {}", questions.task.name);
            let longest = model.config.max_positions;
            Ok(match &question.prompt {
                Prompt::Score(requests) => Item::Score(tokenize(&model.tokenizer, requests, longest, &named)?),
                Prompt::Roll(text) => Item::Score(windows(model, text)?),
                Prompt::Generate(text) => Item::Generate(model.tokenizer.encode(text)?),
            })
        };
        let items = questions.items.par_iter().enumerate().map(tokenized).collect::<Result<_>>()?;
        Ok(Self { questions, items })
    }

    /// The number of questions that lost their beginning.
    pub(crate) fn cut(&self) -> usize {
        let cut = |item: &&Item| matches!(item, Item::Score(parts) if parts.iter().any(|part| part.cut));
        self.items.iter().filter(cut).count()
    }

    /// Tokens to run, for passes of `pass_tokens`.
    pub(crate) fn work(&self, pass_tokens: usize) -> u64 {
        let (_, sequences) = self.sequences();
        Passes::new(&sequences, pass_tokens).tokens() + (self.prompts().count() * self.limit()) as u64
    }

    /// The sequences to be scored, and the question and part that each belongs to.
    fn sequences(&self) -> (Vec<(usize, usize)>, Vec<&Scored>) {
        let parts = |(index, item): (usize, &'_ Item)| match item {
            Item::Score(parts) => (0..parts.len()).map(|part| (index, part)).collect(),
            Item::Generate(_) => Vec::new(),
        };
        let places: Vec<(usize, usize)> = self.items.iter().enumerate().flat_map(parts).collect();
        let scored = self.items.iter().flat_map(|item| match item {
            Item::Score(parts) => parts.iter().map(|part| &part.sequence).collect(),
            Item::Generate(_) => Vec::new(),
        });
        (places, scored.collect())
    }

    fn prompts(&self) -> impl Iterator<Item = (usize, &Vec<u32>)> {
        self.items.iter().enumerate().filter_map(|(index, item)| match item {
            Item::Generate(prompt) => Some((index, prompt)),
            Item::Score(_) => None,
        })
    }

    /// Tokens of a written answer, at most.
    fn limit(&self) -> usize {
        match self.questions.task.ask {
            Ask::Generate { tokens, .. } => tokens,
            _ => 0,
        }
    }

    /// The answers, in the order of the questions. Counts tokens as [`Stage::Score`], which the caller starts and ends.
    pub(crate) fn ask(&self, runner: &Runner<'_>, model: &Model, progress: &dyn Progress) -> Result<Vec<Answer>> {
        let mut answers: Vec<Answer> = self
            .items
            .iter()
            .map(|item| match item {
                Item::Score(parts) => {
                    Answer::Scores(vec![Likelihood { log_likelihood: f64::NAN, greedy: false }; parts.len()])
                }
                Item::Generate(_) => Answer::Text(String::new()),
            })
            .collect();
        let (places, sequences) = self.sequences();
        Passes::new(&sequences, runner.pass_tokens()).run(runner, &sequences, progress, &mut |index, tokens| {
            let (question, part) = places[index];
            if let Answer::Scores(scores) = &mut answers[question] {
                scores[part] = Likelihood {
                    log_likelihood: tokens.iter().map(|token| token.log_probability).sum(),
                    greedy: tokens.iter().all(|token| token.greedy),
                };
            }
            Ok(())
        })?;
        let (owners, prompts): (Vec<usize>, Vec<&[u32]>) = self.prompts().map(|(i, prompt)| (i, &prompt[..])).unzip();
        if prompts.is_empty() {
            return Ok(answers);
        }
        let resident = runner.resident().ok_or_else(|| {
            Error::input(format!("{} is streamed from disk, and so cannot write answers", model.reference))
                .hint("load it into memory: allow more memory, or choose a smaller quantisation")
                .cause(Cause::NeedsResidentModel)
        })?;
        let Ask::Generate { until, tokens, .. } = &self.questions.task.ask else { return Ok(answers) };
        let limits =
            GreedyLimits { until, eos: model.tokenizer.eos(), tokens: *tokens, context: model.config.max_positions };
        generate_greedily(resident, &model.tokenizer, &prompts, &limits, progress, &mut |index, text| {
            answers[owners[index]] = Answer::Text(text);
            progress.advance(Stage::Score, *tokens as u64);
            Ok(())
        })?;
        Ok(answers)
    }
}

/// A document in windows of the model's context, each predicted after the last token of the one before.
fn windows(model: &Model, text: &str) -> Result<Vec<Tokenized>> {
    let longest = model.config.max_positions;
    let mut tokens = vec![model.tokenizer.prefix_token()?];
    tokens.extend(model.tokenizer.encode(text)?);
    let mut windows = Vec::new();
    let mut start = 1;
    while start < tokens.len() {
        let end = (start + longest).min(tokens.len());
        // Every window has a full context, the first too if the document is long enough.
        let begin = end.saturating_sub(longest + 1).min(start - 1);
        let mut window = fitting(tokens[begin..start].to_vec(), tokens[start..end].to_vec(), longest);
        window.cut = false;
        windows.push(window);
        start = end;
    }
    Ok(windows)
}
