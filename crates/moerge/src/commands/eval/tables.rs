//! The tables of `moerge eval`: a row per model, a column per text or file of questions, the best of a column in bold.

use std::collections::HashSet;

use moerge_lib::evaluate::{
    ChoicesScore, Estimate, MixedScore, ModelScore, TextScore, geometric_mean,
    tasks::{
        Comparison, MetricScore, compare, mcnemar,
        suites::{Suite, SuitePartScore, SuiteScore},
    },
};

use super::{
    cells::{kl_cell, metric_cell, perplexity_cell, share_cell, thousands},
    table::{Cell, Row, Table},
};
use crate::commands::placing::short_name;

/// A table for each kind of test.
pub fn tables(scores: &[ModelScore]) -> Vec<Table> {
    let Some(first) = scores.first() else { return Vec::new() };
    let names = names(scores);
    let mut tables = Vec::new();
    if !first.texts.is_empty() {
        tables.push(perplexities(scores, &names));
        tables.extend(divergences(scores, &names));
        tables.extend(mixed(scores, &names));
    }
    if !first.choices.is_empty() {
        tables.push(choices(scores, &names));
    }
    if !first.answers.is_empty() {
        tables.push(answers(scores, &names));
    }
    if !first.tasks.is_empty() {
        tables.push(tasks(scores, &names));
    }
    tables
}

/// Names of the rows: the models' short names if they differ, else the references as written.
pub fn names(scores: &[ModelScore]) -> Vec<String> {
    let different: HashSet<&str> = scores.iter().map(|score| short_name(&score.model)).collect();
    let name = |score: &ModelScore| {
        let name = if different.len() == scores.len() { short_name(&score.model) } else { &score.model };
        if score.moe { format!("MoE {name}") } else { name.to_owned() }
    };
    scores.iter().map(name).collect()
}

fn perplexities(scores: &[ModelScore], names: &[String]) -> Table {
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
    let mut header = vec!["perplexity".to_owned()];
    header.extend(scores.iter().take(1).flat_map(|s| &s.texts).map(|text| text.text.clone()));
    header.extend(with_mean.then(|| "geo. mean".to_owned()));
    let mut rows = body(names, &values, f64::total_cmp, perplexity_cell);

    let dense: Vec<&Vec<Estimate>> = scores.iter().zip(&values).filter(|(s, _)| !s.moe).map(|(_, v)| v).collect();
    if dense.len() > 1 && dense.len() < scores.len() {
        let least = |column: usize| dense.iter().map(|row| row[column]).min_by(|a, b| a.value.total_cmp(&b.value));
        let mut best: Vec<Estimate> = (0..columns).filter_map(least).collect();
        best.extend(geometric_mean(&best).filter(|_| with_mean));
        rows.push(Row::new("best of the experts", best.iter().map(perplexity_cell), false));
    }
    if texts.windows(2).all(|pair| pair[0].tokens == pair[1].tokens) {
        rows.push(Row::new("tokens scored", scores[0].texts.iter().map(|text| thousands(text.scored)), true));
    }
    Table { header, rows }
}

/// How far the predictions of each model are from those of the first, if they were compared.
fn divergences(scores: &[ModelScore], names: &[String]) -> Option<Table> {
    let compared: Vec<(&String, &ModelScore)> =
        names.iter().zip(scores).filter(|(_, s)| s.texts.iter().any(|text| text.divergence.is_some())).collect();
    let (_, first) = compared.first()?;
    let mut header = vec![format!("KL from {}", names.first()?)];
    header.extend(first.texts.iter().flat_map(|text| [text.text.clone(), "top 1".to_owned()]));
    let cells = |score: &ModelScore| {
        let each = score.texts.iter().filter_map(|text| text.divergence);
        each.flat_map(|d| [kl_cell(&d.kl), format!("{:.1} %", 100.0 * d.same_top.value)]).collect::<Vec<_>>()
    };
    let rows = compared.iter().map(|(name, score)| Row::new(name, cells(score).into_iter(), false)).collect();
    Some(Table { header, rows })
}

/// Perplexities on documents that change their subject.
fn mixed(scores: &[ModelScore], names: &[String]) -> Option<Table> {
    let of_models: Vec<(&String, &MixedScore)> =
        names.iter().zip(scores).filter_map(|(name, score)| Some((name, score.mixed.as_ref()?))).collect();
    let (_, first) = of_models.first()?;
    let header = ["mixed documents", "perplexity", "right experts", "best expert"].map(str::to_owned).to_vec();
    let best = of_models.iter().map(|(_, score)| score.perplexity.value).fold(f64::INFINITY, f64::min);
    let row = |(name, score): &(&String, &MixedScore)| {
        let mut cells = vec![Cell {
            text: perplexity_cell(&score.perplexity),
            best: of_models.len() > 1 && score.perplexity.value <= best,
        }];
        let of_experts = score.experts.as_ref().map_or([String::new(), String::new()], |experts| {
            let gap = 100.0 * (score.perplexity.value / experts.forced.value - 1.0);
            [format!("{} ({gap:+.1} %)", perplexity_cell(&experts.forced)), perplexity_cell(&experts.best_single)]
        });
        cells.extend(of_experts.map(|text| Cell { text, best: false }));
        Row { name: (*name).clone(), cells, note: false }
    };
    let mut rows: Vec<Row> = of_models.iter().map(row).collect();
    let dense = scores.iter().filter(|score| !score.moe).filter_map(|score| score.mixed.as_ref());
    let dense: Vec<&[f64]> = dense.map(|score| &score.losses[..]).collect();
    // Other tokenizers make other documents.
    let same = of_models.iter().all(|(_, score)| score.scored == first.scored && score.losses.len() == first.documents);
    if dense.len() > 1 && same {
        let least = |document: usize| dense.iter().map(|losses| losses[document]).fold(f64::INFINITY, f64::min);
        let mean = (0..first.documents).map(least).sum::<f64>() / first.documents.max(1) as f64;
        rows.push(Row::new("best model of each", [format!("{:.2}", mean.exp())].into_iter(), false));
    }
    if same {
        rows.push(Row::new("tokens scored", [thousands(first.scored)].into_iter(), true));
    }
    Some(Table { header, rows })
}

fn choices(scores: &[ModelScore], names: &[String]) -> Table {
    let files = scores.first().map_or(&[][..], |score| &score.choices);
    let mut header = vec!["choices".to_owned()];
    header.extend(files.iter().flat_map(|file| [format!("{} acc", file.name), "acc_norm".to_owned()]));
    let both = |file: &ChoicesScore| [file.acc, file.acc_norm];
    let values: Vec<Vec<Estimate>> = scores.iter().map(|score| score.choices.iter().flat_map(both).collect()).collect();
    let mut rows = body(names, &values, |a, b| b.total_cmp(a), share_cell);
    let questions = files.iter().flat_map(|file| [thousands(file.items.len()), String::new()]);
    rows.push(Row::new("questions", questions, true));
    Table { header, rows }
}

fn answers(scores: &[ModelScore], names: &[String]) -> Table {
    let files = scores.first().map_or(&[][..], |score| &score.answers);
    let mut header = vec!["exact match".to_owned()];
    header.extend(files.iter().map(|file| file.name.clone()));
    let values: Vec<Vec<Estimate>> =
        scores.iter().map(|score| score.answers.iter().map(|file| file.exact_match).collect()).collect();
    let mut rows = body(names, &values, |a, b| b.total_cmp(a), share_cell);
    rows.push(Row::new("questions", files.iter().map(|file| thousands(file.items.len())), true));
    Table { header, rows }
}

/// A row per metric of a task and per group of tasks, a column per model.
fn tasks(scores: &[ModelScore], names: &[String]) -> Table {
    let mut header = vec!["task".to_owned(), "shots".to_owned(), "questions".to_owned()];
    header.extend(names.iter().cloned());
    let row = |name: &str, (shots, questions): (usize, usize), of: &dyn Fn(&ModelScore) -> &MetricScore| {
        let metric = of(&scores[0]);
        let values: Vec<Estimate> = scores.iter().map(|score| of(score).estimate).collect();
        let facts = [shots.to_string(), thousands(questions)].map(|text| Cell { text, best: false });
        let cells = across(&values, metric.higher_is_better(), |e| metric_cell(metric.metric, e));
        Row { name: format!("{name} {}", metric.name), cells: facts.into_iter().chain(cells).collect(), note: false }
    };
    let mut rows = Vec::new();
    for (index, task) in scores.iter().take(1).flat_map(|score| score.tasks.iter().enumerate()) {
        let numbers = 0..task.metrics.len();
        let facts = (task.shots, task.items.len());
        rows.extend(numbers.map(|number| row(&task.name, facts, &|score| &score.tasks[index].metrics[number])));
    }
    for (index, group) in scores.iter().take(1).flat_map(|score| score.groups.iter().enumerate()) {
        rows.push(row(group.name, (group.shots, group.questions), &|score| &score.groups[index].metric));
    }
    Table { header, rows }
}

/// For each model but the first, how its answers to each task differ from the first's.
pub fn compared(scores: &[ModelScore]) -> Vec<Vec<Comparison>> {
    let Some((first, others)) = scores.split_first() else { return Vec::new() };
    let with = |other: &ModelScore| first.tasks.iter().zip(&other.tasks).filter_map(|(a, b)| compare(a, b)).collect();
    others.iter().map(with).collect()
}

/// The same as tables, with all questions together in the last row.
pub fn comparisons(scores: &[ModelScore]) -> Vec<Table> {
    let names = names(scores);
    let table = |(name, compared): (&String, Vec<Comparison>)| {
        let first = names.first().map_or("", String::as_str);
        let header = [
            format!("{name} against {first}"),
            "questions".into(),
            "lost".into(),
            "won".into(),
            "p".into(),
            "changed".into(),
        ];
        let row = |name: String, questions: usize, lost: usize, won: usize, changed: String| {
            let numbers =
                [thousands(questions), thousands(lost), thousands(won), format!("{:.3}", mcnemar(lost, won)), changed];
            Row::new(&name, numbers.into_iter(), false)
        };
        let of = |c: &Comparison| {
            row(format!("{} {}", c.task, c.metric), c.questions, c.lost.len(), c.won.len(), changed(c))
        };
        let mut rows: Vec<Row> = compared.iter().map(of).collect();
        if compared.len() > 1 {
            let sum = |count: fn(&Comparison) -> usize| compared.iter().map(count).sum();
            rows.push(row(
                "all".into(),
                sum(|c| c.questions),
                sum(|c| c.lost.len()),
                sum(|c| c.won.len()),
                String::new(),
            ));
        }
        Table { header: header.to_vec(), rows }
    };
    names.iter().skip(1).zip(compared(scores)).map(table).collect()
}

/// The first of the questions that changed, from 0: `-3 +7 -12 ...`.
fn changed(comparison: &Comparison) -> String {
    let mut all: Vec<(usize, char)> = comparison.lost.iter().map(|q| (*q, '-')).collect();
    all.extend(comparison.won.iter().map(|q| (*q, '+')));
    all.sort_unstable();
    let more = if all.len() > 6 { " ..." } else { "" };
    all.iter().take(6).map(|(question, sign)| format!("{sign}{question}")).collect::<Vec<_>>().join(" ") + more
}

/// The parts of a suite and their average, a column per model.
pub fn suite(suite: &Suite, scores: &[ModelScore]) -> Table {
    let mut header = vec![suite.name.to_owned()];
    header.extend(names(scores));
    let found: Vec<SuiteScore> = scores.iter().map(|score| suite.score(&score.tasks)).collect();
    let line = |name: String, values: Vec<Option<Estimate>>| {
        let measured: Option<Vec<Estimate>> = values.into_iter().collect();
        match measured {
            Some(values) => Row { name, cells: across(&values, true, |e| metric_cell(suite.metric(), e)), note: false },
            None => Row::new(&name, found.iter().map(|_| "missing".to_owned()), true),
        }
    };
    let parts = found.first().map_or(&[][..], |score| &score.parts);
    let part = |(index, part): (usize, &SuitePartScore)| {
        line(part.name.to_owned(), found.iter().map(|score| score.parts[index].mean).collect())
    };
    let mut rows: Vec<Row> = parts.iter().enumerate().map(part).collect();
    let counted = parts.iter().filter(|part| part.mean.is_some()).count();
    let average = match counted == parts.len() {
        true => "average".to_owned(),
        false => format!("average of {counted} of {} parts", parts.len()),
    };
    rows.push(line(average, found.iter().map(|score| score.average).collect()));
    Table { header, rows }
}

/// Cells of a row, the best in bold if there are several.
fn across(values: &[Estimate], higher_is_better: bool, cell: impl Fn(&Estimate) -> String) -> Vec<Cell> {
    let better = |a: f64, b: f64| if higher_is_better { a >= b } else { a <= b };
    let best = |value: f64| values.len() > 1 && values.iter().all(|other| better(value, other.value));
    values.iter().map(|e| Cell { text: cell(e), best: best(e.value) }).collect()
}

/// A row per model. If there are several, the first of each column by `order` is the best.
fn body(
    names: &[String],
    values: &[Vec<Estimate>],
    order: impl Fn(&f64, &f64) -> std::cmp::Ordering,
    cell: impl Fn(&Estimate) -> String,
) -> Vec<Row> {
    let is_best = |column: usize, value: f64| {
        values.len() > 1 && values.iter().all(|row| order(&value, &row[column].value).is_le())
    };
    let row = |(name, row): (&String, &Vec<Estimate>)| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, e)| Cell { text: cell(e), best: is_best(column, e.value) });
        Row { name: name.clone(), cells: cells.collect(), note: false }
    };
    names.iter().zip(values).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::table::{lines, markdown},
        *,
    };
    use crate::terminal::{LABEL, styled};

    fn score(model: &str, moe: bool, perplexities: &[f64]) -> ModelScore {
        let text = |(index, value): (usize, &f64)| TextScore {
            text: format!("text{index}"),
            tokens: 1235,
            scored: 1234,
            bytes: 5000,
            perplexity: Estimate { value: *value, error: value / 100.0 },
            bits_per_byte: 1.0,
            divergence: None,
        };
        let texts = perplexities.iter().enumerate().map(text).collect();
        ModelScore {
            experts: Vec::new(),
            model: model.into(),
            moe,
            context: 256,
            stride: 128,
            texts,
            mixed: None,
            choices: Vec::new(),
            answers: Vec::new(),
            tasks: Vec::new(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn the_best_of_the_experts_has_a_row_of_its_own() {
        let scores = [
            score("x/base", false, &[20.0, 4.0]),
            score("code", false, &[10.0, 2851.3]),
            score("out", true, &[12.5, 3.0]),
        ];
        let tables = tables(&scores);
        let plain: Vec<String> = lines(&tables).iter().map(|l| anstream::adapter::strip_str(l).to_string()).collect();
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
        assert!(lines(&tables)[2].contains(&styled(LABEL, "10.00 ±0.10")), "the best is bold");
    }

    #[test]
    fn a_model_card_has_the_same_in_markdown() {
        let markdown = markdown(&tables(&[score("a|b", false, &[20.0]), score("out", true, &[12.5])]));
        assert_eq!(
            markdown,
            "| perplexity | text0 |\n|---|---:|\n| a\\|b | 20.00 ±0.20 |\n| MoE out | **12.50 ±0.12** |\n\
             | tokens scored | 1,234 |\n\n"
        );
    }

    #[test]
    fn models_with_the_same_short_name_are_distinguished() {
        let scores = [score("a/out", true, &[2.0]), score("b/out", true, &[3.0])];
        assert_eq!(names(&scores), ["MoE a/out", "MoE b/out"]);
    }
}
