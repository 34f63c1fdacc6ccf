//! What every method asks of its parameters and its inputs, with the messages for it.

use crate::error::{Cause, Error, Result};

/// How many inputs a method takes.
pub(super) enum Count {
    /// This number.
    Exactly(usize),
    /// This number or more.
    AtLeast(usize),
}

/// Wants `found` inputs to fit `count`. `with_base` says that one of them is the base.
pub(super) fn inputs(method: &str, count: Count, found: usize, with_base: bool) -> Result<()> {
    let (fits, at_least, wanted) = match count {
        Count::Exactly(n) => (found == n, "", n),
        Count::AtLeast(n) => (found >= n, "at least ", n),
    };
    if fits {
        return Ok(());
    }
    let models = |n: usize, at_least: &str| match (n, with_base) {
        (0 | 1, true) if at_least.is_empty() => "only the base".to_owned(),
        (2, true) => format!("the base and {at_least}1 other model"),
        (n, true) => format!("the base and {at_least}{} other models", n.saturating_sub(1)),
        (1, false) => format!("{at_least}1 model"),
        (n, false) => format!("{at_least}{n} models"),
    };
    Err(Error::input(format!("{method} does not merge this number of models"))
        .fact("expected", models(wanted, at_least))
        .fact("found", models(found, ""))
        .cause(Cause::NumberOfModels))
}

/// Wants one value of `name` for each of `expected` inputs.
pub(super) fn values(method: &str, name: &str, values: &[f64], expected: usize) -> Result<()> {
    if values.len() != expected {
        return Err(Error::input(format!("{method} needs one {name} per model"))
            .fact("expected", expected.to_string())
            .fact("found", values.len().to_string()));
    }
    values.iter().try_for_each(|value| finite(method, name, *value))
}

/// Wants a finite number.
pub(super) fn finite(method: &str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(out_of_range(method, name, "a finite number", value))
}

/// Wants `value` between 0 and 1, both included.
pub(super) fn fraction(method: &str, name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(out_of_range(method, name, "a number from 0 to 1", value))
}

/// Wants `value` to be 0 or more.
pub(super) fn not_negative(method: &str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(out_of_range(method, name, "0 or more", value))
}

/// Wants weights that are divided by their sum not to cancel out.
pub(super) fn sum_not_zero(method: &str, weights: &[f64], switch: &str) -> Result<()> {
    let (sum, size) = (weights.iter().sum::<f64>(), weights.iter().map(|w| w.abs()).sum::<f64>());
    // 0.1 + 0.2 - 0.3 is not quite 0.
    if sum.abs() > 1e-12 * size {
        return Ok(());
    }
    Err(Error::input(format!("{method} divides by the sum of the weights, which is 0"))
        .fact("weights", format!("{weights:?}"))
        .hint(format!("change a weight, or set {switch}: false")))
}

fn out_of_range(method: &str, name: &str, expected: &str, value: f64) -> Error {
    Error::input(format!("{name} of {method} is out of range"))
        .fact("expected", expected)
        .fact("found", value.to_string())
}
