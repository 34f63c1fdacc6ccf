//! The output of `moerge route`: shares per text, a heat map, numbers per layer.

use moerge_lib::{
    following::Following,
    route::{LayerReport, RouteReport, TextReport},
};

use crate::{
    numbers::count,
    terminal::{DIM, GOOD, LABEL, WARNING, one_line, styled, table},
};

/// Shades of the heat map, from few tokens to all of them.
const SHADES: [&str; 6] = ["··", "░░", "▒▒", "▓▓", "██", "██"];
/// More layers than this are drawn in cells of one character instead of two.
const WIDE: usize = 30;

/// The whole page.
pub fn lines(report: &RouteReport) -> Vec<String> {
    let tokens: usize = report.texts.iter().map(|text| text.tokens).sum();
    let mut lines = vec![
        format!(
            "{}: {} experts, {} per token, {}; {} of {}",
            styled(LABEL, &one_line(&report.model)),
            report.experts.len(),
            report.experts_per_token,
            count(report.layers.len(), "layer"),
            count(tokens, "token"),
            count(report.texts.len(), "text"),
        ),
        String::new(),
    ];
    lines.extend(shares(report));
    lines.push(String::new());
    lines.extend(maps(report));
    lines.push(String::new());
    if let Some(following) = &report.following {
        lines.extend(follow(following));
        lines.push(String::new());
    }
    lines.extend(layers(report));
    lines.extend(dead(report));
    lines.extend(report.balance.iter().map(|balanced| styled(DIM, &balanced.balance.summary())));
    lines
}

/// A row per text: each expert's share of the router's weight, the text's own expert in bold.
fn shares(report: &RouteReport) -> Vec<String> {
    let known = report.texts.iter().any(|text| text.expert.is_some());
    let mut header = vec![styled(LABEL, "share of weight")];
    header.extend(report.experts.iter().map(|name| one_line(name)));
    header.extend(known.then(|| "own expert first".to_owned()));
    let mut rows = vec![header];
    for text in &report.texts {
        let mut row = vec![one_line(&text.name)];
        row.extend((0..report.experts.len()).map(|expert| {
            let share = percent(text.weighted(expert));
            if text.expert == Some(expert) { styled(LABEL, &share) } else { share }
        }));
        row.extend(report.accuracy_of(text).map(percent).or(known.then(|| "-".to_owned())));
        rows.push(row);
    }
    if let Some(accuracy) = report.accuracy().filter(|_| report.texts.len() > 1) {
        let mut row = vec![String::new(); report.experts.len() + 1];
        row[0] = "mean over texts".to_owned();
        row.push(percent(accuracy));
        rows.push(row);
    }
    table(&rows, &(1..report.experts.len() + 2).collect::<Vec<_>>())
}

/// A heat map per text. Rows are experts, columns are layers; darker means that more tokens have the expert as their
/// first choice.
fn maps(report: &RouteReport) -> Vec<String> {
    let last = report.layers.len().saturating_sub(1);
    let (least, most) = if report.layers.len() <= WIDE { ("··", "██") } else { ("·", "█") };
    let legend = format!("layers 0 to {last}: from {least} (below 20 %) to {most} (80 % or more)");
    let mut rows = vec![vec![styled(LABEL, "first choice"), String::new(), legend]];
    for text in &report.texts {
        for (expert, name) in report.experts.iter().enumerate() {
            let own = text.expert == Some(expert);
            let (map, name) = (map(report, text, expert), one_line(name));
            rows.push(vec![
                if expert == 0 { one_line(&text.name) } else { String::new() },
                if own { styled(LABEL, &name) } else { name },
                if own { styled(GOOD, &map) } else { map },
            ]);
        }
    }
    table(&rows, &[])
}

fn map(report: &RouteReport, text: &TextReport, expert: usize) -> String {
    let shade = |share: f64| SHADES[((share * 5.0) as usize).min(SHADES.len() - 1)];
    let cells = text.layers.iter().zip(&report.layers).map(|(routed, layer)| match layer.absent.contains(&expert) {
        true => "  ",
        false => shade(routed.first_choice[expert]),
    });
    if text.layers.len() <= WIDE { cells.collect() } else { cells.filter_map(|cell| cell.chars().next()).collect() }
}

/// How often the own expert comes first, by the number of tokens since the text began or changed its subject.
fn follow(following: &Following) -> Vec<String> {
    let rows = [("after the beginning", &following.from_beginning), ("after a change", &following.after_change)];
    let mut distances: Vec<u64> = rows.iter().flat_map(|(_, tokens)| tokens.iter().map(|t| t.from)).collect();
    distances.sort_unstable();
    distances.dedup();
    let mut lines = vec![vec![styled(LABEL, "own first, by tokens")]];
    lines[0].extend(distances.iter().map(|from| format!("{from}{}", if *from > 1 { "+" } else { "" })));
    for (when, tokens) in rows {
        let cell = |from: &u64| tokens.iter().find(|t| t.from == *from).map_or("-".into(), |t| percent(t.accuracy));
        lines.push(std::iter::once(when.to_owned()).chain(distances.iter().map(cell)).collect());
    }
    table(&lines, &(1..=distances.len()).collect::<Vec<_>>())
}

/// A row per layer: accuracy, balance, entropy, and the two most similar gates.
fn layers(report: &RouteReport) -> Vec<String> {
    let known = report.layers.iter().any(|layer| layer.accuracy.is_some());
    let mut header = vec![styled(LABEL, "layer")];
    header.extend(known.then(|| "own first".to_owned()));
    header.extend(["balance", "entropy", "most similar gates"].map(str::to_owned));
    let mut rows = vec![header];
    for (index, layer) in report.layers.iter().enumerate() {
        let mut row = vec![index.to_string()];
        row.extend(layer.accuracy.map(percent).or(known.then(|| "-".to_owned())));
        row.push(format!("{:.2}", layer.balance));
        row.push(format!("{:.2}", layer.entropy));
        row.push(most_similar(report, layer));
        rows.push(row);
    }
    let right = if known { 4 } else { 3 };
    let mut lines = table(&rows, &(0..right).collect::<Vec<_>>());
    let what = "balance: 1 means equal load; entropy: 1 means the router has no preference";
    lines.push(styled(DIM, what));
    lines
}

/// `base and story, cosine 0.97`
fn most_similar(report: &RouteReport, layer: &LayerReport) -> String {
    let cosines = &layer.gate_cosines;
    let here: Vec<usize> = (0..cosines.len()).filter(|expert| !layer.absent.contains(expert)).collect();
    let pairs = here.iter().enumerate().flat_map(|(n, i)| here[n + 1..].iter().map(move |j| (*i, *j)));
    let best = pairs.max_by(|(a, b), (c, d)| cosines[*a][*b].total_cmp(&cosines[*c][*d]));
    best.map_or_else(String::new, |(i, j)| {
        one_line(&format!("{} and {}, cosine {:.2}", report.experts[i], report.experts[j], cosines[i][j]))
    })
}

/// A line for each expert that no token chose in some layer.
fn dead(report: &RouteReport) -> Vec<String> {
    let line = |(expert, name): (usize, &String)| {
        let layers: Vec<usize> =
            (0..report.layers.len()).filter(|layer| report.layers[*layer].dead.contains(&expert)).collect();
        let warning = styled(WARNING, "dead:");
        let plural = if layers.len() == 1 { "layer" } else { "layers" };
        let text = format!("{warning} no token chose {} in {plural} {}", one_line(name), spans(&layers));
        (!layers.is_empty()).then_some(text)
    };
    report.experts.iter().enumerate().filter_map(line).collect()
}

/// `0, 3 to 7` for ascending numbers.
fn spans(numbers: &[usize]) -> String {
    let span = |span: &[usize]| match span {
        [first, .., last] if span.len() > 2 => format!("{first} to {last}"),
        _ => span.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    numbers.chunk_by(|a, b| a + 1 == *b).map(span).collect::<Vec<_>>().join(", ")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_become_spans() {
        assert_eq!(spans(&[]), "");
        assert_eq!(spans(&[0, 3, 4, 5, 7, 8]), "0, 3 to 5, 7, 8");
    }
}
