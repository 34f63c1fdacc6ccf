//! `--tasks` and `--suite`: which tasks are asked, and where their data sets come from.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use moerge_core::{Error, Result, plan::Part};
use moerge_hub::Hub;
use moerge_lib::evaluate::tasks::{
    catalogue,
    data_folder::{read_files, read_split, split_files},
    questions::Questions,
    suites::{self, Suite},
    task::Task,
};

use crate::{
    commands::{folder, hub},
    numbers::count,
    progress::Reporter,
    scheduler,
};

/// Tasks of the lm-evaluation-harness.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("asked").multiple(true))]
pub struct TaskArgs {
    /// Tasks of lm-evaluation-harness, such as arc_challenge,hellaswag,mmlu; --list-tasks names them
    #[arg(long, value_name = "TASK", num_args = 1.., value_delimiter = ',', groups = ["tests", "asked"])]
    tasks: Vec<String>,
    /// Tasks that a leaderboard averages, with its numbers of solved examples
    #[arg(long, value_name = "SUITE", value_parser = PossibleValuesParser::new(suites::NAMES), groups = ["tests", "asked"])]
    suite: Vec<String>,
    /// Folder with the data sets of tasks, DIR/org/name/config/split.jsonl (or .json, .csv, .parquet) [default: the Hub]
    #[arg(long, value_name = "DIR", requires = "asked")]
    data: Option<PathBuf>,
    /// Only the first N questions of each task
    #[arg(long, value_name = "N", value_parser = crate::sizes::tokens, requires = "asked")]
    limit: Option<usize>,
    /// Keep the answers to tasks in DIR as they come; a rerun asks only what is not answered there
    #[arg(long, value_name = "DIR", requires = "asked")]
    pub answers: Option<PathBuf>,
    /// Only answer part I of N of the questions, on one of several machines: 2/8, auto/8. Without a value, or with `auto`,
    /// I and N come from the scheduler. A run without --part then gives the results
    #[arg(long, value_name = "I/N", num_args = 0..=1, default_missing_value = "auto", value_parser = scheduler::part)]
    #[arg(requires = "answers", conflicts_with_all = ["text", "choices", "questions", "compare", "html", "card", "json"])]
    pub part: Option<Part>,
    /// Also compare the answers to tasks with the first model's: the questions that changed, and McNemar's test
    #[arg(long, requires = "asked")]
    pub compare: bool,
    /// Write the results of tasks as a self-contained HTML page, with --compare also the questions that changed
    #[arg(long, value_name = "FILE", requires = "asked")]
    pub html: Option<PathBuf>,
    /// Print the names of all tasks and suites
    #[arg(long, group = "tests")]
    pub list_tasks: bool,
}

/// The questions to ask, and the suites to average.
#[derive(Default)]
pub struct Asked {
    /// A task with the same number of solved examples is there once.
    pub questions: Vec<Questions>,
    /// The suites.
    pub suites: Vec<Suite>,
}

impl TaskArgs {
    /// Reads the data sets and makes the questions; `shots` overrides the solved examples of single tasks, not of suites.
    ///
    /// A task of a suite whose data set is not there is left out with a warning; a single task is an error.
    pub fn load(&self, shots: Option<usize>, reporter: &Reporter) -> Result<Asked> {
        if self.tasks.is_empty() && self.suite.is_empty() {
            return Ok(Asked::default());
        }
        let suites: Vec<Suite> = self.suite.iter().map(|name| Suite::named(name)).collect::<Result<_>>()?;
        let mut asked = Asked::default();
        let hub = hub(reporter)?;
        for name in &self.tasks {
            for task in catalogue::tasks_named(name)? {
                let shots = shots.unwrap_or(task.shots);
                self.ask(task, shots, &hub, reporter, &mut asked.questions)?;
            }
        }
        for suite in &suites {
            for part in &suite.parts {
                let mut missing = Vec::new();
                for member in &part.members {
                    match self.ask(member.task.clone(), member.shots, &hub, reporter, &mut asked.questions) {
                        Err(error) if error.kind() == moerge_core::ErrorKind::Input => missing.push(error),
                        outcome => outcome?,
                    }
                }
                if let Some(error) = missing.first() {
                    let tasks = count(missing.len(), "task");
                    let first = &error.parts().message;
                    reporter.warning(&format!("{} {}: {tasks} left out; {first}", suite.name, part.name));
                }
            }
        }
        if asked.questions.is_empty() {
            return Err(Error::input(format!("none of the data sets of {} is there", self.suite.join(", ")))
                .hint("each warning above says what was looked for"));
        }
        asked.suites = suites;
        Ok(asked)
    }

    fn ask(
        &self,
        task: Task,
        shots: usize,
        hub: &Hub,
        reporter: &Reporter,
        questions: &mut Vec<Questions>,
    ) -> Result<()> {
        if questions.iter().any(|known| known.task.name == task.name && known.shots == shots) {
            return Ok(());
        }
        let read = task.clone();
        let asked = Questions::new(task, Some(shots), self.limit, &mut |split| match &self.data {
            Some(data) => read_split(&folder(data), &read, split),
            None => {
                let config = hub.ensure_split_downloaded(read.repository, &read.config, split, reporter)?;
                read_files(&split_files(&config, split))
            }
        })?;
        questions.push(asked);
        Ok(())
    }
}

/// The names of all tasks, groups and suites.
pub fn list() -> Vec<String> {
    let mut lines = vec![format!("suites: {}", suites::NAMES.join(", "))];
    let groups = catalogue::groups();
    lines.push(format!("groups: {}", groups.iter().map(|group| group.name).collect::<Vec<_>>().join(", ")));
    lines.push(String::from("tasks:"));
    lines.extend(catalogue::tasks().into_iter().map(|task| format!("  {}", task.name)));
    lines
}
