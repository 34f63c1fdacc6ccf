//! Runs all tests of one model.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    AnswersScore, Choices, ChoicesScore, Extraction, KnownExperts, MixedDocuments, MixedMoe, MixedScore, Mixing,
    NUMBER, Questions, Text, TextScore, TokenizedChoices, TokenizedText, Windowing, perplexity, score_answers,
    score_choices, splits_alike,
    tasks::{GroupScore, KeptAnswers, TaskScore, TokenizedQuestions, group_scores, questions, score_task},
};
use crate::route::{expert_names, expert_slots};
use moerge_core::{
    error::{Error, Result},
    plan::Part,
    progress::{Progress, Stage},
};
use moerge_infer::{
    generate::{GenerationConfig, Limits},
    model::Model,
    runner::{Placement, Runner},
};

/// The tests to run.
#[derive(Debug, Clone, Default)]
pub struct Tests {
    /// Texts for perplexity.
    pub texts: Vec<Text>,
    /// How documents of all texts are made, if they are to be scored.
    pub mixing: Option<Mixing>,
    /// Where what experts do on mixed documents is kept, for MoEs that differ in their routers alone.
    pub known_experts: Option<KnownExperts>,
    /// Files of multiple-choice questions.
    pub choices: Vec<Choices>,
    /// Files of questions with free answers.
    pub questions: Vec<Questions>,
    /// Tasks of the lm-evaluation-harness.
    pub tasks: Vec<questions::Questions>,
    /// How the answer is extracted from the generated text.
    pub extraction: Option<Extraction>,
    /// Maximum number of tokens of an answer.
    pub answer_tokens: usize,
    /// A folder in which the answers to tasks are kept as they come.
    pub answers: Option<PathBuf>,
    /// The part of the questions of tasks that is asked, without scores: the rest is asked elsewhere.
    pub part: Option<Part>,
    /// Solved examples before each question.
    pub shots: usize,
    /// Tokens per window; by default the model's context, at most 2048.
    pub context: Option<usize>,
    /// Tokens between windows; by default half the context.
    pub stride: Option<usize>,
}

/// The results of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelScore {
    /// The model, as the user named it.
    pub model: String,
    /// Whether it is a Mixture of Experts.
    pub moe: bool,
    /// The names of its experts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub experts: Vec<String>,
    /// Tokens per window.
    pub context: usize,
    /// Tokens between windows.
    pub stride: usize,
    /// One entry per text.
    pub texts: Vec<TextScore>,
    /// On documents made of all texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed: Option<MixedScore>,
    /// One entry per file.
    pub choices: Vec<ChoicesScore>,
    /// One entry per file.
    pub answers: Vec<AnswersScore>,
    /// One entry per task.
    pub tasks: Vec<TaskScore>,
    /// One entry per group of tasks that was asked whole and whose mean the harness reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupScore>,
}

/// The model that others are compared with.
pub struct Reference<'a> {
    model: &'a Model,
    runner: Runner<'a>,
}

impl<'a> Reference<'a> {
    /// Reads its weights into memory, or says that they will be streamed.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn new(model: &'a Model, placement: Placement, progress: &dyn Progress) -> Result<Self> {
        Ok(Self { model, runner: Runner::new(model.weights()?, placement, progress)? })
    }
}

impl Tests {
    /// Checks that two models split the texts into the same tokens.
    ///
    /// # Errors
    /// They do not, so their predictions cannot be compared; or a text cannot be split.
    pub fn check_same_tokens(&self, model: &Model, reference: &Model) -> Result<()> {
        for text in &self.texts {
            if !splits_alike(text, &model.tokenizer, &reference.tokenizer)? {
                let (one, other) = (&reference.reference, &model.reference);
                return Err(Error::input(format!("{one} and {other} split {} into different tokens", text.file))
                    .hint("only models with the same tokenizer can be compared token by token"));
            }
        }
        Ok(())
    }

    /// Runs the tests on `model`. Reports [`Stage::Load`] and then tokens as [`Stage::Score`].
    ///
    /// With a `reference` the predictions are compared with those of that model.
    ///
    /// # Errors
    /// A model cannot be read, does not fit a text, or the reference has other tokens.
    pub fn run(
        &self,
        model: &Model,
        placement: Placement,
        reference: Option<&Reference<'_>>,
        progress: &dyn Progress,
    ) -> Result<ModelScore> {
        let longest = model.config.max_positions;
        let windowing = Windowing::new(longest, self.context, self.stride)?;
        let tokenized = |text| TokenizedText::new(text, &model.tokenizer, windowing);
        let texts: Vec<TokenizedText> = self.texts.iter().map(tokenized).collect::<Result<_>>()?;
        if let Some(reference) = reference {
            self.check_same_tokens(model, reference.model)?;
        }
        let mixed = |mixing| MixedDocuments::new(&self.texts, &model.tokenizer, mixing);
        let mixed = self.mixing.map(mixed).transpose()?;
        let is_moe = model.description().decoder.experts().is_some();
        let slots = is_moe.then(|| expert_slots(model, model.storage.as_ref())).transpose()?;
        let experts = if is_moe { expert_names(model, model.storage.as_ref())? } else { Vec::new() };
        let tokenized = |choices| TokenizedChoices::new(choices, self.shots, &model.tokenizer, longest);
        let choices: Vec<TokenizedChoices<'_>> = self.choices.iter().map(tokenized).collect::<Result<_>>()?;

        let asked = |questions| TokenizedQuestions::new(questions, self.part, model);
        let mut asked: Vec<TokenizedQuestions<'_>> = self.tasks.iter().map(asked).collect::<Result<_>>()?;

        let extraction = self.extraction.clone().map_or_else(|| Extraction::new(NUMBER), Ok)?;
        let generation = GenerationConfig::open(model.storage.as_ref(), &model.dir, &model.config.raw)?;
        let generation = generation.with_eos(model.tokenizer.eos());
        let limits = Limits { stop: generation.stop, tokens: self.answer_tokens };
        let written = self.questions.iter().map(|file| (file.items.len() * limits.tokens) as u64);

        let runner = Runner::new(model.weights()?, placement, progress)?;
        let kept = |folder: &PathBuf| KeptAnswers::open(folder, self.part, model, &runner, placement);
        let kept = self.answers.as_ref().filter(|_| !asked.is_empty()).map(kept).transpose()?;
        if let Some(kept) = &kept {
            asked.iter_mut().for_each(|task| task.recall(kept));
        }
        let pass = runner.pass_tokens();
        let work =
            texts.iter().map(TokenizedText::work).chain(choices.iter().map(|file| file.work(pass))).chain(written);
        let work = work.chain(asked.iter().map(|task| task.work(pass)));
        let precision = runner.precision(placement);
        let known = self.known_experts.as_ref();
        let mixed_moe = |(documents, slots): (&MixedDocuments, _)| {
            MixedMoe::new(documents.digest(), model, slots, precision, known)
        };
        let moe = mixed.as_ref().zip(slots.as_ref()).map(mixed_moe).transpose()?;
        let mixed_work = mixed.iter().map(|documents| documents.work(moe.as_ref()));
        let work = work.chain(mixed_work).sum();
        progress.start(Stage::Score, work, 0);
        let texts = texts
            .iter()
            .map(|text| perplexity(&runner, text, reference.map(|r| &r.runner), progress))
            .collect::<Result<_>>()?;
        let mixed = mixed.map(|documents| documents.score(&runner, moe.as_ref(), progress)).transpose()?;
        let choices = choices.iter().map(|file| score_choices(&runner, file, progress)).collect::<Result<_>>()?;
        let answered = |file| score_answers(&runner, model, file, self.shots, &extraction, &limits, progress);
        let answers = self.questions.iter().map(answered).collect::<Result<_>>()?;
        let tasks = match self.part {
            None => asked
                .iter()
                .map(|task| score_task(task, &runner, model, slots.as_ref(), kept.as_ref(), progress))
                .collect::<Result<_>>()?,
            Some(_) => {
                asked
                    .iter()
                    .try_for_each(|task| task.ask(&runner, model, kept.as_ref(), &mut (), progress).map(drop))?;
                Vec::new()
            }
        };
        progress.finish(Stage::Score, &format!("{work} tokens, {}", model.reference));
        Ok(ModelScore {
            model: model.reference.clone(),
            moe: is_moe,
            experts,
            context: windowing.context(),
            stride: windowing.stride(),
            texts,
            mixed,
            choices,
            answers,
            groups: group_scores(&tasks),
            tasks,
        })
    }
}
