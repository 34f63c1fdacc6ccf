//! The multiple choice of the Open LLM Leaderboard's second version.

use serde::Deserialize;

use super::{
    super::{prepare, task::Row},
    Ask, Choices, Examples, Gold, Metric, NO_CONFIG, Sampler, Task, fixed, table,
};

const NORM: &[Metric] = &[Metric::AccNorm];

pub(super) fn tasks() -> Vec<Task> {
    let mut tasks = bbh();
    tasks.extend(gpqa());
    tasks.extend(musr());
    tasks.push(mmlu_pro());
    tasks
}

/// A task of BIG-bench Hard, with its solved examples.
#[derive(Deserialize)]
struct Hard {
    name: String,
    description: String,
    choices: Vec<String>,
    examples: Vec<Row>,
}

pub(super) fn bbh() -> Vec<Task> {
    let hard: Vec<Hard> = serde_json::from_str(include_str!("bbh.json")).unwrap_or_default();
    let task = |hard: Hard| Task {
        training: None,
        validation: None,
        test: Some("test"),
        examples: Examples::Rows(hard.examples),
        sampler: Sampler::FirstN,
        shots: 3,
        description: hard.description,
        metrics: NORM,
        ..table(
            format!("leaderboard_bbh_{}", hard.name),
            "SaylorTwift/bbh",
            hard.name,
            Ask::Choices {
                text: "Q: {{input}}\nA:",
                choices: Choices::Fixed(hard.choices),
                gold: Gold::Index("target"),
            },
        )
    };
    hard.into_iter().map(task).collect()
}

/// The order of the choices is CPython's `random.shuffle`, seeded once per run of the harness; see [`prepare::gpqa`].
pub(super) fn gpqa() -> Vec<Task> {
    let text = "What is the correct answer to this question:{{Question}}\nChoices:\n(A) {{choice1}}\n(B) {{choice2}}\n\
        (C) {{choice3}}\n(D) {{choice4}}\nAnswer: ";
    let task = |name: &str| Task {
        validation: Some("train"),
        sampler: Sampler::FirstN,
        prepare: prepare::gpqa,
        metrics: NORM,
        ..table(
            format!("leaderboard_gpqa_{name}"),
            "Idavidrein/gpqa",
            format!("gpqa_{name}"),
            Ask::Choices { text, choices: fixed(&["(A)", "(B)", "(C)", "(D)"]), gold: Gold::Index("answer") },
        )
    };
    ["diamond", "extended", "main"].into_iter().map(task).collect()
}

pub(super) fn musr() -> Vec<Task> {
    let text = "{{narrative}}\n\n{{question}}\n\n{% for choice in choice_list %}{{loop.index}} - {{choice}}{{'\\n'}}\
        {% endfor %}{{'\\n'}}Answer:";
    let task = |split: &'static str| Task {
        training: None,
        validation: None,
        test: Some(split),
        prepare: prepare::musr,
        metrics: NORM,
        ..table(
            format!("leaderboard_musr_{split}"),
            "TAUR-Lab/MuSR",
            NO_CONFIG,
            Ask::Choices { text, choices: Choices::Expression("choice_list"), gold: Gold::Index("answer_choice") },
        )
    };
    ["murder_mysteries", "object_placements", "team_allocation"].into_iter().map(task).collect()
}

fn mmlu_pro() -> Task {
    let ask = Ask::Choices {
        text: "{{question}}{{'\\n'}}{% for option in options %}{{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[loop.index0]}}. \
            {{option}}{{'\\n'}}{% endfor %}Answer:",
        choices: Choices::Expression("'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[:options|length]|list"),
        gold: Gold::Index("answer"),
    };
    Task {
        training: None,
        validation: None,
        test: Some("test"),
        examples: Examples::Split("validation"),
        sampler: Sampler::FirstN,
        shots: 5,
        ..table("leaderboard_mmlu_pro", "TIGER-Lab/MMLU-Pro", NO_CONFIG, ask)
    }
}
