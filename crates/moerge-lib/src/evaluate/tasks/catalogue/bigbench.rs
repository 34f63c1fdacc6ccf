//! BIG-bench's multiple choice: the tasks of Nous's suite, with the prompts that the harness has.

use super::{
    super::{prepare, task::Prepare},
    Ask, Choices, Gold, Task, table,
};

/// Spelled as in the data set.
const NAMES: [&str; 14] = [
    "causal_judgment",
    "date_understanding",
    "disambiguation_qa",
    "geometric_shapes",
    "logical_deduction",
    "movie_recommendation",
    "navigate",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects",
];

/// The tasks that the data set has in three sizes, which Nous's suite counts apart: by the number of their choices.
const SIZED: [&str; 2] = ["logical_deduction", "tracking_shuffled_objects"];

pub(super) fn tasks() -> Vec<Task> {
    let sized = |name: &&str| {
        let sizes: [(&str, Prepare); 3] = [
            ("three", prepare::with_exactly::<3>),
            ("five", prepare::with_exactly::<5>),
            ("seven", prepare::with_exactly::<7>),
        ];
        let task = task(name);
        sizes.map(|(size, prepare)| Task {
            name: format!("bigbench_{name}_{size}_objects_multiple_choice"),
            prepare,
            ..task.clone()
        })
    };
    NAMES.iter().map(|name| task(name)).chain(SIZED.iter().flat_map(sized)).collect()
}

/// The tasks of Nous's suite.
pub(super) fn nous() -> Vec<Task> {
    let whole = |task: &Task| SIZED.iter().any(|name| task.name == format!("bigbench_{name}_multiple_choice"));
    tasks().into_iter().filter(|task| !whole(task)).collect()
}

fn task(name: &str) -> Task {
    let ask = Ask::Choices {
        text: "{{inputs}}",
        choices: Choices::Expression("multiple_choice_targets"),
        gold: Gold::Index("multiple_choice_targets.index(targets[0])"),
    };
    Task {
        training: None,
        validation: None,
        test: Some("default"),
        prepare: prepare::with_choices,
        ..table(format!("bigbench_{name}_multiple_choice"), "hails/bigbench", format!("{name}_zero_shot"), ask)
    }
}
