//! Compares the grades of two models question by question: which questions changed, and whether chance explains it
//! (McNemar's exact test, Psychometrika 12, 1947).

use serde::Serialize;

use super::{TaskScore, task::Metric};

/// How the answers of two models to a task differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The task.
    pub task: String,
    /// The metric that decides what is correct.
    pub metric: &'static str,
    /// Questions of the task.
    pub questions: usize,
    /// Questions that only the first model answers correctly, from 0.
    pub lost: Vec<usize>,
    /// Questions that only the second model answers correctly.
    pub won: Vec<usize>,
    /// How probable a difference at least as large is if both are equally good.
    pub p: f64,
}

/// The metrics that grade a question as right or wrong, the one that counts most first.
const DECISIVE: [Metric; 4] = [Metric::AccNorm, Metric::Acc, Metric::StrictMatch, Metric::FlexibleExtract];

/// Compares the scores of two models on the same questions. `None` for tasks without right and wrong.
pub fn compare(first: &TaskScore, second: &TaskScore) -> Option<Comparison> {
    let find = |metric: &Metric| first.metrics.iter().position(|found| found.metric == *metric);
    let index = DECISIVE.iter().find_map(find)?;
    let right = |score: &TaskScore, question: usize| score.items[question].grades[index].value > 0.5;
    let questions = first.items.len().min(second.items.len());
    let only = |one: &TaskScore, other: &TaskScore| {
        (0..questions).filter(|question| right(one, *question) && !right(other, *question)).collect::<Vec<_>>()
    };
    let (lost, won) = (only(first, second), only(second, first));
    let p = mcnemar(lost.len(), won.len());
    Some(Comparison { task: first.name.clone(), metric: first.metrics[index].name, questions, lost, won, p })
}

/// The two-sided probability that of `lost + won` fair coins at most the smaller number, or at least the larger one, show
/// heads.
pub fn mcnemar(lost: usize, won: usize) -> f64 {
    let (few, all) = (lost.min(won), lost + won);
    // The logarithm of each term, since 2^-all may be too small for a number.
    let mut term = -(all as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for heads in 1..=few {
        term += ((all - heads + 1) as f64 / heads as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{
        Estimate,
        tasks::{
            MetricScore, QuestionScore,
            grade::{Answer, Grade},
        },
    };

    fn score(right: &[bool]) -> TaskScore {
        let item = |right: &bool| QuestionScore {
            answer: Answer::Text(String::new()),
            grades: vec![Grade { value: f64::from(u8::from(*right)), weight: 1.0 }],
        };
        let estimate = Estimate { value: 0.0, error: 0.0 };
        let metrics = vec![MetricScore { metric: Metric::Acc, name: "acc", estimate }];
        TaskScore {
            name: "t".into(),
            shots: 0,
            metrics,
            cut: 0,
            experts: None,
            items: right.iter().map(item).collect(),
        }
    }

    #[test]
    fn questions_that_changed_are_named() {
        let found = compare(&score(&[true, true, false, false]), &score(&[true, false, true, false])).unwrap();
        assert_eq!((&found.lost[..], &found.won[..], found.p), (&[1][..], &[2][..], 1.0));
    }

    /// The values are exact fractions, rounded.
    #[test]
    fn the_test_is_exact() {
        for (lost, won, p) in [
            (0, 0, 1.0),
            (0, 5, 0.0625),
            (2, 10, 0.03857421875),
            (60, 40, 0.05688793364098088),
            (3000, 3200, 0.011488253770871206),
        ] {
            assert!((mcnemar(lost, won) - p).abs() < 1e-8, "{lost} {won}: {}", mcnemar(lost, won));
            assert_eq!(mcnemar(lost, won), mcnemar(won, lost));
        }
    }
}
