//! How well a model predicts text.

use super::{super::prepare, Ask, Metric, Task, table};

pub(super) fn tasks() -> Vec<Task> {
    vec![lambada(), wikitext()]
}

/// The last word of a passage.
fn lambada() -> Task {
    let ask = Ask::Continuation { text: "{{text.split(' ')[:-1]|join(' ')}}", target: "{{' ' + text.split(' ')[-1]}}" };
    Task {
        training: None,
        validation: None,
        test: Some("test"),
        metrics: &[Metric::Perplexity, Metric::Acc],
        ..table("lambada_openai", "EleutherAI/lambada_openai", "default", ask)
    }
}

/// Whole articles. Words and bytes are those of the tokenized original, not of the running text that the model reads.
fn wikitext() -> Task {
    let ask = Ask::Document { text: "{{text}}", counted: "{{page}}" };
    Task {
        test: Some("test"),
        prepare: prepare::wikitext,
        metrics: &[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte],
        ..table("wikitext", "EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", ask)
    }
}
