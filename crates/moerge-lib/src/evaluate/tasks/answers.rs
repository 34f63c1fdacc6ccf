//! Puts the questions of a task to a model.

use rayon::prelude::*;

use moerge_core::{
    error::Result,
    plan::Part,
    progress::{Progress, Stage},
};
use moerge_infer::{
    decoder::Observer,
    generate::{GreedyLimits, generate_greedily},
    model::Model,
    runner::{Runner, Scored},
};

use super::{
    grade::{Answer, Likelihood},
    kept_answers::{KeptAnswers, hash_of},
    questions::{Prompt, Question, Questions},
    task::Ask,
};
use crate::evaluate::{
    requests::{Passes, Tokenized, fitting, tokenize},
    resident::resident,
};

/// The questions of a task as tokens.
pub(crate) struct TokenizedQuestions<'a> {
    pub(super) questions: &'a Questions,
    items: Vec<Item>,
    /// The answers that are known already.
    known: Vec<Option<Answer>>,
    /// The part of the questions that is asked here; all by default.
    part: Option<Part>,
    /// Tokens of the model's context.
    longest: usize,
}

/// The tokens of a question.
enum Item {
    /// Continuations, or windows of a document.
    Score(Vec<Tokenized>),
    /// A prompt to continue.
    Generate(Vec<u32>),
}

/// A question's part, and its answer in the making.
struct Place {
    question: usize,
    part: usize,
}

impl<'a> TokenizedQuestions<'a> {
    /// Tokenizes `questions` for `model`. What exceeds its context loses its beginning.
    pub(crate) fn new(questions: &'a Questions, part: Option<Part>, model: &Model) -> Result<Self> {
        let longest = model.config.max_positions;
        let tokenized = |(index, question): (usize, &Question)| -> Result<Item> {
            let named = || format!("question {index} of {}", questions.task.name);
            Ok(match &question.prompt {
                Prompt::Score(requests) => Item::Score(tokenize(&model.tokenizer, requests, longest, &named)?),
                Prompt::Roll(text) => Item::Score(windows(model, text)?),
                Prompt::Generate(text) => Item::Generate(model.tokenizer.encode(text)?),
            })
        };
        let items: Vec<Item> = questions.items.par_iter().enumerate().map(tokenized).collect::<Result<_>>()?;
        let known = items.iter().map(|_| None).collect();
        Ok(Self { questions, items, known, part, longest })
    }

    /// Takes the answers that an earlier run kept.
    pub(crate) fn recall(&mut self, kept: &KeptAnswers) {
        self.known = (0..self.items.len()).map(|question| kept.get(&self.hash(question)).cloned()).collect();
    }

    /// The number of questions that lost their beginning.
    pub(crate) fn cut(&self) -> usize {
        let cut = |item: &&Item| match item {
            Item::Score(parts) => parts.iter().any(|part| part.cut),
            Item::Generate(prompt) => prompt.len() + self.limits().1 > self.longest,
        };
        self.items.iter().filter(cut).count()
    }

    /// Tokens to run, for passes of `pass_tokens`.
    pub(crate) fn work(&self, pass_tokens: usize) -> u64 {
        let (_, sequences) = self.sequences();
        Passes::new(&sequences, pass_tokens).tokens() + (self.prompts().count() * self.limits().1) as u64
    }

    /// The questions to ask.
    fn unknown(&self) -> impl Iterator<Item = (usize, &Item)> {
        let own = |question: usize| self.part.is_none_or(|part| part.has(question));
        self.items.iter().enumerate().filter(move |(question, _)| own(*question) && self.known[*question].is_none())
    }

    /// The sequences to be scored, and the question and part that each belongs to.
    fn sequences(&self) -> (Vec<Place>, Vec<&Scored>) {
        let scored = self.unknown().filter_map(|(question, item)| match item {
            Item::Score(parts) => Some((question, parts)),
            Item::Generate(_) => None,
        });
        let parts = scored.flat_map(|(question, parts)| {
            parts.iter().enumerate().map(move |(part, tokens)| (Place { question, part }, &tokens.sequence))
        });
        parts.unzip()
    }

    fn prompts(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.unknown().filter_map(|(question, item)| match item {
            Item::Generate(prompt) => Some((question, &prompt[..])),
            Item::Score(_) => None,
        })
    }

    /// What ends a written answer, and its maximum number of tokens.
    fn limits(&self) -> (&'static [&'static str], usize) {
        match self.questions.task.ask {
            Ask::Generate { until, tokens, .. } => (until, tokens),
            _ => (&[], 0),
        }
    }

    /// A hash of all that is asked.
    fn hash(&self, question: usize) -> String {
        match &self.items[question] {
            Item::Score(parts) => hash_of(parts.iter().map(|part| (part.sequence.last, &part.sequence.tokens[..]))),
            Item::Generate(prompt) => {
                let (until, tokens) = self.limits();
                let until: Vec<u32> = until.concat().bytes().map(u32::from).collect();
                hash_of([(0, &until[..]), (tokens, &prompt[..])].into_iter())
            }
        }
    }

    /// The answers, in the order of the questions; new ones are kept as they come. Those that other parts ask are
    /// blank. Counts tokens as [`Stage::Score`], which the caller starts and ends.
    pub(crate) fn ask(
        &self,
        runner: &Runner<'_>,
        model: &Model,
        kept: Option<&KeptAnswers>,
        observer: &mut (dyn Observer + Send),
        progress: &dyn Progress,
    ) -> Result<Vec<Answer>> {
        let mut answers: Vec<Answer> =
            self.items.iter().zip(&self.known).map(|(item, known)| item.blank(known)).collect();
        let keep = |question: usize, answer: &Answer| match kept {
            Some(kept) => kept.keep(&self.hash(question), answer),
            None => Ok(()),
        };
        let (places, sequences) = self.sequences();
        let mut open: Vec<usize> = answers.iter().map(Answer::parts).collect();
        Passes::new(&sequences, runner.pass_tokens()).run(
            runner,
            &sequences,
            observer,
            progress,
            &mut |index, tokens| {
                let Place { question, part } = places[index];
                if let Answer::Scores(scores) = &mut answers[question] {
                    scores[part] = Likelihood {
                        log_likelihood: nine_decimals(tokens.iter().map(|token| token.log_probability).sum()),
                        greedy: tokens.iter().all(|token| token.greedy),
                    };
                }
                open[question] -= 1;
                if open[question] == 0 { keep(question, &answers[question]) } else { Ok(()) }
            },
        )?;
        let (owners, prompts): (Vec<usize>, Vec<&[u32]>) = self.prompts().unzip();
        if prompts.is_empty() {
            return Ok(answers);
        }
        let resident = resident(runner, model)?;
        let (until, tokens) = self.limits();
        let limits = GreedyLimits { until, eos: model.tokenizer.eos(), tokens, context: self.longest };
        generate_greedily(resident, &model.tokenizer, &prompts, &limits, observer, progress, &mut |index, text| {
            answers[owners[index]] = Answer::Text(text);
            progress.advance(Stage::Score, tokens as u64);
            keep(owners[index], &answers[owners[index]])
        })?;
        Ok(answers)
    }
}

impl Item {
    /// The known answer, or one to be filled in.
    fn blank(&self, known: &Option<Answer>) -> Answer {
        match (known, self) {
            (Some(answer), _) => answer.clone(),
            (None, Self::Score(parts)) => {
                Answer::Scores(vec![Likelihood { log_likelihood: f64::NAN, greedy: false }; parts.len()])
            }
            (None, Self::Generate(_)) => Answer::Text(String::new()),
        }
    }
}

/// More is noise, and a number of 15 digits is read back from a file of kept answers as it was.
fn nine_decimals(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
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
        // Every window has a full context where the document is long enough.
        let begin = (end - 1).saturating_sub(longest).min(start - 1);
        windows.push(fitting(tokens[begin..start].to_vec(), tokens[start..end].to_vec(), longest));
        start = end;
    }
    Ok(windows)
}
