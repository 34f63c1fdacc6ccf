//! MMLU: 57 subjects, each with five solved examples in the split `dev`.

use super::{Ask, Examples, Gold, Sampler, Task, fixed, table};

const SUBJECTS: [&str; 57] = [
    "act_algebra",
    "my",
    "nomy",
    "ess_ethics",
    "cal_knowledge",
    "ge_biology",
    "ge_chemistry",
    "ge_computer_science",
    "ge_mathematics",
    "ge_medicine",
    "ge_physics",
    "ter_security",
    "ptual_physics",
    "metrics",
    "rical_engineering",
    "ntary_mathematics",
    "l_logic",
    "l_facts",
    "school_biology",
    "school_chemistry",
    "school_computer_science",
    "school_european_history",
    "school_geography",
    "school_government_and_politics",
    "school_macroeconomics",
    "school_mathematics",
    "school_microeconomics",
    "school_physics",
    "school_psychology",
    "school_statistics",
    "school_us_history",
    "school_world_history",
    "_aging",
    "_sexuality",
    "national_law",
    "prudence",
    "al_fallacies",
    "ne_learning",
    "ement",
    "ting",
    "al_genetics",
    "llaneous",
    "_disputes",
    "_scenarios",
    "tion",
    "sophy",
    "story",
    "ssional_accounting",
    "ssional_law",
    "ssional_medicine",
    "ssional_psychology",
    "c_relations",
    "ity_studies",
    "logy",
    "reign_policy",
    "ogy",
    "_religions",
];

const TEXT: &str =
    "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:";

pub(super) fn tasks() -> Vec<Task> {
    SUBJECTS.iter().map(|subject| self::subject(subject)).collect()
}

fn subject(subject: &str) -> Task {
    let ask = Ask::Choices { text: TEXT, choices: fixed(&["A", "B", "C", "D"]), gold: Gold::Index("answer") };
    let about = subject.replace('_', " ");
    Task {
        training: None,
        validation: None,
        test: Some("test"),
        examples: Examples::Split("dev"),
        sampler: Sampler::FirstN,
        description: format!("The following are multiple choice questions (with answers) about {about}.\n\n"),
        ..table(format!("mmlu_{subject}"), "cais/mmlu", subject, ask)
    }
}
