//! Chooses the solved examples before each question as the harness's samplers do.

use moerge_core::error::{Cause, Error, Result};

use super::{
    python_random::PythonRandom,
    task::{Row, Sampler, Task},
};

/// The seed of the harness, for every task anew.
const SEED: u32 = 1234;

/// A choice of rows for each question, in the order of the questions.
pub(super) struct Picker<'a> {
    sampler: Sampler,
    excludes_question: bool,
    pool: &'a [Row],
    random: PythonRandom,
    task: &'a str,
}

impl<'a> Picker<'a> {
    pub(super) fn new(task: &'a Task, pool: &'a [Row]) -> Self {
        let random = PythonRandom::new(SEED);
        Self { sampler: task.sampler, excludes_question: task.excludes_question(), pool, random, task: &task.name }
    }

    /// Indices of `shots` rows for the next question.
    pub(super) fn pick(&mut self, shots: usize, question: &Row) -> Result<Vec<usize>> {
        if shots == 0 {
            return Ok(Vec::new());
        }
        let other = |index: &usize| !self.excludes_question || self.pool[*index] != *question;
        let picked = match self.sampler {
            Sampler::FirstN => (0..self.pool.len()).filter(other).take(shots).collect(),
            Sampler::Random => {
                let drawn = shots + usize::from(self.excludes_question);
                let drawn = self.random.sample(self.pool.len(), drawn).unwrap_or_default();
                let kept: Vec<usize> = drawn.into_iter().filter(other).take(shots).collect();
                if kept.len() < shots && self.excludes_question {
                    // The pool has the question several times, and more than one was drawn.
                    let others: Vec<usize> = (0..self.pool.len()).filter(other).collect();
                    let again = self.random.sample(others.len(), shots).unwrap_or_default();
                    again.into_iter().map(|index| others[index]).collect()
                } else {
                    kept
                }
            }
        };
        if picked.len() < shots {
            let found = self.pool.len();
            return Err(Error::input(format!("{} has {found} rows: too few for {shots} solved examples", self.task))
                .cause(Cause::TooFewExamples));
        }
        Ok(picked)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::evaluate::tasks::{catalogue::task, task::Examples};

    fn rows(numbers: &[i64]) -> Vec<Row> {
        numbers.iter().map(|n| Row::from_iter([("n".to_owned(), json!(n))])).collect()
    }

    #[test]
    fn the_question_is_not_among_its_own_examples() {
        let task = Task { examples: Examples::Split("train"), test: Some("train"), ..task("arc_easy").unwrap() };
        let pool = rows(&(0..30).collect::<Vec<_>>());
        let mut picker = Picker::new(&task, &pool);
        for question in &pool {
            let picked = picker.pick(5, question).unwrap();
            assert!(picked.len() == 5 && picked.iter().all(|index| pool[*index] != *question), "{picked:?}");
        }
        let first = Task { sampler: Sampler::FirstN, ..task.clone() };
        assert_eq!(Picker::new(&first, &pool).pick(3, &pool[1]).unwrap(), [0, 2, 3]);
        // Seven of eight are the question: two draws never suffice for one example.
        let same = rows(&[1, 1, 1, 1, 1, 1, 1, 2]);
        let mut picker = Picker::new(&task, &same);
        assert!((0..20).all(|_| picker.pick(1, &same[0]).unwrap() == [7]));
        assert!(picker.pick(2, &same[0]).is_err());
    }
}
