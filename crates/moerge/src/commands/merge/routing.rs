//! The quality of fitted routers, in a few lines.

use moerge_lib::{
    following::{FollowedTokens, Following},
    routers::{Balance, RoutingReport, Validation},
};

use crate::terminal::table;

/// The distance in tokens after which a router should have followed a change.
const SETTLED: u64 = 16;

/// The accuracy of the median layer and of the worst ones, and the load of each expert.
pub fn lines(report: &RoutingReport) -> Vec<String> {
    const WORST: usize = 3;
    let percent = |part: f64| format!("{:.1} %", 100.0 * part);
    let median = percent(report.median_accuracy);
    let worst = report.worst_layers().into_iter().take(WORST);
    let worst: Vec<String> = worst.map(|(layer, accuracy)| format!("{layer}: {}", percent(accuracy))).collect();
    let load: Vec<String> = report.load().into_iter().map(|part| format!("{:.0}", 100.0 * part)).collect();
    let tokens: u64 = report.experts.iter().map(|e| e.held_out).sum();
    let mut lines = vec![
        format!("{}: own expert first for {median} of {tokens} held-out tokens, in the median layer", report.gate_mode),
        format!("worst layers {}; load {} % of the choices", worst.join(", "), load.join(" / ")),
    ];
    lines.extend(following(&report.following));
    if let Some(sharpness) = report.sharpness.as_ref().filter(|s| s.factor != 1.0) {
        let of = |factor: f64| sharpness.tried.iter().find(|t| t.factor == factor).map_or(f64::NAN, |t| t.perplexity);
        lines.push(format!(
            "rows scaled by {}: perplexity on the experts' text {:.3} instead of {:.3}",
            sharpness.factor,
            of(sharpness.factor),
            of(1.0)
        ));
    }
    lines.extend(report.balance.iter().map(Balance::summary));
    lines.extend(report.validation.iter().flat_map(perplexities));
    lines
}

/// `after a change of subject, own expert first: 71 % at once, 96 % 16 tokens later`
fn following(following: &Following) -> Option<String> {
    let tokens = &following.after_change;
    let (first, later) = (tokens.first()?, tokens.iter().find(|t| t.from == SETTLED).or(tokens.last())?);
    let percent = |tokens: &FollowedTokens| format!("{:.0} %", 100.0 * tokens.accuracy);
    Some(format!(
        "after a change of subject, own expert first: {} at once, {} {} tokens later",
        percent(first),
        percent(later),
        later.from
    ))
}

/// Perplexities as a table.
fn perplexities(validation: &Validation) -> Vec<String> {
    let texts = validation.texts_of.iter().map(|expert| format!("text {expert}"));
    let mut rows = vec![[vec!["perplexity".to_owned()], texts.collect(), vec!["geo. mean".to_owned()]].concat()];
    let number = |x: &f64| if *x < 1000.0 { format!("{x:.3}") } else { format!("{x:.0}") };
    rows.extend(validation.models.iter().map(|row| {
        let numbers = row.perplexity.iter().chain([&row.geometric_mean]).map(number);
        [vec![row.model.clone()], numbers.collect()].concat()
    }));
    let right: Vec<usize> = (1..validation.texts_of.len() + 2).collect();
    table(&rows, &right)
}
