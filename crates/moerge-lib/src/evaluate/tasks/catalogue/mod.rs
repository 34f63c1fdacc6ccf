//! The tasks that can be run, by the names of the lm-evaluation-harness, whose version 0.4.13 they follow.

mod bigbench;
mod generation;
mod language_modelling;
mod leaderboard;
mod mmlu;
mod multiple_choice;

use moerge_core::{
    error::{Cause, Error, Result},
    suggest::did_you_mean,
};

use super::task::{Ask, Choices, Examples, Gold, Metric, NO_CONFIG, Sampler, Task, as_they_are, fixed};

/// All tasks.
pub fn tasks() -> Vec<Task> {
    let mut tasks = multiple_choice::tasks();
    tasks.extend(mmlu::tasks());
    tasks.extend(bigbench::tasks());
    tasks.extend(leaderboard::tasks());
    tasks.extend(generation::tasks());
    tasks.extend(language_modelling::tasks());
    tasks
}

/// Tasks that have a name together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, in the harness where it has one.
    pub name: &'static str,
    /// The names of its tasks.
    pub tasks: Vec<String>,
    /// The metric whose mean over all questions the harness reports, if it does.
    pub metric: Option<&'static str>,
}

/// All groups.
pub fn groups() -> Vec<Group> {
    let names = |tasks: Vec<Task>| tasks.into_iter().map(|task| task.name).collect();
    let named = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let group = |name, tasks, metric| Group { name, tasks, metric };
    let mut groups = vec![group("mmlu", names(mmlu::tasks()), Some("acc"))];
    groups.extend(mmlu::FIELDS.map(|(name, field)| group(name, mmlu::subjects(field), Some("acc"))));
    groups.extend([
        group("bigbench_nous", names(bigbench::nous()), None),
        group("agieval_nous", names(multiple_choice::agieval()), Some("acc_norm")),
        group("leaderboard_bbh", names(leaderboard::bbh()), Some("acc_norm")),
        group("leaderboard_gpqa", names(leaderboard::gpqa()), Some("acc_norm")),
        group("leaderboard_musr", names(leaderboard::musr()), Some("acc_norm")),
        group("ai2_arc", named(&["arc_easy", "arc_challenge"]), None),
        group("truthfulqa", named(&["truthfulqa_mc1", "truthfulqa_mc2"]), None),
    ]);
    groups
}

/// The task of this name.
///
/// # Errors
/// There is none.
pub fn task(name: &str) -> Result<Task> {
    let mut known = tasks();
    if let Some(index) = known.iter().position(|task| task.name == name) {
        return Ok(known.swap_remove(index));
    }
    let names: Vec<String> =
        known.into_iter().map(|task| task.name).chain(groups().into_iter().map(|g| g.name.to_owned())).collect();
    let error = Error::input(format!("there is no task `{name}`"));
    Err(match did_you_mean(name, names.iter().map(String::as_str)) {
        Some(close) => error.hint(format!("did you mean `{close}`?")),
        None => error.cause(Cause::UnknownTask),
    })
}

/// The tasks of this name: one, or those of a group.
///
/// # Errors
/// There is neither a task nor a group of this name.
pub fn tasks_named(name: &str) -> Result<Vec<Task>> {
    match groups().into_iter().find(|group| group.name == name) {
        Some(group) => group.tasks.iter().map(|name| task(name)).collect(),
        None => Ok(vec![task(name)?]),
    }
}

/// What most tasks have in common: a training split for examples, a choice, and accuracy.
fn table(name: impl Into<String>, repository: &'static str, config: impl Into<String>, ask: Ask) -> Task {
    Task {
        name: name.into(),
        repository,
        config: config.into(),
        training: Some("train"),
        validation: Some("validation"),
        test: None,
        examples: Examples::Usual,
        sampler: Sampler::Random,
        shots: 0,
        prepare: as_they_are,
        description: String::new(),
        ask,
        metrics: &[Metric::Acc],
    }
}

const ACC_AND_NORM: &[Metric] = &[Metric::Acc, Metric::AccNorm];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::evaluate::tasks::questions::check_templates;

    #[test]
    fn names_are_unique_and_templates_parse() {
        let tasks = tasks();
        assert_eq!(tasks.iter().map(|task| &task.name).collect::<HashSet<_>>().len(), tasks.len());
        for task in &tasks {
            check_templates(task).unwrap();
            assert!(task.split().is_some() && !task.metrics.is_empty(), "{}", task.name);
        }
        assert_eq!(tasks_named("mmlu").unwrap().len(), 57);
        let fields = ["mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other"];
        assert_eq!(fields.map(|name| tasks_named(name).unwrap().len()), [19, 13, 12, 13]);
        assert_eq!(tasks_named("leaderboard_bbh").unwrap().len(), 24);
        assert!(task("arc_chalenge").unwrap_err().to_string().contains("arc_challenge"));
    }
}
