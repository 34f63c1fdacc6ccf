//! Grades the answers to a question, and sums up the grades of a task. Pure.

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use super::{questions::Key, task::Metric};
use crate::evaluate::{questions_file::plain, scores::Estimate};

/// What a model answered to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How probable each of the continuations is.
    Scores(Vec<Likelihood>),
    /// What it wrote.
    Text(String),
}

impl Answer {
    /// The number of its continuations.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Scores(scores) => scores.len(),
            Self::Text(_) => 0,
        }
    }
}

/// How probable a continuation is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// The natural logarithm of its probability.
    pub log_likelihood: f64,
    /// Whether each of its tokens is the most probable one.
    pub greedy: bool,
}

/// A grade. What it is for depends on the metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Grade {
    /// The grade of a question, or the log-likelihood of a text.
    pub value: f64,
    /// 1, or the words or bytes of a document.
    pub weight: f64,
}

/// Grades `answer` by `metric`.
pub(super) fn grade(metric: Metric, key: &Key, answer: &Answer) -> Grade {
    let one = |value: f64| Grade { value, weight: 1.0 };
    let yes = |right: bool| one(f64::from(u8::from(right)));
    match (key, answer) {
        (Key::Choice { choices, gold }, Answer::Scores(scores)) => match metric {
            Metric::AccNorm => {
                yes(most(scores.iter().zip(choices).map(|(s, choice)| s.log_likelihood / characters(choice)), gold))
            }
            Metric::TrueMass => one(mass(scores, gold)),
            _ => yes(most(scores.iter().map(|s| s.log_likelihood), gold)),
        },
        (Key::Continuation, Answer::Scores(scores)) => match (metric, scores.first()) {
            (Metric::Perplexity, Some(score)) => one(score.log_likelihood),
            (_, score) => yes(score.is_some_and(|score| score.greedy)),
        },
        (Key::Document { words, bytes }, Answer::Scores(scores)) => {
            let weight = if metric == Metric::WordPerplexity { *words } else { *bytes };
            Grade { value: scores.iter().map(|s| s.log_likelihood).sum(), weight: weight as f64 }
        }
        (Key::Written(gold), Answer::Text(text)) => {
            yes(extracted(metric, text).is_some_and(|found| plain(&found) == plain(gold)))
        }
        (Key::Emotions(reference), Answer::Text(text)) => {
            let score = emotion_score(reference, text);
            one(match metric {
                Metric::PercentParseable => {
                    if score.is_some() {
                        100.0
                    } else {
                        0.0
                    }
                }
                _ => score.unwrap_or(0.0),
            })
        }
        _ => yes(false),
    }
}

/// The number that stands for the grades of all questions.
pub(super) fn summary(metric: Metric, grades: &[Grade]) -> Estimate {
    let mean = Estimate::mean(grades.iter().map(|grade| grade.value));
    let negated = Estimate { value: -mean.value, error: mean.error };
    match metric {
        Metric::Perplexity => negated.exp(),
        Metric::WordPerplexity | Metric::BytePerplexity => per_weight(grades).exp(),
        Metric::BitsPerByte => {
            let nats = per_weight(grades);
            Estimate { value: nats.value / std::f64::consts::LN_2, error: nats.error / std::f64::consts::LN_2 }
        }
        _ => mean,
    }
}

/// Minus the sum of values over the sum of weights; the error is that of a ratio of means, to first order.
fn per_weight(grades: &[Grade]) -> Estimate {
    let (values, weights) = grades.iter().fold((0.0, 0.0), |(v, w), grade| (v + grade.value, w + grade.weight));
    let ratio = values / weights;
    let residuals = Estimate::mean(grades.iter().map(|grade| grade.value - ratio * grade.weight));
    Estimate { value: -ratio, error: residuals.error * grades.len() as f64 / weights }
}

/// Whether the largest of `scores`, of equal ones the first, is one of `gold`.
fn most(scores: impl Iterator<Item = f64>, gold: &[usize]) -> bool {
    let larger = |best: (usize, f64), this: (usize, f64)| if this.1 > best.1 { this } else { best };
    gold.contains(&scores.enumerate().fold((0, f64::NEG_INFINITY), larger).0)
}

fn characters(choice: &str) -> f64 {
    choice.chars().count() as f64
}

/// The probability of `gold` among all.
fn mass(scores: &[Likelihood], gold: &[usize]) -> f64 {
    let probability = |score: &Likelihood| score.log_likelihood.exp();
    let right: f64 = gold.iter().filter_map(|index| scores.get(*index)).map(probability).sum();
    right / scores.iter().map(probability).sum::<f64>()
}

/// GSM8K's extraction of an answer.
fn extracted(metric: Metric, text: &str) -> Option<String> {
    let (pattern, last) = match metric {
        Metric::FlexibleExtract => (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", true),
        _ => (r"#### (\-?[0-9\.\,]+)", false),
    };
    let regex = Regex::new(pattern).ok()?;
    let found = if last { regex.captures_iter(text).last() } else { regex.captures(text) };
    let groups = found?;
    groups.iter().skip(1).flatten().next().map(|group| group.as_str().trim().to_owned())
}

/// EQ-Bench, version 2: 0 to 100, or below for answers worse than random ones; `None` if there are not four emotions of
/// the reference in `text`.
fn emotion_score(reference: &[(String, f64)], text: &str) -> Option<f64> {
    let pairs = Regex::new(r"(\w+):\s+(\d+)").ok()?;
    let mut found: Vec<(String, f64)> = Vec::new();
    for groups in pairs.captures_iter(text) {
        let (emotion, score) = (groups.get(1)?.as_str().to_owned(), groups.get(2)?.as_str().parse().ok()?);
        // As in a dictionary: the last value, once.
        match found.iter_mut().find(|(known, _)| *known == emotion) {
            Some(known) => known.1 = score,
            None => found.push((emotion, score)),
        }
    }
    let scored = |(emotion, score): &(String, f64)| {
        reference.iter().find(|(known, _)| known == emotion).map(|(_, expected)| (score - expected).abs())
    };
    let differences: Option<Vec<f64>> = found.iter().map(scored).collect();
    let differences = differences.filter(|differences| differences.len() == 4)?;
    let scaled = |d: &f64| match *d {
        0.0 => 0.0,
        d if d <= 5.0 => 6.5 / (1.0 + (-1.2 * (d - 4.0)).exp()),
        d => d,
    };
    Some(10.0 * (10.0 - 0.7477 * differences.iter().map(scaled).sum::<f64>()))
}
