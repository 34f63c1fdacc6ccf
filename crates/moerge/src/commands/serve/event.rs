//! What the model's thread tells a request's task while it works.

use super::api_error::ApiError;

/// The progress of a request. The first is [`Event::Begin`] or [`Event::Failed`], the last [`Event::Done`] or [`Event::Failed`].
#[derive(Debug)]
pub enum Event {
    /// The request is sound, and its turn has come.
    Begin,
    /// The next token of `choice`.
    Token { choice: usize, token: Token },
    /// The text of `choice` is complete.
    End { choice: usize, reason: Reason },
    /// All texts are.
    Done(Usage),
    /// It cannot be done, or not to its end.
    Failed(ApiError),
}

/// A token that goes out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    /// The text that it completes.
    pub text: String,
    /// Its log probability and the likeliest tokens', where wanted.
    pub scored: Option<Scored>,
    /// Per layer its experts with their weights, where wanted.
    pub routes: Option<Vec<Vec<(usize, f32)>>>,
}

/// How likely a token was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// The token as a text.
    pub name: String,
    /// Characters of the text before it.
    pub offset: usize,
    /// Its log probability; none for the first of a text.
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log probabilities.
    pub top: Vec<(String, f32)>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The model ended it, or a stop text did.
    Stop,
    /// It has as many tokens as were wanted, or as the context holds.
    Length,
}

impl Reason {
    /// OpenAI's `finish_reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: usize,
    pub completion: usize,
}
