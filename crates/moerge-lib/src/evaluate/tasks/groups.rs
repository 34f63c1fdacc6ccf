//! Means of groups of tasks as the lm-evaluation-harness reports them: over all questions, so that a task with more of
//! them counts for more. Suites average tasks instead; see [`super::suites`]. Pure.

use serde::Serialize;

use super::{
    TaskScore,
    catalogue::{self, Group},
    score::MetricScore,
};
use crate::evaluate::scores::Estimate;

/// A model's score on a group of tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupScore {
    /// The group.
    pub name: &'static str,
    /// Solved examples before each question.
    pub shots: usize,
    /// Questions of all its tasks.
    pub questions: usize,
    /// The metric that the group reports.
    pub metric: MetricScore,
}

/// The scores of all groups whose tasks are all in `tasks`, with the same number of solved examples.
pub fn group_scores(tasks: &[TaskScore]) -> Vec<GroupScore> {
    catalogue::groups().iter().flat_map(|group| with_all_shots(group, tasks)).collect()
}

fn with_all_shots(group: &Group, tasks: &[TaskScore]) -> Vec<GroupScore> {
    let first = |task: &&TaskScore| group.tasks.first().is_some_and(|name| *name == task.name);
    tasks.iter().filter(first).filter_map(|task| score(group, tasks, task.shots)).collect()
}

fn score(group: &Group, tasks: &[TaskScore], shots: usize) -> Option<GroupScore> {
    let name = group.metric?;
    let find = |name: &String| tasks.iter().find(|task| task.name == *name && task.shots == shots);
    let members: Vec<&TaskScore> = group.tasks.iter().map(find).collect::<Option<_>>()?;
    let metric = members.first()?.metrics.iter().find(|metric| metric.name == name)?;
    let measured = |task: &&TaskScore| Some((task.metric(name)?, task.items.len()));
    let estimates: Vec<(Estimate, usize)> = members.iter().map(measured).collect::<Option<_>>()?;
    let questions = estimates.iter().map(|(_, size)| size).sum();
    Some(GroupScore {
        name: group.name,
        shots,
        questions,
        metric: MetricScore { estimate: weighted(&estimates), ..metric.clone() },
    })
}

/// The mean of `estimates` weighted by the sizes of their samples. Its error is that of the pooled variance of the
/// samples, which the harness takes too: the differences between tasks do not add to it.
fn weighted(estimates: &[(Estimate, usize)]) -> Estimate {
    let count: f64 = estimates.iter().map(|(_, size)| *size as f64).sum();
    let value = estimates.iter().map(|(e, size)| e.value * *size as f64).sum::<f64>() / count;
    let squares: f64 = estimates.iter().map(|(e, size)| (*size as f64 - 1.0) * *size as f64 * e.error.powi(2)).sum();
    let freedom = count - estimates.len() as f64;
    let error = if freedom > 0.0 { (squares / freedom / count).sqrt() } else { 0.0 };
    Estimate { value, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tasks::{QuestionScore, grade::Answer, task::Metric};

    /// A task with `size` questions.
    fn scored(name: &str, shots: usize, size: usize, value: f64, error: f64) -> TaskScore {
        let estimate = Estimate { value, error };
        let metric = |metric: Metric| MetricScore { metric, name: metric.name(), estimate };
        let item = QuestionScore { answer: Answer::Text(String::new()), grades: Vec::new() };
        TaskScore {
            name: name.into(),
            shots,
            metrics: vec![metric(Metric::Acc), metric(Metric::AccNorm)],
            cut: 0,
            experts: None,
            items: vec![item; size],
        }
    }

    /// The numbers are those of `aggregate_subtask_metrics` and `pooled_sample_stderr` in lm-eval 0.4.13.
    #[test]
    fn groups_weigh_tasks_by_their_questions() {
        let mut tasks = vec![
            scored("leaderboard_musr_murder_mysteries", 0, 10, 0.5, 0.16),
            scored("leaderboard_musr_object_placements", 0, 30, 0.2, 0.07),
            scored("leaderboard_musr_team_allocation", 0, 60, 0.9, 0.04),
        ];
        let found = group_scores(&tasks);
        let [musr] = &found[..] else { panic!("{found:?}") };
        assert_eq!((musr.name, musr.questions, musr.metric.name), ("leaderboard_musr", 100, "acc_norm"));
        let Estimate { value, error } = musr.metric.estimate;
        assert!((value - 0.65).abs() < 1e-12, "{value}");
        assert!((error - 0.035_509_545_689_174_15).abs() < 1e-12, "{error}");
        tasks[1].shots = 2;
        assert_eq!(group_scores(&tasks), [], "one of its tasks has other examples");
        assert_eq!(group_scores(&tasks[..1]), []);
    }

    #[test]
    fn single_questions_have_no_error() {
        let one = Estimate { value: 1.0, error: 0.0 };
        assert_eq!(
            weighted(&[(one, 1), (Estimate { value: 0.0, error: 0.0 }, 1)]),
            Estimate { value: 0.5, error: 0.0 }
        );
    }
}
