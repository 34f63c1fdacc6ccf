//! The results of tasks as one self-contained HTML page: a bar with its standard error per model and metric, suites
//! first, in a light and a dark scheme.

use std::fmt::Write as _;

use super::{
    Estimate, ModelScore,
    tasks::{
        Comparison,
        suites::Suite,
        task::{Metric, Scale},
    },
};
use crate::markup::escaped;

const STYLE: &str = include_str!("html/style.css");
/// Colours of models (Okabe and Ito); more models reuse them.
const COLOURS: usize = 8;
/// Width of a bar of 100 %, and height of a bar.
const WIDTH: f64 = 420.0;
const HEIGHT: usize = 16;
const LABEL: usize = 150;

/// The page. `names` are the models' names; `compared` has, for each model but the first, how its answers differ.
pub fn page(scores: &[ModelScore], names: &[String], suites: &[Suite], compared: &[Vec<Comparison>]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Evaluation</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Evaluation</h1>\n\
         <p class=\"facts\">Whiskers are standard errors.</p>\n"
    );
    for suite in suites {
        let found: Vec<_> = scores.iter().map(|score| suite.score(&score.tasks)).collect();
        let _ = writeln!(page, "<h2>{}</h2>", escaped(suite.name));
        for (index, part) in suite.parts.iter().enumerate() {
            let values: Option<Vec<Estimate>> = found.iter().map(|score| score.parts[index].mean).collect();
            match values {
                Some(values) => chart(&mut page, part.name, names, &values, suite.metric()),
                None => {
                    let missing = found.first().map(|score| score.parts[index].missing.join(", ")).unwrap_or_default();
                    let _ = writeln!(page, "<h3>{}</h3><p>missing: {}</p>", escaped(part.name), escaped(&missing));
                }
            }
        }
        let averages: Option<Vec<Estimate>> = found.iter().map(|score| score.average).collect();
        if let Some(averages) = averages {
            let counted =
                found.first().map_or(0, |score| score.parts.iter().filter(|part| part.mean.is_some()).count());
            let title = format!("average of {counted} of {} parts", suite.parts.len());
            chart(&mut page, &title, names, &averages, suite.metric());
        }
    }
    page.push_str("<h2>Tasks</h2>\n");
    for (index, task) in scores.iter().take(1).flat_map(|score| score.tasks.iter().enumerate()) {
        for (number, metric) in task.metrics.iter().enumerate() {
            let values: Vec<Estimate> = scores.iter().map(|s| s.tasks[index].metrics[number].estimate).collect();
            let title = format!("{}, {}, {} shots, {} questions", task.name, metric.name, task.shots, task.items.len());
            chart(&mut page, &title, names, &values, metric.metric);
        }
    }
    for (index, group) in scores.iter().take(1).flat_map(|score| score.groups.iter().enumerate()) {
        let values: Vec<Estimate> = scores.iter().map(|s| s.groups[index].metric.estimate).collect();
        let title =
            format!("{}, {}, {} shots, {} questions", group.name, group.metric.name, group.shots, group.questions);
        chart(&mut page, &title, names, &values, group.metric.metric);
    }
    scores.iter().zip(names).for_each(|(score, name)| expert_use(&mut page, score, name));
    comparisons(&mut page, names, compared);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A bar per model.
fn chart(page: &mut String, title: &str, names: &[String], values: &[Estimate], metric: Metric) {
    let full = match metric.scale() {
        Scale::Share => 1.0,
        Scale::Points => 100.0,
        Scale::Open => values.iter().map(|e| e.value + e.error).fold(f64::MIN_POSITIVE, f64::max),
    };
    let (height, width) = (values.len() * (HEIGHT + 6), LABEL + WIDTH as usize + 130);
    let _ = write!(
        page,
        "<h3>{0}</h3>\n<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{0}\">",
        escaped(title)
    );
    let x = |value: f64| LABEL as f64 + WIDTH * (value / full).clamp(0.0, 1.0);
    for (index, (name, Estimate { value, error })) in names.iter().zip(values).enumerate() {
        let y = index * (HEIGHT + 6);
        let middle = y + HEIGHT / 2;
        let written = match metric.scale() {
            Scale::Share => format!("{:.1} % ±{:.1}", 100.0 * value, 100.0 * error),
            Scale::Points => format!("{value:.1} ±{error:.1}"),
            Scale::Open => format!("{value:.4} ±{error:.4}"),
        };
        let _ = write!(
            page,
            "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"model{}\" x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>\
             <line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{}\">{written}</text>",
            LABEL - 6,
            y + 12,
            escaped(name),
            index % COLOURS,
            x(*value) - LABEL as f64,
            x(value - error),
            x(value + error),
            x(value + error) + 8.0,
            y + 12,
        );
    }
    page.push_str("</svg>\n");
}

/// How much of the routers' weight each expert got, task by task.
fn expert_use(page: &mut String, score: &ModelScore, name: &str) {
    let rows: Vec<_> = score.tasks.iter().filter_map(|task| Some((task, task.experts.as_ref()?))).collect();
    let Some((_, first)) = rows.first() else { return };
    let expert = |index: usize| score.experts.get(index).map_or(index.to_string(), |name| escaped(name).to_string());
    let head: String = (0..first.len()).map(|index| format!("<th>{}</th>", expert(index))).collect();
    let _ = writeln!(
        page,
        "<h2>Experts of {}</h2>\n<p>Each expert's share of the routers' weight, over all layers and tokens of a task.</p>\n\
         <table class=\"experts\">\n<tr><th>task</th>{head}</tr>",
        escaped(name)
    );
    for (task, shares) in rows {
        let cell = |share: &f64| format!("<td style=\"--share:{share:.3}\">{:.0} %</td>", 100.0 * share);
        let cells: String = shares.iter().map(cell).collect();
        let _ = writeln!(page, "<tr><th>{}</th>{cells}</tr>", escaped(&task.name));
    }
    page.push_str("</table>\n");
}

/// Which questions changed.
fn comparisons(page: &mut String, names: &[String], compared: &[Vec<Comparison>]) {
    let first = names.first().map_or("", String::as_str);
    for (name, compared) in names.iter().skip(1).zip(compared).filter(|(_, compared)| !compared.is_empty()) {
        let _ = write!(
            page,
            "<h2>{} against {}</h2>\n<p>Questions, counted from 0, that only one of both answers correctly; p is \
             McNemar's exact test.</p>\n<table>\n<tr><th>task</th><th>lost</th><th>won</th><th>p</th></tr>\n",
            escaped(name),
            escaped(first)
        );
        for Comparison { task, lost, won, p, .. } in compared {
            let list = |questions: &[usize]| {
                let numbers: Vec<String> = questions.iter().map(usize::to_string).collect();
                format!("<details><summary>{}</summary>{}</details>", questions.len(), numbers.join(" "))
            };
            let (lost, won) = (list(lost), list(won));
            let _ = writeln!(page, "<tr><td>{}</td><td>{lost}</td><td>{won}</td><td>{p:.3}</td></tr>", escaped(task));
        }
        page.push_str("</table>\n");
    }
}
