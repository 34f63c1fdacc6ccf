//! Reads multiple-choice questions from JSON Lines, and makes prompts of them.
//!
//! The prompts are those of the lm-evaluation-harness: a `context` alone is used as it is (HellaSwag); a `question`
//! becomes `Question: ..` and `Answer:` on the next line (ARC), after its `context` if it has one (SciQ). A space
//! precedes each choice, and an empty line follows each solved example.

use std::path::Path;

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
const SHAPE: &str = "{\"question\": \"...\", \"choices\": [\"...\", \"...\"], \"answer\": 0}";

/// A file of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The file's name without folder and extension.
    pub name: String,
    /// The file, as the user gave it.
    pub file: String,
    /// Its questions; at least one.
    pub items: Vec<Item>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The prompt before a choice, without solved examples.
    pub prompt: String,
    /// At least two, none of them empty.
    pub choices: Vec<String>,
    /// The correct one, counted from 0.
    pub answer: usize,
}

#[derive(Deserialize)]
struct Line {
    context: Option<String>,
    question: Option<String>,
    choices: Option<Vec<String>>,
    answer: Option<Value>,
}

impl Choices {
    /// Reads JSON Lines with `question` or `context` or both, `choices`, and `answer`: the number of the correct choice
    /// from 0, its letter, or its text.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not such a question.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read_text(path, MAX_FILE)?;
        let file = path.display().to_string();
        let items = Lines::new(&file, &text).read(SHAPE, Item::from_line)?;
        Ok(Self { name: name_of(path), file, items })
    }

    /// The prompt of item `index` after `shots` solved examples: the first ones of the file except for the item itself,
    /// as in the harness's `first_n` sampler.
    pub fn prompt(&self, index: usize, shots: usize) -> String {
        let examples = self.items.iter().enumerate().filter(|(i, item)| *i != index && **item != self.items[index]);
        let solved = examples.take(shots).map(|(_, item)| format!("{} {}\n\n", item.prompt, item.choices[item.answer]));
        solved.collect::<String>() + &self.items[index].prompt
    }

    /// Refuses more solved examples than the file has besides the item itself.
    ///
    /// # Errors
    /// There are too few.
    pub fn check_shots(&self, shots: usize) -> Result<()> {
        if shots < self.items.len() || shots == 0 {
            return Ok(());
        }
        Err(Error::input(format!(
            "{} has {} questions: too few for {shots} solved examples before each",
            self.file,
            self.items.len()
        )))
    }
}

impl Item {
    fn from_line(line: Line) -> Result<Self, String> {
        let prompt = match (&line.context, &line.question) {
            (Some(context), None) => context.clone(),
            (None, Some(question)) => format!("Question: {question}\nAnswer:"),
            (Some(context), Some(question)) => format!("{context}\nQuestion: {question}\nAnswer:"),
            (None, None) => return Err("a line without `question` or `context`".into()),
        };
        if prompt.trim().is_empty() {
            return Err("an empty `context`".into());
        }
        let choices = line.choices.ok_or("a line without `choices`")?;
        if choices.len() < 2 {
            return Err(format!("{} choice where two are needed", choices.len()));
        }
        if choices.iter().any(String::is_empty) {
            return Err("an empty choice".into());
        }
        let answer = match line.answer {
            Some(Value::Number(number)) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            Some(Value::String(text)) => choices.iter().position(|c| *c == text).or_else(|| letter(&text)),
            Some(_) => return Err("`answer` is not a number, letter or text".into()),
            None => return Err("a line without `answer`".into()),
        };
        match answer.filter(|answer| *answer < choices.len()) {
            Some(answer) => Ok(Self { prompt, choices, answer }),
            None => Err(format!(
                "an `answer` that is none of the {} choices (numbers count from 0, letters from A)",
                choices.len()
            )),
        }
    }
}

/// `A` is 0.
fn letter(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Choices> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quiz.jsonl");
        std::fs::write(&path, text).unwrap();
        Choices::load(&path)
    }

    #[test]
    fn prompts_are_the_harness_own() {
        let quiz = load(concat!(
            "{\"context\": \"The sky\", \"choices\": [\"is blue\", \"is wood\"], \"answer\": 0}\n",
            "{\"question\": \"2 + 2?\", \"choices\": [\"3\", \"4\"], \"answer\": \"B\"}\n",
            "{\"context\": \"Cats purr.\", \"question\": \"Who?\", \"choices\": [\"B\", \"A\"], \"answer\": \"A\"}\n",
        ))
        .unwrap();
        assert_eq!(quiz.items.iter().map(|i| i.answer).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(quiz.prompt(0, 0), "The sky");
        assert_eq!(quiz.prompt(2, 0), "Cats purr.\nQuestion: Who?\nAnswer:");
        assert_eq!(
            quiz.prompt(1, 2),
            "The sky is blue\n\nCats purr.\nQuestion: Who?\nAnswer: A\n\nQuestion: 2 + 2?\nAnswer:"
        );
        assert!(quiz.check_shots(2).is_ok() && quiz.check_shots(3).is_err());
    }

    #[test]
    fn a_line_that_is_wrong_is_shown() {
        let good = "{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}\n";
        for (bad, why) in [
            ("{\"choices\": [\"b\", \"c\"], \"answer\": 0}", "without `question` or `context`"),
            ("{\"question\": \"a\", \"answer\": 0}", "without `choices`"),
            ("{\"question\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "1 choice where two"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "an empty choice"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"c\"]}", "without `answer`"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "none of the 2 choices"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"d\"}", "none of the 2 choices"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "none of the 2 choices"),
            ("{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": []}", "not a number, letter or text"),
            ("{\"context\": \" \", \"choices\": [\"b\", \"c\"], \"answer\": 0}", "an empty `context`"),
            ("{\"question\": \"a\", \"choices\": \"b\", \"answer\": 0}", "cannot be read"),
        ] {
            let error = load(&format!("{good}{bad}")).unwrap_err();
            assert!(error.parts().message.contains(why), "{bad}: {error}");
            assert_eq!(error.parts().snippet.as_ref().unwrap().span.start, good.len(), "{error}");
        }
    }
}
