//! Numbers as the cells of tables show them, with their standard errors.

use moerge_lib::evaluate::{
    Estimate,
    tasks::task::{Metric, Scale},
};

/// `0.0213 ±0.0004`, in nats.
pub fn kl_cell(estimate: &Estimate) -> String {
    let decimals = if estimate.value < 0.01 { 5 } else { 4 };
    format!("{:.decimals$} ±{:.decimals$}", estimate.value.max(0.0), estimate.error)
}

/// An estimate on the scale of its metric.
pub fn metric_cell(metric: Metric, estimate: &Estimate) -> String {
    match metric.scale() {
        Scale::Share => share_cell(estimate),
        Scale::Points => points_cell(estimate),
        Scale::Open => perplexity_cell(estimate),
    }
}

/// `41.0 ±4.9`
fn points_cell(estimate: &Estimate) -> String {
    format!("{:.1} ±{:.1}", estimate.value, estimate.error)
}

/// `20.43 ±0.31`
pub fn perplexity_cell(estimate: &Estimate) -> String {
    let decimals = match estimate.value {
        v if v < 9.9995 => 3,
        v if v < 99.995 => 2,
        v if v < 999.95 => 1,
        _ => 0,
    };
    format!("{:.decimals$} ±{:.decimals$}", estimate.value, estimate.error)
}

/// `41.0 % ±4.9`
pub fn share_cell(estimate: &Estimate) -> String {
    format!("{:.1} % ±{:.1}", 100.0 * estimate.value, 100.0 * estimate.error)
}

/// `20,431`
pub fn thousands(n: usize) -> String {
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
