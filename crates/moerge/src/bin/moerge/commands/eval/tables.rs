//! The tables of `moerge eval`: a row a model, a column a text or a file of questions, the best of a column bold.

use std::collections::HashSet;

use moerge::evaluate::{ChoicesScore, Estimate, ModelScore, TextScore, geometric_mean};

use crate::{
    commands::placing::short_name,
    terminal::{DIM, LABEL, harmless, styled, table},
};

/// All tables, an empty line between them.
pub fn lines(scores: &[ModelScore]) -> Vec<String> {
    let Some(first) = scores.first() else { return Vec::new() };
    let names = names(scores);
    let mut tables = Vec::new();
    if !first.texts.is_empty() {
        tables.push(perplexities(scores, &names));
    }
    if !first.choices.is_empty() {
        tables.push(choices(scores, &names));
    }
    if !first.answers.is_empty() {
        tables.push(answers(scores, &names));
    }
    tables.join(&String::new())
}

/// What rows are called: the models' short names, or what the user wrote where these are the same.
fn names(scores: &[ModelScore]) -> Vec<String> {
    let different: HashSet<&str> = scores.iter().map(|score| short_name(&score.model)).collect();
    let name = |score: &ModelScore| {
        let name = if different.len() == scores.len() { short_name(&score.model) } else { &score.model };
        harmless(&if score.moe { format!("MoE {name}") } else { name.to_owned() })
    };
    scores.iter().map(name).collect()
}

fn perplexities(scores: &[ModelScore], names: &[String]) -> Vec<String> {
    let texts: Vec<&TextScore> = scores.iter().flat_map(|score| score.texts.first()).collect();
    let columns = scores.first().map_or(0, |score| score.texts.len());
    let with_mean = columns > 1;
    // [model][text], the geometric mean last.
    let values: Vec<Vec<Estimate>> = scores
        .iter()
        .map(|score| {
            let mut row: Vec<Estimate> = score.texts.iter().map(|text| text.perplexity).collect();
            row.extend(geometric_mean(&row).filter(|_| with_mean));
            row
        })
        .collect();
    let mut header = vec![styled(LABEL, "perplexity")];
    header.extend(scores.iter().take(1).flat_map(|s| &s.texts).map(|text| harmless(&text.text)));
    header.extend(with_mean.then(|| "geo. mean".to_owned()));
    let mut rows = vec![header];
    rows.extend(body(names, &values, f64::total_cmp, perplexity_cell));

    let dense: Vec<&Vec<Estimate>> = scores.iter().zip(&values).filter(|(s, _)| !s.moe).map(|(_, v)| v).collect();
    if dense.len() > 1 && dense.len() < scores.len() {
        let least = |column: usize| dense.iter().map(|row| row[column]).min_by(|a, b| a.value.total_cmp(&b.value));
        let mut best: Vec<Estimate> = (0..columns).filter_map(least).collect();
        best.extend(geometric_mean(&best).filter(|_| with_mean));
        let mut row = vec!["best of the experts".to_owned()];
        row.extend(best.iter().map(perplexity_cell));
        rows.push(row);
    }
    if texts.windows(2).all(|pair| pair[0].tokens == pair[1].tokens) {
        let mut row = vec![styled(DIM, "tokens scored")];
        row.extend(scores[0].texts.iter().map(|text| styled(DIM, &thousands(text.scored))));
        rows.push(row);
    }
    table(&rows, &(1..=columns + 1).collect::<Vec<_>>())
}

fn choices(scores: &[ModelScore], names: &[String]) -> Vec<String> {
    let files = scores.first().map_or(&[][..], |score| &score.choices);
    let mut header = vec![styled(LABEL, "choices")];
    header.extend(files.iter().flat_map(|file| [format!("{} acc", harmless(&file.name)), "acc_norm".to_owned()]));
    let both = |file: &ChoicesScore| [file.acc, file.acc_norm];
    let values: Vec<Vec<Estimate>> = scores.iter().map(|score| score.choices.iter().flat_map(both).collect()).collect();
    let mut rows = vec![header];
    rows.extend(body(names, &values, |a, b| b.total_cmp(a), share_cell));
    let mut row = vec![styled(DIM, "questions")];
    row.extend(files.iter().map(|file| styled(DIM, &thousands(file.items.len()))));
    rows.push(row);
    table(&rows, &(1..=files.len() * 2).collect::<Vec<_>>())
}

fn answers(scores: &[ModelScore], names: &[String]) -> Vec<String> {
    let files = scores.first().map_or(&[][..], |score| &score.answers);
    let mut header = vec![styled(LABEL, "exact match")];
    header.extend(files.iter().map(|file| harmless(&file.name)));
    let values: Vec<Vec<Estimate>> =
        scores.iter().map(|score| score.answers.iter().map(|file| file.exact_match).collect()).collect();
    let mut rows = vec![header];
    rows.extend(body(names, &values, |a, b| b.total_cmp(a), share_cell));
    let mut row = vec![styled(DIM, "questions")];
    row.extend(files.iter().map(|file| styled(DIM, &thousands(file.items.len()))));
    rows.push(row);
    table(&rows, &(1..=files.len()).collect::<Vec<_>>())
}

/// A row a model; of several models, the first of each column by `order` is bold.
fn body(
    names: &[String],
    values: &[Vec<Estimate>],
    order: impl Fn(&f64, &f64) -> std::cmp::Ordering,
    cell: impl Fn(&Estimate) -> String,
) -> Vec<Vec<String>> {
    let is_best = |column: usize, value: f64| {
        values.len() > 1 && values.iter().all(|row| order(&value, &row[column].value).is_le())
    };
    let row = |(name, row): (&String, &Vec<Estimate>)| {
        let cells = row.iter().enumerate().map(|(column, estimate)| {
            let text = cell(estimate);
            if is_best(column, estimate.value) { styled(LABEL, &text) } else { text }
        });
        std::iter::once(name.clone()).chain(cells).collect()
    };
    names.iter().zip(values).map(row).collect()
}

/// `20.43 ±0.31`
fn perplexity_cell(estimate: &Estimate) -> String {
    let decimals = match estimate.value {
        v if v < 9.9995 => 3,
        v if v < 99.995 => 2,
        v if v < 999.95 => 1,
        _ => 0,
    };
    format!("{:.decimals$} ±{:.decimals$}", estimate.value, estimate.error)
}

/// `41.0 % ±4.9`
fn share_cell(estimate: &Estimate) -> String {
    format!("{:.1} % ±{:.1}", 100.0 * estimate.value, 100.0 * estimate.error)
}

/// `20,431`
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(model: &str, moe: bool, perplexities: &[f64]) -> ModelScore {
        let text = |(index, value): (usize, &f64)| TextScore {
            text: format!("text{index}"),
            tokens: 1235,
            scored: 1234,
            bytes: 5000,
            perplexity: Estimate { value: *value, error: value / 100.0 },
            bits_per_byte: 1.0,
        };
        let texts = perplexities.iter().enumerate().map(text).collect();
        ModelScore {
            model: model.into(),
            moe,
            context: 256,
            stride: 128,
            texts,
            choices: Vec::new(),
            answers: Vec::new(),
        }
    }

    #[test]
    fn a_row_a_model_and_what_the_experts_could_do_together() {
        let scores = [
            score("x/base", false, &[20.0, 4.0]),
            score("code", false, &[10.0, 2851.3]),
            score("out", true, &[12.5, 3.0]),
        ];
        let plain: Vec<String> = lines(&scores).iter().map(|l| anstream::adapter::strip_str(l).to_string()).collect();
        assert_eq!(
            plain,
            [
                "perplexity                 text0         text1     geo. mean",
                "base                 20.00 ±0.20  4.000 ±0.040  8.944 ±0.063",
                "code                 10.00 ±0.10      2851 ±29    168.9 ±1.2",
                "MoE out              12.50 ±0.12  3.000 ±0.030  6.124 ±0.043",
                "best of the experts  10.00 ±0.10  4.000 ±0.040  6.325 ±0.045",
                "tokens scored              1,234         1,234",
            ]
        );
        assert!(lines(&scores)[2].contains(&styled(LABEL, "10.00 ±0.10")), "the best is bold");
    }

    #[test]
    fn models_of_one_name_are_told_apart() {
        let scores = [score("a/out", true, &[2.0]), score("b/out", true, &[3.0])];
        assert_eq!(names(&scores), ["MoE a/out", "MoE b/out"]);
    }
}
