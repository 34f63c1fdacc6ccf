//! Tasks whose answers are written.

use super::{Ask, Examples, Metric, NO_CONFIG, Task, table};

pub(super) fn tasks() -> Vec<Task> {
    vec![gsm8k(), eq_bench()]
}

fn gsm8k() -> Task {
    let ask = Ask::Generate {
        text: "Question: {{question}}\nAnswer:",
        target: "{{answer}}",
        until: &["Question:", "</s>", "<|im_end|>"],
        tokens: 256,
    };
    Task {
        validation: None,
        test: Some("test"),
        examples: Examples::Split("train"),
        shots: 5,
        metrics: &[Metric::StrictMatch, Metric::FlexibleExtract],
        ..table("gsm8k", "openai/gsm8k", "main", ask)
    }
}

fn eq_bench() -> Task {
    let ask =
        Ask::Generate { text: "{{prompt}}", target: "{{reference_answer_fullscale}}", until: &["\n\n"], tokens: 80 };
    Task {
        training: None,
        metrics: &[Metric::EqBench, Metric::PercentParseable],
        ..table("eq_bench", "pbevan11/EQ-Bench", NO_CONFIG, ask)
    }
}
