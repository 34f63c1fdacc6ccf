//! Continuations to be scored after contexts: tokenized as the lm-evaluation-harness does, and run in passes that share
//! what requests begin with.

use std::ops::Range;

use moerge_core::{
    error::{Error, Result},
    progress::{Progress, Stage},
};
use moerge_infer::{
    decoder::{Observer, TokenScore},
    prefix_tree::common_prefix,
    runner::{Runner, Scored},
    tokenizer::Tokenizer,
};

/// A continuation to be scored after a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What precedes it; if empty, the tokenizer's BOS or EOS token does.
    pub context: String,
    /// Not empty.
    pub continuation: String,
}

/// The tokens of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokenized {
    pub(super) sequence: Scored,
    /// Whether it lost its beginning to fit the model's context.
    pub(super) cut: bool,
}

/// Tokenizes the requests of one question, for a model with a context of `longest` tokens; `question` names it in errors.
///
/// The tokens of a continuation are those of context and continuation together, without those of the context alone.
/// Spaces at the end of the context count as the continuation's, since tokenizers join a space with the word after it.
pub(super) fn tokenize(
    tokenizer: &Tokenizer,
    requests: &[Request],
    longest: usize,
    question: &dyn Fn() -> String,
) -> Result<Vec<Tokenized>> {
    let mut encoded: Option<(&str, Vec<u32>)> = None;
    let mut tokenized = Vec::with_capacity(requests.len());
    for Request { context, continuation } in requests {
        let (context_tokens, ending) = if context.is_empty() {
            without_context(tokenizer, continuation)?
        } else {
            let bare = context.trim_end_matches(is_python_space);
            if encoded.as_ref().is_none_or(|(known, _)| *known != bare) {
                encoded = Some((bare, tokenizer.encode(bare)?));
            }
            let context_tokens = encoded.as_ref().map(|(_, tokens)| tokens.clone()).unwrap_or_default();
            let mut whole = tokenizer.encode(&format!("{context}{continuation}"))?;
            let ending = whole.split_off(context_tokens.len().min(whole.len()));
            (context_tokens, ending)
        };
        if context_tokens.is_empty() || ending.is_empty() {
            return Err(Error::input(format!("{} has a choice without tokens of its own", question()))
                .hint("this model's tokenizer joins it with the question; write them differently"));
        }
        if ending.len() > longest {
            let most = format!("longer than the model's context of {longest} tokens");
            return Err(Error::input(format!("{} has a choice {most}", question())));
        }
        tokenized.push(fitting(context_tokens, ending, longest));
    }
    Ok(tokenized)
}

/// BOS or EOS as context. A continuation that begins with it brings it along.
fn without_context(tokenizer: &Tokenizer, continuation: &str) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut tokens = tokenizer.encode_rendered(continuation)?;
    let prefix = tokenizer.prefix_token()?;
    if tokens.first() == Some(&prefix) {
        let rest = tokens.split_off(1);
        return Ok((tokens, rest));
    }
    Ok((vec![prefix], tokens))
}

/// Both together, without what exceeds `longest` tokens of input at the beginning.
pub(super) fn fitting(context: Vec<u32>, ending: Vec<u32>, longest: usize) -> Tokenized {
    let last = ending.len();
    let mut tokens = context;
    tokens.extend(ending);
    // The last token is predicted, so the model does not read it.
    let excess = tokens.len().saturating_sub(longest + 1);
    tokens.drain(..excess);
    Tokenized { sequence: Scored { tokens, last }, cut: excess > 0 }
}

/// Whether Python's `str.isspace` and `str.strip` take it for white space.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Requests in the order in which they share the most, cut into passes.
pub(super) struct Passes {
    order: Vec<usize>,
    passes: Vec<Pass>,
}

struct Pass {
    /// A part of the order.
    requests: Range<usize>,
    /// Tokens that the model reads.
    tokens: u64,
    /// Tokens that its first two requests share.
    shared: u64,
}

impl Pass {
    /// Whether a request fits that shares `shared` tokens with the one before and brings `new` ones.
    fn has_room(&self, shared: u64, new: u64, limit: u64) -> bool {
        let shared = if self.requests.len() == 1 { shared } else { self.shared };
        new == 0 || self.tokens + new <= limit + shared
    }

    fn add(&mut self, shared: u64, new: u64) {
        if self.requests.len() == 1 {
            self.shared = shared;
        }
        self.requests.end += 1;
        self.tokens += new;
    }
}

impl Passes {
    /// Passes of at most `limit` tokens. What the first requests of a pass share, such as solved examples, does not count:
    /// each pass computes it again, so longer passes do so less often.
    pub(super) fn new(sequences: &[&Scored], limit: usize) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|index| sequences[*index].inputs());
        let mut passes: Vec<Pass> = Vec::new();
        for (place, index) in order.iter().enumerate() {
            let inputs = sequences[*index].inputs();
            let shared = place.checked_sub(1).map_or(0, |one| common_prefix(sequences[order[one]].inputs(), inputs));
            let (shared, new) = (shared as u64, (inputs.len() - shared) as u64);
            match passes.last_mut() {
                Some(pass) if pass.has_room(shared, new, limit as u64) => pass.add(shared, new),
                _ => passes.push(Pass { requests: place..place + 1, tokens: shared + new, shared: 0 }),
            }
        }
        Self { order, passes }
    }

    /// Tokens that the model reads in all passes.
    pub(super) fn tokens(&self) -> u64 {
        self.passes.iter().map(|pass| pass.tokens).sum()
    }

    /// Runs them. `found` receives the scores of each request by its index, pass by pass. Counts tokens as
    /// [`Stage::Score`], which the caller starts and ends.
    pub(super) fn run(
        &self,
        runner: &Runner<'_>,
        sequences: &[&Scored],
        observer: &mut dyn Observer,
        progress: &dyn Progress,
        found: &mut dyn FnMut(usize, &[TokenScore]) -> Result<()>,
    ) -> Result<()> {
        for pass in &self.passes {
            let indices = &self.order[pass.requests.clone()];
            let these: Vec<&Scored> = indices.iter().map(|index| sequences[*index]).collect();
            for (index, scores) in indices.iter().zip(runner.score(&these, observer, progress)?) {
                found(*index, &scores)?;
            }
            progress.advance(Stage::Score, pass.tokens);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(tokens: &[u32]) -> Scored {
        Scored { tokens: tokens.to_vec(), last: 1 }
    }

    #[test]
    fn passes_count_what_is_shared_once() {
        let sequences = [[1, 2, 3, 9], [5, 6, 7, 9], [1, 2, 4, 9], [1, 2, 3, 8]].map(|tokens| scored(&tokens));
        let sequences: Vec<&Scored> = sequences.iter().collect();
        let cut = |limit| {
            let passes = Passes::new(&sequences, limit);
            let parts = passes.passes.iter().map(|pass| passes.order[pass.requests.clone()].to_vec());
            (parts.collect::<Vec<_>>(), passes.tokens())
        };
        assert_eq!(cut(100), (vec![vec![0, 3, 2, 1]], 7));
        assert_eq!(cut(3), (vec![vec![0, 3, 2], vec![1]], 7), "what the first two share does not count");
        // What a pass shares with the one before, it computes again.
        assert_eq!(cut(0), (vec![vec![0, 3], vec![2], vec![1]], 9));
        assert_eq!(Passes::new(&[], 10).tokens(), 0);
    }

    #[test]
    fn what_does_not_fit_loses_its_beginning() {
        let fit = |longest| fitting(vec![1, 2, 3], vec![4, 5], longest);
        assert_eq!(fit(4), Tokenized { sequence: Scored { tokens: vec![1, 2, 3, 4, 5], last: 2 }, cut: false });
        assert_eq!(fit(2), Tokenized { sequence: Scored { tokens: vec![3, 4, 5], last: 2 }, cut: true });
    }
}
