//! How well fitted routers route, in a few lines.

use moerge::router::RoutingReport;

/// The median layer, the worst ones, and how the work is shared out.
pub fn lines(report: &RoutingReport) -> Vec<String> {
    const WORST: usize = 3;
    let percent = |part: f64| format!("{:.1} %", 100.0 * part);
    let median = percent(report.median_accuracy);
    let worst = report.worst_layers().into_iter().take(WORST);
    let worst: Vec<String> = worst.map(|(layer, accuracy)| format!("{layer}: {}", percent(accuracy))).collect();
    let load: Vec<String> = report.load().into_iter().map(|part| format!("{:.0}", 100.0 * part)).collect();
    let tokens: u64 = report.experts.iter().map(|e| e.held_out).sum();
    vec![
        format!(
            "{}: own expert first for {median} of {tokens} tokens kept back, in the median layer",
            report.gate_mode
        ),
        format!("worst layers {}; load {} % of the choices", worst.join(", "), load.join(" / ")),
    ]
}
