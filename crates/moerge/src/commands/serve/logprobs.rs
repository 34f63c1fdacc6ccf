//! Log probabilities of tokens, and the tokens as texts.

use moerge_core::Result;
use moerge_infer::{generate::TextStream, tokenizer::Tokenizer};

use super::event::Scored;

/// Names and counts the tokens of one text.
pub struct Logprobs<'a> {
    tokenizer: &'a Tokenizer,
    text: TextStream<'a>,
    /// Characters so far.
    characters: usize,
    /// How many of the likeliest tokens are wanted.
    top: usize,
}

impl<'a> Logprobs<'a> {
    /// What follows the tokens `before`, after `characters` characters of the text that is given out.
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32], characters: usize, top: usize) -> Self {
        Self { tokenizer, text: TextStream::new(tokenizer, before), characters, top }
    }

    /// Characters so far.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// Takes the next token, chosen by `scores` `[vocabulary]`, empty for the first of a text. Returns the text that it
    /// completes, too.
    pub fn push(&mut self, token: u32, scores: &[f32]) -> Result<(String, Scored)> {
        let normaliser = log_sum_exp(scores);
        let logprob = |token: u32| scores.get(token as usize).map(|s| (f64::from(*s) - normaliser) as f32);
        let mut top: Vec<(String, f32)> = Vec::new();
        for likely in likeliest(scores, self.top) {
            let (name, Some(logprob)) = (self.name(likely)?, logprob(likely)) else { continue };
            // Tokens of the same text: the likeliest, which comes first, stands for them.
            if top.iter().all(|(other, _)| *other != name) {
                top.push((name, logprob));
            }
        }
        let scored = Scored { name: self.name(token)?, offset: self.characters, logprob: logprob(token), top };
        let text = self.text.push(token)?;
        self.characters += text.chars().count();
        Ok((text, scored))
    }

    /// The text that a token would complete; as the vocabulary spells it where it completes none.
    fn name(&self, token: u32) -> Result<String> {
        let text = self.text.would_push(token)?;
        Ok(if text.is_empty() { self.tokenizer.id_to_token(token).unwrap_or_default() } else { text })
    }
}

fn log_sum_exp(scores: &[f32]) -> f64 {
    let largest = scores.iter().fold(f32::NEG_INFINITY, |m, s| m.max(*s));
    let sum: f64 = scores.iter().map(|s| f64::from(s - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// The `count` tokens of largest score, the largest first.
fn likeliest(scores: &[f32], count: usize) -> Vec<u32> {
    let larger = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut tokens: Vec<u32> = (0..).take(scores.len()).collect();
    let count = count.min(tokens.len());
    if count == 0 {
        return Vec::new();
    }
    tokens.select_nth_unstable_by(count - 1, larger);
    tokens.truncate(count);
    tokens.sort_unstable_by(larger);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_the_likeliest_come_first() {
        let scores = [1.0f32, 3.0, -200.0, 3.0, 2.0];
        let normaliser = log_sum_exp(&scores);
        let sum: f64 = scores.iter().map(|s| (f64::from(*s) - normaliser).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(likeliest(&scores, 3), [1, 3, 4]);
        assert_eq!(likeliest(&scores, 0), [0u32; 0]);
        assert_eq!(likeliest(&scores, 9).len(), 5);
        assert_eq!(likeliest(&[], 2), [0u32; 0]);
    }
}
