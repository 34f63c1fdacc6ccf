//! Which part of the work a process does, from the command line or from the scheduler that started it.

use moerge_core::plan::Part;

/// Stands for what the scheduler says.
const AUTO: &str = "auto";

/// The variables of a scheduler.
struct Scheduler {
    /// The number of this task.
    task: &'static str,
    /// The number of the first task, where it is not 0.
    first: Option<&'static str>,
    /// How far the numbers are apart, where it is not 1.
    step: Option<&'static str>,
    /// How many tasks there are. Kubernetes does not say.
    count: Option<&'static str>,
}

/// The first that is there counts.
const SCHEDULERS: [Scheduler; 4] = [
    // An array of Slurm.
    Scheduler {
        task: "SLURM_ARRAY_TASK_ID",
        first: Some("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    // An Indexed Job of Kubernetes.
    Scheduler { task: "JOB_COMPLETION_INDEX", first: None, step: None, count: None },
    Scheduler { task: "SKYPILOT_NODE_RANK", first: None, step: None, count: Some("SKYPILOT_NUM_NODES") },
    // `srun -n 8`.
    Scheduler { task: "SLURM_PROCID", first: None, step: None, count: Some("SLURM_NTASKS") },
];

/// Reads `2/8`; `auto`, which takes both numbers from the scheduler; or `auto/8`.
pub fn part(text: &str) -> Result<Part, String> {
    part_with(text, |name| std::env::var(name).ok())
}

fn part_with(text: &str, get: impl Fn(&str) -> Option<String>) -> Result<Part, String> {
    let (number, count) = text.split_once('/').map_or((text, None), |(number, count)| (number, Some(count)));
    if number != AUTO {
        return text.parse();
    }
    let whole = |name: &str| {
        let text = get(name);
        text.map(|text| text.parse::<usize>().map_err(|_| format!("{name} is `{text}`, not a whole number")))
            .transpose()
    };
    for Scheduler { task, first, step, count: of_all } in SCHEDULERS {
        let Some(number) = whole(task)? else { continue };
        let other =
            |name: Option<&str>, usual| Ok::<_, String>(name.map(whole).transpose()?.flatten().unwrap_or(usual));
        let (first, step) = (other(first, 0)?, other(step, 1)?.max(1));
        let count = match (count, of_all.map(whole).transpose()?.flatten()) {
            (Some(count), _) => count.parse().map_err(|_| format!("`{count}` is not a whole number"))?,
            (None, Some(count)) => count,
            (None, None) => {
                return Err(format!("{task} is {number}, and the number of tasks is unknown: write {AUTO}/COUNT"));
            }
        };
        let index = number.checked_sub(first).map(|past| past / step);
        let part = index.and_then(|index| Part::new(index + 1, count));
        return part.ok_or_else(|| format!("{task} is {number}, which is none of {count} tasks from {first}"));
    }
    let names: Vec<_> = SCHEDULERS.iter().map(|scheduler| scheduler.task).collect();
    Err(format!("no scheduler says which part this is ({}): write NUMBER/COUNT, such as 2/8", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        part_with(text, get).map(|part| part.to_string())
    }

    #[test]
    fn a_part_is_what_the_command_line_or_the_scheduler_says() {
        let ok = |text: &str, variables: &[(&str, &str)]| read(text, variables).unwrap();
        assert_eq!(ok("2/8", &[("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_COUNT", "9")]), "2/8");
        let array = [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_COUNT", "8"), ("SLURM_ARRAY_TASK_MIN", "1")];
        assert_eq!(ok("auto", &array), "5/8");
        let steps = [&array[..2], &[("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_STEP", "2")]].concat();
        assert_eq!(ok("auto", &steps), "3/8");
        let in_task = [&array[..], &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")]].concat();
        assert_eq!(ok("auto", &in_task), "5/8");
        assert_eq!(ok("auto/4", &[("JOB_COMPLETION_INDEX", "0")]), "1/4");
        assert_eq!(ok("auto", &[("SKYPILOT_NODE_RANK", "3"), ("SKYPILOT_NUM_NODES", "4")]), "4/4");
        assert_eq!(ok("auto", &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")]), "2/2");
    }

    #[test]
    fn what_a_scheduler_does_not_say_is_asked_for() {
        let error = |text: &str, variables: &[(&str, &str)]| read(text, variables).unwrap_err();
        assert!(error("auto", &[]).contains("write NUMBER/COUNT"));
        assert!(error("auto", &[("JOB_COMPLETION_INDEX", "0")]).contains("write auto/COUNT"));
        assert!(error("auto/4", &[("JOB_COMPLETION_INDEX", "4")]).contains("none of 4 tasks"));
        assert!(error("auto", &[("SKYPILOT_NODE_RANK", "x")]).contains("not a whole number"));
        assert!(error("recipe.yml", &[]).contains("such as 2/8"));
    }
}
