//! Suites: the sets of tasks that leaderboards average, with their numbers of solved examples and metrics.

use moerge_core::{
    error::{Error, Result},
    suggest::did_you_mean,
};
use serde::Serialize;

use super::{
    TaskScore, catalogue,
    task::{Metric, Task},
};
use crate::evaluate::scores::Estimate;

/// A suite.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What its average is the mean of.
    pub parts: Vec<SuitePart>,
}

/// A benchmark of a suite: the mean of its tasks.
#[derive(Debug, Clone)]
pub struct SuitePart {
    /// Its name in tables.
    pub name: &'static str,
    /// Its tasks; none if it is not built.
    pub members: Vec<Member>,
    /// What of it is not built, and why.
    pub missing: Option<&'static str>,
}

/// A task in a suite.
#[derive(Debug, Clone)]
pub struct Member {
    /// The task.
    pub task: Task,
    /// Solved examples before each question.
    pub shots: usize,
    /// The metric that counts.
    pub metric: &'static str,
    /// The score of guessing; scores are scaled so that this is 0. 0 where the suite takes them as they are.
    pub chance: f64,
}

/// A model's score on a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteScore {
    /// The suite.
    pub name: &'static str,
    /// The mean of the parts that were measured.
    pub average: Option<Estimate>,
    /// The parts, in the order of the suite.
    pub parts: Vec<SuitePartScore>,
}

/// A model's score on a part of a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuitePartScore {
    /// The part.
    pub name: &'static str,
    /// The mean of its tasks; `None` if not all were measured.
    pub mean: Option<Estimate>,
    /// Tasks of the part.
    pub tasks: usize,
    /// What is missing.
    pub missing: Vec<String>,
}

/// The names of all suites.
pub const NAMES: [&str; 4] = ["nous", "openllm", "openllm2", "eq-bench"];

impl Suite {
    /// The suite called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self> {
        let parts = match name {
            "nous" => nous()?,
            "openllm" => openllm()?,
            "openllm2" => openllm2()?,
            "eq-bench" => vec![SuitePart::one("EQ-Bench", "eq_bench", 0, "eqbench")?],
            _ => {
                let error = Error::input(format!("there is no suite `{name}`"));
                return Err(match did_you_mean(name, NAMES) {
                    Some(close) => error.hint(format!("did you mean `{close}`?")),
                    None => error.hint(format!("the suites are {}", NAMES.join(", "))),
                });
            }
        };
        let name = NAMES.into_iter().find(|known| *known == name).unwrap_or_default();
        Ok(Self { name, parts })
    }

    /// A metric whose scale is that of the suite's numbers.
    pub fn metric(&self) -> Metric {
        if self.name == "eq-bench" { Metric::EqBench } else { Metric::Acc }
    }

    /// The score by the scores of its tasks.
    pub fn score(&self, tasks: &[TaskScore]) -> SuiteScore {
        let parts: Vec<SuitePartScore> = self.parts.iter().map(|part| part.score(tasks)).collect();
        let measured: Vec<Estimate> = parts.iter().filter_map(|part| part.mean).collect();
        SuiteScore { name: self.name, average: mean(&measured), parts }
    }
}

impl SuitePart {
    fn of(name: &'static str, members: Vec<Member>) -> Self {
        Self { name, members, missing: None }
    }

    /// A part of one task.
    fn one(name: &'static str, task: &str, shots: usize, metric: &'static str) -> Result<Self> {
        Ok(Self::of(name, members(&[task], shots, metric)?))
    }

    fn score(&self, tasks: &[TaskScore]) -> SuitePartScore {
        let mut missing: Vec<String> = self.missing.iter().map(|what| (*what).to_owned()).collect();
        let mut found = Vec::new();
        for member in &self.members {
            let task = tasks.iter().find(|task| task.name == member.task.name && task.shots == member.shots);
            match task.and_then(|task| task.metric(member.metric)) {
                Some(estimate) => found.push(member.scaled(estimate)),
                None => missing.push(member.task.name.clone()),
            }
        }
        let mean = mean(&found).filter(|_| missing.is_empty());
        SuitePartScore { name: self.name, mean, tasks: self.members.len(), missing }
    }
}

impl Member {
    /// `max(0, (score - chance) / (1 - chance))`.
    fn scaled(&self, estimate: Estimate) -> Estimate {
        if self.chance == 0.0 {
            return estimate;
        }
        let scale = 1.0 / (1.0 - self.chance);
        Estimate { value: ((estimate.value - self.chance) * scale).max(0.0), error: estimate.error * scale }
    }
}

/// The mean of independent estimates, each with the same weight.
fn mean(estimates: &[Estimate]) -> Option<Estimate> {
    let count = estimates.len() as f64;
    let value = estimates.iter().map(|e| e.value).sum::<f64>() / count;
    let error = estimates.iter().map(|e| e.error.powi(2)).sum::<f64>().sqrt() / count;
    (!estimates.is_empty()).then_some(Estimate { value, error })
}

/// The tasks of these names or groups.
fn members(names: &[&str], shots: usize, metric: &'static str) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for name in names {
        let tasks = catalogue::tasks_named(name)?.into_iter();
        members.extend(tasks.map(|task| Member { task, shots, metric, chance: 0.0 }));
    }
    Ok(members)
}

/// Nous Research's suite, as LLM AutoEval runs it.
fn nous() -> Result<Vec<SuitePart>> {
    let mut general = members(&["hellaswag", "openbookqa", "arc_easy", "arc_challenge", "piqa"], 0, "acc_norm")?;
    general.extend(members(&["winogrande", "boolq"], 0, "acc")?);
    Ok(vec![
        SuitePart::of("AGIEval", members(&["agieval_nous"], 0, "acc_norm")?),
        SuitePart::of("GPT4All", general),
        SuitePart::one("TruthfulQA", "truthfulqa_mc2", 0, "acc")?,
        SuitePart::of("Bigbench", members(&["bigbench_nous"], 0, "acc")?),
    ])
}

/// The Open LLM Leaderboard's first version.
fn openllm() -> Result<Vec<SuitePart>> {
    Ok(vec![
        SuitePart::one("ARC", "arc_challenge", 25, "acc_norm")?,
        SuitePart::one("HellaSwag", "hellaswag", 10, "acc_norm")?,
        SuitePart::of("MMLU", members(&["mmlu"], 5, "acc")?),
        SuitePart::one("TruthfulQA", "truthfulqa_mc2", 0, "acc")?,
        SuitePart::one("Winogrande", "winogrande", 5, "acc")?,
        SuitePart::one("GSM8K", "gsm8k", 5, "exact_match,strict-match")?,
    ])
}

/// Its second version. Scores are scaled so that guessing gives 0.
fn openllm2() -> Result<Vec<SuitePart>> {
    let scaled = |members: Vec<Member>| members.into_iter().map(|m| Member { chance: chance(&m.task), ..m }).collect();
    let part = |name, tasks: &str, shots, metric| -> Result<SuitePart> {
        Ok(SuitePart::of(name, scaled(members(&[tasks], shots, metric)?)))
    };
    let missing = |name, what| SuitePart { name, members: Vec::new(), missing: Some(what) };
    Ok(vec![
        missing("IFEval", "IFEval: its checkers of instructions are not built"),
        part("BBH", "leaderboard_bbh", 3, "acc_norm")?,
        missing("MATH", "MATH level 5: the equivalence of formulas (sympy) is not built"),
        part("GPQA", "leaderboard_gpqa", 0, "acc_norm")?,
        part("MuSR", "leaderboard_musr", 0, "acc_norm")?,
        part("MMLU-Pro", "leaderboard_mmlu_pro", 5, "acc")?,
    ])
}

/// The score of guessing.
fn chance(task: &Task) -> f64 {
    let choices = match task.name.as_str() {
        "leaderboard_mmlu_pro" => 10,
        "leaderboard_musr_murder_mysteries" => 2,
        "leaderboard_musr_object_placements" => 5,
        "leaderboard_musr_team_allocation" => 3,
        _ => task.fixed_choices().unwrap_or(1),
    };
    if choices > 1 { 1.0 / choices as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tasks::MetricScore;

    fn scored(member: &Member, value: f64) -> TaskScore {
        let estimate = Estimate { value, error: 0.1 };
        let metric = MetricScore { metric: Metric::Acc, name: member.metric, estimate };
        let name = member.task.name.clone();
        TaskScore { name, shots: member.shots, metrics: vec![metric], cut: 0, experts: None, items: Vec::new() }
    }

    #[test]
    fn suites_have_the_tasks_of_their_leaderboards() {
        let sizes = |name| Suite::named(name).unwrap().parts.iter().map(|p| p.members.len()).collect::<Vec<_>>();
        assert_eq!(sizes("nous"), [8, 7, 1, 18]);
        assert_eq!(sizes("openllm"), [1, 1, 57, 1, 1, 1]);
        assert_eq!(sizes("openllm2"), [0, 24, 0, 3, 3, 1]);
        assert_eq!(sizes("eq-bench"), [1]);
        assert!(Suite::named("nos").unwrap_err().to_string().contains("nous"));
    }

    #[test]
    fn averages_count_parts_alike_and_leave_out_what_is_missing() {
        let suite = Suite::named("nous").unwrap();
        let mut tasks: Vec<TaskScore> =
            suite.parts.iter().flat_map(|part| &part.members).map(|m| scored(m, 0.5)).collect();
        tasks[8].metrics[0].estimate.value = 1.2;
        let score = suite.score(&tasks);
        assert!((score.parts[1].mean.unwrap().value - 0.6).abs() < 1e-12);
        assert!((score.average.unwrap().value - 2.1 / 4.0).abs() < 1e-12);
        let gone = tasks.remove(0);
        let score = suite.score(&tasks);
        assert_eq!((score.parts[0].mean, &score.parts[0].missing[..]), (None, &[gone.name][..]));
        assert!((score.average.unwrap().value - 1.6 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn guessing_is_scaled_to_nothing() {
        let suite = Suite::named("openllm2").unwrap();
        let scores = suite.parts.iter().flat_map(|part| &part.members).map(|m| scored(m, m.chance));
        let score = suite.score(&scores.collect::<Vec<_>>());
        assert!(score.average.unwrap().value.abs() < 1e-12, "{score:?}");
        let chances: Vec<f64> = suite.parts[1].members.iter().map(|m| m.chance).collect();
        assert!(chances.contains(&0.5) && chances.iter().all(|c| *c > 0.0), "{chances:?}");
        assert!(score.parts[0].missing[0].starts_with("IFEval"));
    }
}
