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

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(log_likelihoods: &[f64]) -> Answer {
        Answer::Scores(log_likelihoods.iter().map(|l| Likelihood { log_likelihood: *l, greedy: *l > -1.5 }).collect())
    }

    fn value(metric: Metric, key: &Key, answer: &Answer) -> f64 {
        grade(metric, key, answer).value
    }

    #[test]
    fn choices_are_graded_by_probability_and_length() {
        let key = |gold: &[usize]| Key::Choice {
            choices: ["ab", "é", "abcdefghij"].map(str::to_owned).to_vec(),
            gold: gold.to_vec(),
        };
        let answer = scores(&[-3.0, -1.0, -2.0]);
        assert_eq!(value(Metric::Acc, &key(&[1]), &answer), 1.0);
        assert_eq!(value(Metric::AccNorm, &key(&[1]), &answer), 0.0);
        assert_eq!(value(Metric::AccNorm, &key(&[0, 2]), &answer), 1.0);
        assert_eq!(value(Metric::Acc, &key(&[]), &answer), 0.0, "a question without a correct choice");
        assert!((value(Metric::TrueMass, &key(&[0, 2]), &answer) - 0.3347590442251781).abs() < 1e-12);
        assert_eq!(value(Metric::Acc, &Key::Continuation, &scores(&[-1.0])), 1.0);
        assert_eq!(value(Metric::Acc, &Key::Continuation, &scores(&[-2.0])), 0.0);
    }

    #[test]
    fn numbers_are_found_as_in_the_harness() {
        let right = |metric, text: &str, gold: &str| {
            value(metric, &Key::Written(format!("because\n#### {gold}")), &Answer::Text(text.into())) == 1.0
        };
        assert!(right(Metric::StrictMatch, "so 3 + 4 = 7\n#### 1,234 and #### 5", "1234"));
        assert!(right(Metric::FlexibleExtract, "so 3 + 4 = 7\n#### 1,234 and #### 5", "5"));
        assert!(right(Metric::FlexibleExtract, "It is $18.00.", "18.00"));
        assert!(!right(Metric::StrictMatch, "It is 18", "18") && !right(Metric::FlexibleExtract, "none", "18"));
        assert!(!right(Metric::StrictMatch, "#### $5", "5"));
    }

    /// The scores are those of the harness's `calculate_score_fullscale`.
    #[test]
    fn emotions_are_scored_as_eq_bench_does() {
        let reference = [("Remorseful", 2.0), ("Indifferent", 3.0), ("Affectionate", 0.0), ("Annoyed", 5.0)];
        let key = Key::Emotions(reference.map(|(emotion, score)| (emotion.to_owned(), score)).to_vec());
        for (text, score, parseable) in [
            ("Remorseful: 2\nIndifferent: 3\nAffectionate: 0\nAnnoyed: 5\n", 100.0, 100.0),
            ("Remorseful: 9\nIndifferent: 1\nAffectionate: 4\nAnnoyed: 5 [End]", 19.318515364047126, 100.0),
            (
                "First: Remorseful: 2\nRemorseful: 3\nIndifferent: 3\nAffectionate: 0\nAnnoyed: 5",
                98.70737281366752,
                100.0,
            ),
            ("Remorseful: 2\nIndifferent: 3\nAffectionate: 0", 0.0, 0.0),
            ("Remorseful: 2\nIndifferent: 3\nAffectionate: 0\nSad: 5", 0.0, 0.0),
        ] {
            let answer = Answer::Text(text.into());
            assert!((value(Metric::EqBench, &key, &answer) - score).abs() < 1e-9, "{text}");
            assert_eq!(value(Metric::PercentParseable, &key, &answer), parseable, "{text}");
        }
    }

    #[test]
    fn perplexities_weigh_documents_by_their_length() {
        let grades = [Grade { value: -6.0, weight: 3.0 }, Grade { value: -2.0, weight: 1.0 }];
        let words = summary(Metric::WordPerplexity, &grades);
        assert!((words.value - 2.0f64.exp()).abs() < 1e-12 && words.error.abs() < 1e-12, "{words:?}");
        assert!((summary(Metric::BitsPerByte, &grades).value - 2.0 / std::f64::consts::LN_2).abs() < 1e-12);
        assert!((summary(Metric::Perplexity, &grades).value - 4.0f64.exp()).abs() < 1e-9);
    }
}
