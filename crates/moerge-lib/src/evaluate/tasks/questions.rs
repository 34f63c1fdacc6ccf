//! Makes the questions of a task from the rows of its data set: prompts with solved examples, and what grades them.

use std::collections::{HashMap, hash_map::Entry};

use moerge_core::error::{Error, Result};
use serde_json::Value;

use super::{
    examples::Picker,
    prepare::{string, unicode_spaces},
    task::{Ask, Choices, Examples, Gold, Metric, Row, Task},
    template::Compiled,
};
use crate::evaluate::requests::Request;

/// Between question and answer, and after a solved example.
const TARGET_DELIMITER: &str = " ";
const EXAMPLE_DELIMITER: &str = "\n\n";

/// The questions of a task.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The task.
    pub task: Task,
    /// Solved examples before each question.
    pub shots: usize,
    /// At least one.
    pub items: Vec<Question>,
}

/// A question of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What the model is asked.
    pub prompt: Prompt,
    /// What its answers are graded by.
    pub key: Key,
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// How probable these continuations are.
    Score(Vec<Request>),
    /// How probable this text is.
    Roll(String),
    /// To continue this text.
    Generate(String),
}

/// What the answers to a question are graded by.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// The choices, and the indices of the correct ones; none if the data set names none that exists.
    Choice {
        /// As the metrics measure their length.
        choices: Vec<String>,
        /// Sorted.
        gold: Vec<usize>,
    },
    /// The continuation that was asked for is correct.
    Continuation,
    /// The size of a document.
    Document {
        /// Parts between white space.
        words: usize,
        /// Bytes of UTF-8.
        bytes: usize,
    },
    /// The correct answer.
    Written(String),
    /// EQ-Bench's reference: emotions with their intensity.
    Emotions(Vec<(String, f64)>),
}

impl Questions {
    /// The first `limit` questions of `task` with `shots` solved examples each. `read` gives the rows of a split.
    ///
    /// # Errors
    /// The rows cannot be read, lack a column, or there are too few for the examples.
    pub fn new(
        task: Task,
        shots: Option<usize>,
        limit: Option<usize>,
        read: &mut dyn FnMut(&str) -> Result<Vec<Row>>,
    ) -> Result<Self> {
        let shots = shots.unwrap_or(task.shots);
        let split = task.split().ok_or_else(|| Error::input(format!("{} has no split with questions", task.name)))?;
        let rows = (task.prepare)(read(split)?)?;
        let read_pool;
        let pool: &[Row] = match (&task.examples, task.examples_split()) {
            _ if shots == 0 => &[],
            (Examples::Rows(rows), _) => rows,
            (_, Some(other)) if other != split => {
                read_pool = (task.prepare)(read(other)?)?;
                &read_pool
            }
            _ => &rows,
        };
        let writer = Writer::new(&task)?;
        let mut picker = Picker::new(&task, pool);
        let mut solved: HashMap<usize, String> = HashMap::new();
        let mut items = Vec::new();
        for (index, row) in rows.iter().take(limit.unwrap_or(usize::MAX)).enumerate() {
            let at = |e: Error| e.fact("row", format!("{index} of {} ({split})", task.repository));
            let mut before = task.description.clone();
            for example in picker.pick(shots, row)? {
                before.push_str(match solved.entry(example) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(writer.solved(&pool[example]).map_err(at)?),
                });
            }
            items.push(writer.question(&before, row).map_err(at)?);
        }
        if items.is_empty() {
            return Err(Error::input(format!("{} has no questions in {} ({split})", task.name, task.repository)));
        }
        Ok(Self { shots, items, task })
    }
}

/// Writes questions and solved examples with the compiled templates of a task.
struct Writer<'a> {
    task: &'a Task,
    text: Option<Compiled>,
    choices: Option<Compiled>,
    gold: Option<Compiled>,
    target: Option<Compiled>,
}

impl<'a> Writer<'a> {
    fn new(task: &'a Task) -> Result<Self> {
        let text = |source: &str| Compiled::text(source).map(Some);
        let expression = |source: &str| Compiled::expression(source).map(Some);
        let mut writer = Self { task, text: None, choices: None, gold: None, target: None };
        let (Gold::Index(gold) | Gold::Labels(gold)) = match &task.ask {
            Ask::Choices { gold, .. } | Ask::Contexts { gold, .. } => *gold,
            _ => Gold::Index("0"),
        };
        writer.gold = expression(gold)?;
        match &task.ask {
            Ask::Choices { text: question, choices, .. } => {
                writer.text = text(question)?;
                if let Choices::Expression(choices) = choices {
                    writer.choices = expression(choices)?;
                }
            }
            Ask::Contexts { choices, target, .. } => {
                writer.choices = expression(choices)?;
                writer.target = text(target)?;
            }
            Ask::Continuation { text: question, target } | Ask::Generate { text: question, target, .. } => {
                writer.text = text(question)?;
                writer.target = text(target)?;
            }
            Ask::Document { text: document, counted } => {
                writer.text = text(document)?;
                writer.target = text(counted)?;
            }
        }
        Ok(writer)
    }

    fn text(&self, row: &Row) -> Result<String> {
        self.text.as_ref().map_or_else(|| Ok(String::new()), |template| template.render(row))
    }

    fn target(&self, row: &Row) -> Result<String> {
        self.target.as_ref().map_or_else(|| Ok(String::new()), |template| template.render(row))
    }

    fn choices(&self, row: &Row) -> Result<Vec<String>> {
        if let Ask::Choices { choices: Choices::Fixed(choices), .. } = &self.task.ask {
            return Ok(choices.clone());
        }
        let value = self.choices.as_ref().map(|expression| expression.value(row)).transpose()?;
        let list = value.as_ref().and_then(Value::as_array).filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| Error::input(format!("{} has a question without choices", self.task.name)))?;
        let text = |choice: &Value| choice.as_str().map(str::to_owned);
        list.iter()
            .map(text)
            .collect::<Option<_>>()
            .ok_or_else(|| Error::input(format!("{} has a choice that is not text", self.task.name)))
    }

    /// The indices of the correct ones of `choices`.
    fn gold(&self, row: &Row, choices: &[String]) -> Result<Vec<usize>> {
        let value = self.gold.as_ref().map(|expression| expression.value(row)).transpose()?.unwrap_or_default();
        let labels = matches!(self.task.ask, Ask::Choices { gold: Gold::Labels(_), .. });
        let index = |value: &Value| match value {
            Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            Value::String(text) => choices.iter().position(|choice| choice == text),
            _ => None,
        };
        let mut gold: Vec<usize> = match &value {
            Value::Array(list) if labels => {
                list.iter().enumerate().filter(|(_, label)| label.as_u64() == Some(1)).map(|(index, _)| index).collect()
            }
            Value::Array(list) => list.iter().filter_map(index).collect(),
            value => index(value).into_iter().collect(),
        };
        gold.retain(|index| *index < choices.len());
        Ok(gold)
    }

    /// A solved example, with the empty line after it.
    fn solved(&self, row: &Row) -> Result<String> {
        let unsolved = || Error::input(format!("a solved example of {} has no correct choice", self.task.name));
        let (question, answer) = match &self.task.ask {
            Ask::Choices { .. } => {
                let choices = self.choices(row)?;
                let gold = *self.gold(row, &choices)?.first().ok_or_else(unsolved)?;
                (self.text(row)?, choices[gold].clone())
            }
            Ask::Contexts { .. } => {
                let choices = self.choices(row)?;
                let gold = *self.gold(row, &choices)?.first().ok_or_else(unsolved)?;
                (choices[gold].clone(), self.target(row)?)
            }
            _ => (self.text(row)?, self.target(row)?),
        };
        Ok(format!("{question}{TARGET_DELIMITER}{answer}{EXAMPLE_DELIMITER}"))
    }

    /// The question of `row` after `before`.
    fn question(&self, before: &str, row: &Row) -> Result<Question> {
        Ok(match &self.task.ask {
            Ask::Choices { .. } => {
                let choices = self.choices(row)?;
                let context = format!("{before}{}", self.text(row)?);
                let request = |choice: &String| Request {
                    context: context.clone(),
                    continuation: format!("{TARGET_DELIMITER}{choice}"),
                };
                let requests = choices.iter().map(request).collect();
                let gold = self.gold(row, &choices)?;
                Question { prompt: Prompt::Score(requests), key: Key::Choice { choices, gold } }
            }
            Ask::Contexts { .. } => {
                let choices = self.choices(row)?;
                let continuation = format!("{TARGET_DELIMITER}{}", self.target(row)?);
                let request = |choice: &String| Request {
                    context: format!("{before}{choice}"),
                    continuation: continuation.clone(),
                };
                let requests = choices.iter().map(request).collect();
                let gold = self.gold(row, &choices)?;
                Question { prompt: Prompt::Score(requests), key: Key::Choice { choices, gold } }
            }
            Ask::Continuation { .. } => {
                let request =
                    Request { context: format!("{before}{}", self.text(row)?), continuation: self.target(row)? };
                Question { prompt: Prompt::Score(vec![request]), key: Key::Continuation }
            }
            Ask::Document { .. } => {
                let counted = self.target(row)?;
                let spaces =
                    regex_lite::Regex::new(&unicode_spaces(r"\s+")).map_err(|e| Error::input(e.to_string()))?;
                let key = Key::Document { words: spaces.split(&counted).count(), bytes: counted.len() };
                Question { prompt: Prompt::Roll(self.text(row)?), key }
            }
            Ask::Generate { .. } => {
                let key = match self.task.metrics.contains(&Metric::EqBench) {
                    true => Key::Emotions(emotions(row)?),
                    false => Key::Written(self.target(row)?),
                };
                Question { prompt: Prompt::Generate(format!("{before}{}", self.text(row)?)), key }
            }
        })
    }
}

/// Whether the templates of `task` parse.
#[cfg(test)]
pub(super) fn check_templates(task: &Task) -> Result<()> {
    Writer::new(task).map(drop)
}

/// EQ-Bench's reference is a Python dictionary in text: `{'emotion1': 'Remorseful', .., 'emotion1_score': 2, ..}`.
fn emotions(row: &Row) -> Result<Vec<(String, f64)>> {
    let text = string(row, "reference_answer_fullscale")?;
    let value = |name: &str| {
        let (_, after) = text.split_once(&format!("'{name}':"))?;
        let value = after.split([',', '}']).next()?.trim();
        Some(value.trim_matches(['\'', '"']).to_owned())
    };
    let emotion = |n: usize| Some((value(&format!("emotion{n}"))?, value(&format!("emotion{n}_score"))?.parse().ok()?));
    let emotions: Option<Vec<_>> = (1..=4).map(emotion).collect();
    emotions.ok_or_else(|| Error::input(format!("`reference_answer_fullscale` is not four emotions: {text}")))
}
