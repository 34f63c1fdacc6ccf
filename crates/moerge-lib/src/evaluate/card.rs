//! What `moerge eval` found, written into a model card: `model-index` in the front matter, which the Hub reads
//! (<https://huggingface.co/docs/hub/model-cards#evaluation-results>), and a section with the table.

use std::fmt::Write as _;

use crate::evaluate::{Estimate, ModelScore, tasks::MetricScore};
use moerge_core::error::{Error, Result};
use moerge_core::output::card::quoted;

const BEGIN: &str = "<!-- moerge eval -->\n";
const END: &str = "<!-- end of moerge eval -->\n";

/// `card` with what `score` says of the model `name`. `section` is Markdown for its readers. What an earlier evaluation
/// left in the card is replaced, everything else stays as it is.
///
/// # Errors
/// The front matter of the card has no end.
pub fn with_evaluation(card: &str, name: &str, score: &ModelScore, section: &str) -> Result<String> {
    let card = card.replace("\r\n", "\n");
    let (front, body) = parts(&card)?;
    let mut text = String::from("---\n");
    text.push_str(&without_model_index(front));
    text.push_str(&model_index(name, score));
    text.push_str("---\n");
    let section = format!("{BEGIN}## Evaluation\n\n{section}{END}");
    match body.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
        Some((before, after)) => text.extend([before, &section, after]),
        None => {
            let gap = if body.ends_with("\n\n") || body.is_empty() { "" } else { "\n" };
            text.extend([body, gap, &section]);
        }
    }
    Ok(text)
}

/// The front matter without its `---` lines, and what comes after it.
fn parts(card: &str) -> Result<(&str, &str)> {
    let Some(rest) = card.strip_prefix("---\n") else { return Ok(("", card)) };
    if let Some(body) = rest.strip_prefix("---\n") {
        return Ok(("", body));
    }
    rest.split_once("\n---\n").map(|(front, body)| (&rest[..=front.len()], body)).ok_or_else(|| {
        Error::input("README.md begins with `---`, but no line `---` ends its front matter")
            .hint("add the line, or delete README.md; the evaluation is then written into a new one")
    })
}

/// Drops the key `model-index` and what is indented below it.
fn without_model_index(front: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in front.split_inclusive('\n') {
        let continues = line.starts_with([' ', '\t', '-', '#']) || line.trim().is_empty();
        inside = line.starts_with("model-index:") || (inside && continues);
        if !inside {
            kept.push_str(line);
        }
    }
    kept
}

fn model_index(name: &str, score: &ModelScore) -> String {
    let mut yaml = format!("model-index:\n- name: {}\n  results:\n", quoted(name));
    for text in &score.texts {
        let windows = format!("perplexity, windows of {} tokens every {}", score.context, score.stride);
        result(&mut yaml, &text.text, &[("perplexity", &windows, text.perplexity)]);
    }
    for file in &score.choices {
        let metrics = [("acc", "accuracy", file.acc), ("acc_norm", "accuracy, by length of the choice", file.acc_norm)];
        result(&mut yaml, &file.name, &metrics);
    }
    for file in &score.answers {
        result(&mut yaml, &file.name, &[("exact_match", "exact match", file.exact_match)]);
    }
    for task in &score.tasks {
        let named =
            |metric: &MetricScore| (metric.name, format!("{}, {}-shot", metric.name, task.shots), metric.estimate);
        let named: Vec<(&str, String, Estimate)> = task.metrics.iter().map(named).collect();
        let metrics: Vec<(&str, &str, Estimate)> = named.iter().map(|(kind, name, e)| (*kind, &name[..], *e)).collect();
        result(&mut yaml, &task.name, &metrics);
    }
    yaml
}

fn result(yaml: &mut String, dataset: &str, metrics: &[(&str, &str, Estimate)]) {
    let _ = write!(
        yaml,
        "  - task:\n      type: text-generation\n    dataset:\n      name: {0}\n      type: {0}\n    metrics:\n",
        quoted(dataset)
    );
    for (kind, name, estimate) in metrics {
        let name = format!("{name} (± {})", rounded(estimate.error));
        let value = rounded(estimate.value);
        let _ = write!(yaml, "    - type: {kind}\n      name: {}\n      value: {value}\n", quoted(&name));
    }
}

/// Four significant digits; NaN and infinities are null.
fn rounded(value: f64) -> String {
    if !value.is_finite() {
        return String::from("null");
    }
    let digits = 3 - if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::TextScore;

    fn score(perplexity: f64) -> ModelScore {
        let text = TextScore {
            text: "code \"and\" more".into(),
            tokens: 101,
            scored: 100,
            bytes: 400,
            perplexity: Estimate { value: perplexity, error: 0.25 },
            divergence: None,
            bits_per_byte: 1.0,
        };
        ModelScore {
            experts: Vec::new(),
            model: "out".into(),
            moe: true,
            context: 256,
            stride: 128,
            texts: vec![text],
            mixed: None,
            choices: Vec::new(),
            answers: Vec::new(),
            tasks: Vec::new(),
            groups: Vec::new(),
        }
    }

    const CARD: &str = "---\nlicense: mit\ntags:\n- moe\n---\n\n# out\n";

    #[test]
    fn the_hub_finds_numbers_and_readers_a_table() {
        let card = with_evaluation(CARD, "out", &score(12.3456), "| a |\n").unwrap();
        insta::assert_snapshot!(card);
    }

    #[test]
    fn a_later_evaluation_takes_the_place_of_the_first() {
        let first = with_evaluation(CARD, "out", &score(12.0), "first\n").unwrap();
        let edited = first.replace("tags:\n- moe\n", "").replace("model-index", "tags:\n- moe\nmodel-index");
        let edited = format!("{}\nwritten by hand\n", edited.replace("---\n\n#", "datasets:\n- mine\n---\n\n#"));
        let second = with_evaluation(&edited, "out", &score(9.0), "second\n").unwrap();
        assert!(!second.contains("first") && !second.contains("12.0"), "{second}");
        assert_eq!(second.matches("model-index").count(), 1, "{second}");
        assert!(second.contains("datasets:\n- mine\nmodel-index:") && second.ends_with("\nwritten by hand\n"));
        assert_eq!(with_evaluation(&second, "out", &score(9.0), "second\n").unwrap(), second);
    }

    #[test]
    fn cards_without_front_matter_get_one_and_broken_ones_are_refused() {
        let card = with_evaluation("# mine\n", "out", &score(2.0), "").unwrap();
        assert!(card.starts_with("---\nmodel-index:") && card.contains("\n---\n# mine\n"), "{card}");
        assert!(with_evaluation("---\n---\nx", "out", &score(2.0), "").unwrap().contains("---\nx\n<!--"));
        let error = with_evaluation("---\nlicense: mit\n", "out", &score(2.0), "").unwrap_err();
        assert!(error.to_string().contains("front matter"), "{error}");
    }

    #[test]
    fn four_digits() {
        let found = [1234.567, 14.622, 1.49449, 0.00123456, 0.0, f64::INFINITY].map(rounded);
        assert_eq!(found, ["1235", "14.62", "1.494", "0.001235", "0.000", "null"]);
    }
}
