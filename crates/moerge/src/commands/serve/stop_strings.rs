//! Texts that end an answer: what may be the beginning of one is held back until it is clear that it is not.

use super::event::Token;

/// The end of an answer that cannot be given out yet.
pub struct StopStrings {
    stops: Vec<String>,
    held: Vec<Token>,
}

impl StopStrings {
    /// Holds back what may become one of `stops`, which are not empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: Vec::new() }
    }

    /// Takes the next token. Returns those that may be given out, and whether the answer ends with them; its text then
    /// ends where the stop text begins.
    pub fn push(&mut self, token: Token) -> (Vec<Token>, bool) {
        self.held.push(token);
        let text: String = self.held.iter().map(|t| t.text.as_str()).collect();
        if let Some(end) = self.stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            return (self.until(end), true);
        }
        let unfinished = |stop: &String| {
            let ends = (1..stop.len()).rev().filter(|n| stop.is_char_boundary(*n));
            ends.into_iter().find(|n| text.ends_with(&stop[..*n])).unwrap_or(0)
        };
        let kept = text.len() - self.stops.iter().map(unfinished).max().unwrap_or(0);
        let mut length = 0;
        let clear = |token: &&Token| {
            length += token.text.len();
            length <= kept
        };
        let count = self.held.iter().take_while(clear).count();
        (self.held.drain(..count).collect(), false)
    }

    /// What is held at the end.
    pub fn finish(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.held)
    }

    /// The held tokens up to byte `end` of their text.
    fn until(&mut self, end: usize) -> Vec<Token> {
        let mut left = end;
        let mut given = Vec::new();
        for mut token in self.held.drain(..) {
            if left == 0 {
                break;
            }
            token.text.truncate(left.min(token.text.len()));
            left -= token.text.len();
            given.push(token);
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out after each token, a bar where the answer ends.
    fn run(stops: &[&str], tokens: &[&str]) -> Vec<String> {
        let mut stop = StopStrings::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let text = |tokens: Vec<Token>| tokens.into_iter().map(|t| t.text).collect::<String>();
        let mut given = Vec::new();
        for token in tokens {
            let (tokens, ended) = stop.push(Token { text: (*token).to_owned(), ..Token::default() });
            given.push(text(tokens) + if ended { "|" } else { "" });
            if ended {
                return given;
            }
        }
        given.push(text(stop.finish()));
        given
    }

    #[test]
    fn answers_end_before_the_stop_text() {
        assert_eq!(run(&[], &["a", "b"]), ["a", "b", ""]);
        assert_eq!(run(&["\n\n"], &["a", "\n", "b", "\n", "\nc"]), ["a", "", "\nb", "", "|"]);
        assert_eq!(run(&["END"], &["xE", "N", "F", "E"]), ["", "", "xENF", "", "E"]);
        assert_eq!(run(&["b", "abc"], &["a", "xab"]), ["", "axa|"]);
        assert_eq!(run(&["äö"], &["ä", "ü", "ä", "ö"]), ["", "äü", "", "|"]);
    }
}
