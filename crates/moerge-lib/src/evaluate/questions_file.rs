//! Reads questions with free answers from JSON Lines, and defines which answers are equal.
//!
//! Prompts, stops and comparison are those of the lm-evaluation-harness's `gsm8k`, which suits any short answer after
//! some text: the last match of a regular expression is the answer, compared without case, commas, dollar signs, a
//! final full stop, and everything before `#### `.

use std::path::Path;

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::text_file::name_of;
use moerge_core::{
    error::{Error, Result},
    jsonl::Lines,
    recipe::read_text,
};

/// Maximum bytes of a file.
const MAX_FILE: u64 = 256 << 20;
const SHAPE: &str = "{\"question\": \"...\", \"answer\": \"...\"}";

/// Strings that end an answer, besides the model's EOS.
pub(super) const STOPS: [&str; 3] = ["Question:", "</s>", "<|im_end|>"];
/// `gsm8k`'s flexible extraction: a number.
pub const NUMBER: &str = r"(-?[$0-9.,]{2,})|(-?[0-9]+)";

/// A file of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// The file's name without folder and extension.
    pub name: String,
    /// The file, as the user gave it.
    pub file: String,
    /// Its questions; at least one.
    pub items: Vec<Question>,
}

/// A question and its full answer, including the reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The answer; solved examples show all of it.
    pub answer: String,
}

#[derive(Deserialize)]
struct Line {
    question: Option<String>,
    answer: Option<Value>,
}

impl Questions {
    /// Reads JSON Lines with `question` and `answer`, a string or a number.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not such a question.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read_text(path, MAX_FILE)?;
        let file = path.display().to_string();
        let items = Lines::new(&file, &text).read(SHAPE, |line: Line| {
            let question = line.question.filter(|q| !q.trim().is_empty()).ok_or("a line without `question`")?;
            let answer = match line.answer {
                Some(Value::String(text)) if !text.trim().is_empty() => text,
                Some(Value::Number(number)) => number.to_string(),
                Some(_) => return Err("`answer` is not a string or a number".into()),
                None => return Err("a line without `answer`".into()),
            };
            Ok(Question { question, answer })
        })?;
        Ok(Self { name: name_of(path), file, items })
    }

    /// Question `index` after `shots` solved examples: the first ones of the file except for the question itself.
    pub fn prompt(&self, index: usize, shots: usize) -> String {
        let examples = self.items.iter().filter(|item| **item != self.items[index]).take(shots);
        let solved = |q: &Question| format!("Question: {}\nAnswer: {}\n\n", q.question, q.answer);
        examples.map(solved).collect::<String>() + &format!("Question: {}\nAnswer:", self.items[index].question)
    }
}

/// How to extract an answer from a text.
#[derive(Debug, Clone)]
pub struct Extraction(Regex);

impl Extraction {
    /// Extraction by a regular expression: of its last match, the first group that matched, else all of it.
    ///
    /// # Errors
    /// It is not a regular expression.
    pub fn new(pattern: &str) -> Result<Self> {
        let regex = Regex::new(pattern);
        regex.map(Self).map_err(|e| Error::input(format!("`{pattern}` is not a regular expression: {e}")))
    }

    /// The answer in `text`, if there is one.
    pub fn answer(&self, text: &str) -> Option<String> {
        let found = self.0.captures_iter(text).last()?;
        let answer = found.iter().skip(1).flatten().next().or_else(|| found.get(0))?;
        Some(plain(answer.as_str()))
    }

    /// Whether `text` holds the answer `gold`.
    pub fn is_right(&self, text: &str, gold: &str) -> bool {
        self.answer(text).is_some_and(|answer| answer == plain(gold))
    }
}

/// An answer without what does not count.
pub(super) fn plain(answer: &str) -> String {
    let end = answer.rsplit("#### ").next().unwrap_or(answer).trim();
    let text: String = end.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    text.strip_suffix('.').unwrap_or(&text).to_lowercase()
}

/// `text` up to the first of the stops, and whether there was one.
pub(super) fn until_stop(text: &str) -> (&str, bool) {
    let stop = STOPS.iter().filter_map(|stop| text.find(stop)).min();
    stop.map_or((text, false), |at| (&text[..at], true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_the_answer() {
        let numbers = Extraction::new(NUMBER).unwrap();
        for (text, gold) in [
            ("She has 3 + 4 = 7 apples.", "7"),
            ("That makes $1,234.", "so <<600+634=1234>>\n#### 1234"),
            ("#### -5", "-5"),
            ("It costs 2.50 dollars", "2.50"),
        ] {
            assert!(numbers.is_right(text, gold), "{text}: {:?}", numbers.answer(text));
        }
        assert!(!numbers.is_right("7 of 8", "7"));
        assert_eq!(numbers.answer("none"), None);
        let strict = Extraction::new(r"#### (\-?[0-9\.\,]+)").unwrap();
        assert_eq!(strict.answer("3 #### 4,000 and 5").as_deref(), Some("4000"));
        assert_eq!(Extraction::new("[a-z]+").unwrap().answer("Yes NO").as_deref(), Some("es"));
        assert!(Extraction::new("(").is_err());
    }

    #[test]
    fn solved_examples_stand_before_the_question() {
        let question = |question: &str, answer: &str| Question { question: question.into(), answer: answer.into() };
        let items = vec![question("1+1?", "2"), question("2+2?", "#### 4"), question("3+3?", "6")];
        let quiz = Questions { name: "q".into(), file: "q".into(), items };
        assert_eq!(quiz.prompt(0, 1), "Question: 2+2?\nAnswer: #### 4\n\nQuestion: 1+1?\nAnswer:");
        assert_eq!(quiz.prompt(2, 0), "Question: 3+3?\nAnswer:");
    }

    #[test]
    fn stops_end_an_answer() {
        assert_eq!(until_stop(" 4\n\nQuestion: 5?"), (" 4\n\n", true));
        assert_eq!(until_stop(" 4"), (" 4", false));
    }
}
