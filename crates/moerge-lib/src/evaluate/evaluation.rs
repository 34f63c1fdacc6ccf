//! All tests of one model, in one go.

use moerge_checkpoint::LocalStorage;
use serde::Serialize;

use super::{
    AnswersScore, Choices, ChoicesScore, Extraction, NUMBER, Questions, Text, TextScore, TokenizedChoices,
    TokenizedText, Windowing, perplexity, score_answers, score_choices,
};
use moerge_core::{
    error::Result,
    model::families::FfnOptions,
    progress::{Progress, Stage},
};
use moerge_infer::{
    generate::{GenerationConfig, Limits},
    model::Model,
    runner::{Placement, Runner},
};

/// What models are tested on.
#[derive(Debug, Clone, Default)]
pub struct Tests {
    /// Texts whose perplexity is wanted.
    pub texts: Vec<Text>,
    /// Files of questions with choices.
    pub choices: Vec<Choices>,
    /// Files of questions whose answer the model writes.
    pub questions: Vec<Questions>,
    /// How the answer is found in what it writes.
    pub extraction: Option<Extraction>,
    /// Most tokens of a written answer.
    pub answer_tokens: usize,
    /// Solved examples before each question.
    pub shots: usize,
    /// Tokens of a window over texts; the model's, but at most 2048, where nothing is said.
    pub context: Option<usize>,
    /// Tokens from window to window; half the context where nothing is said.
    pub stride: Option<usize>,
}

/// What came of it for one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelScore {
    /// The model, as the user named it.
    pub model: String,
    /// Whether it is a Mixture of Experts.
    pub moe: bool,
    /// Tokens of a window over texts.
    pub context: usize,
    /// Tokens from window to window.
    pub stride: usize,
    /// Text by text.
    pub texts: Vec<TextScore>,
    /// File by file.
    pub choices: Vec<ChoicesScore>,
    /// File by file.
    pub answers: Vec<AnswersScore>,
}

impl Tests {
    /// Tests `model`. Reports [`Stage::Load`] and then tokens as [`Stage::Score`].
    pub fn run(&self, model: &Model, placement: Placement, progress: &dyn Progress) -> Result<ModelScore> {
        let longest = model.config.max_positions;
        let windowing = Windowing::new(longest, self.context, self.stride)?;
        let tokenized = |text| TokenizedText::new(text, &model.tokenizer, windowing);
        let texts: Vec<TokenizedText> = self.texts.iter().map(tokenized).collect::<Result<_>>()?;
        let tokenized = |choices| TokenizedChoices::new(choices, self.shots, &model.tokenizer, longest);
        let choices: Vec<TokenizedChoices<'_>> = self.choices.iter().map(tokenized).collect::<Result<_>>()?;

        let extraction = self.extraction.clone().map_or_else(|| Extraction::new(NUMBER), Ok)?;
        let generation = GenerationConfig::open(&LocalStorage, &model.dir, &model.config.raw)?;
        let limits = Limits { stop: generation.stop, tokens: self.answer_tokens };
        let written = self.questions.iter().map(|file| (file.items.len() * limits.tokens) as u64);

        let runner = Runner::new(model.weights()?, placement, progress)?;
        let work =
            texts.iter().map(TokenizedText::work).chain(choices.iter().map(TokenizedChoices::work)).chain(written);
        let work = work.sum();
        progress.start(Stage::Score, work, 0);
        let texts = texts.iter().map(|text| perplexity(&runner, text, progress)).collect::<Result<_>>()?;
        let choices = choices.iter().map(|file| score_choices(&runner, file, progress)).collect::<Result<_>>()?;
        let answered = |file| score_answers(&runner, model, file, self.shots, &extraction, &limits, progress);
        let answers = self.questions.iter().map(answered).collect::<Result<_>>()?;
        progress.finish(Stage::Score, &format!("{work} tokens, {}", model.reference));
        Ok(ModelScore {
            model: model.reference.clone(),
            moe: matches!(model.description().decoder.ffn, FfnOptions::Moe { .. }),
            context: windowing.context(),
            stride: windowing.stride(),
            texts,
            choices,
            answers,
        })
    }
}
