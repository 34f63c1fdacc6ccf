//! Cuts a text that is longer than the context into windows such that every token is predicted once.
//!
//! transformers' recipe (<https://huggingface.co/docs/transformers/perplexity>): windows of `context` tokens begin
//! every `stride` tokens, and each scores only the tokens that no earlier window contains. The first token of a text
//! has no context and is not scored; if the stride equals the context, the same goes for the first of every window.

use std::ops::Range;

use moerge_core::error::{Cause, Error, Result};

/// How texts are cut. `1 <= stride <= context`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windowing {
    context: usize,
    stride: usize,
}

/// Tokens `all` of a text, of which `scored` are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub all: Range<usize>,
    pub scored: Range<usize>,
}

impl Windowing {
    /// The largest default context. Longer ones cost much and change the result little.
    const USUAL_CONTEXT: usize = 2048;

    /// Windows for a model with a context of `longest` tokens. The default `context` is the model's, at most 2048; the
    /// default `stride` is half the context.
    ///
    /// # Errors
    /// The context is longer than the model's or shorter than two tokens, or the stride is not between 1 and the
    /// context.
    pub fn new(longest: usize, context: Option<usize>, stride: Option<usize>) -> Result<Self> {
        let context = context.unwrap_or(longest.min(Self::USUAL_CONTEXT));
        if context > longest {
            return Err(Error::input(format!("the model is made for {longest} tokens, not for {context}"))
                .hint("longer texts are split into windows, so a shorter context reads all of them")
                .cause(Cause::ContextTooLong { longest }));
        }
        if context < 2 {
            return Err(Error::input("a context of fewer than 2 tokens predicts nothing"));
        }
        let stride = stride.unwrap_or(context / 2);
        if stride == 0 || stride > context {
            return Err(Error::input(format!("a stride of {stride} tokens does not fit a context of {context}"))
                .hint("it is at least 1 and at most the context, so that no token is passed over"));
        }
        Ok(Self { context, stride })
    }

    /// Tokens in a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens between the beginnings of consecutive windows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The windows of a text of `tokens` tokens.
    pub(super) fn of(self, tokens: usize) -> Vec<Window> {
        let (mut windows, mut scored) = (Vec::new(), 0);
        for start in (0..tokens).step_by(self.stride) {
            let end = (start + self.context).min(tokens);
            windows.push(Window { all: start..end, scored: scored.max(start + 1).min(end)..end });
            scored = end;
            if end == tokens {
                break;
            }
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokens: usize, context: usize, stride: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let windowing = Windowing::new(100, Some(context), Some(stride)).unwrap();
        windowing.of(tokens).into_iter().map(|w| (w.all, w.scored)).collect()
    }

    #[test]
    fn every_token_but_the_first_is_scored_once() {
        assert_eq!(cut(10, 4, 2), [(0..4, 1..4), (2..6, 4..6), (4..8, 6..8), (6..10, 8..10)]);
        assert_eq!(cut(5, 8, 4), [(0..5, 1..5)]);
        assert_eq!(cut(9, 4, 3), [(0..4, 1..4), (3..7, 4..7), (6..9, 7..9)]);
        assert_eq!(cut(0, 4, 2), []);
        assert_eq!(cut(1, 4, 2), [(0..1, 1..1)]);
    }

    #[test]
    fn windows_that_do_not_overlap_leave_their_first_tokens_out() {
        assert_eq!(cut(7, 3, 3), [(0..3, 1..3), (3..6, 4..6), (6..7, 7..7)]);
    }

    #[test]
    fn what_fits_no_model_is_refused() {
        let usual = |longest| Windowing::new(longest, None, None).map(|w| (w.context(), w.stride())).unwrap();
        assert_eq!((usual(4096), usual(512)), ((2048, 1024), (512, 256)));
        for (context, stride) in [(Some(513), None), (Some(1), None), (None, Some(0)), (Some(8), Some(9))] {
            assert!(Windowing::new(512, context, stride).is_err(), "{context:?} {stride:?}");
        }
    }
}
