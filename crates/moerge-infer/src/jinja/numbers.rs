//! The filters `int`, `float` and `round`: Python's constructors and rounding.

use super::{
    Fault,
    arguments::{Args, Optional as _},
    value::Value,
};

type Run<T> = Result<T, Fault>;

/// `value | int(default, base)`.
pub fn int(value: &Value, args: Args) -> Run<Value> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    let base = base.int("a base")?.unwrap_or(10);
    let parsed = match value {
        Value::Undefined(_) => return Err(value.refuse("a number")),
        Value::Float(x) => Some(*x),
        Value::Str(text) => match whole(text, base) {
            Some(n) => return Ok(Value::Int(n)),
            None => parse_float(text),
        },
        other => return Ok(other.as_int().map(Value::Int).or(default).unwrap_or(Value::Int(0))),
    };
    let parsed = parsed.filter(|x| x.abs() < 9e18).map(|x| Value::Int(x as i64));
    Ok(parsed.or(default).unwrap_or(Value::Int(0)))
}

/// `value | float(default)`.
pub fn float(value: &Value, args: Args) -> Run<Value> {
    let [default] = args.bind("float", ["default"])?;
    let parsed = match value {
        Value::Undefined(_) => return Err(value.refuse("a number")),
        Value::Str(text) => parse_float(text),
        other => other.as_float(),
    };
    Ok(parsed.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

/// `value | round(precision, method)`: integers stay integers, as in Python.
pub fn round(value: &Value, args: Args) -> Run<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = precision.int("a precision")?.unwrap_or(0).clamp(-400, 400);
    let x = value.as_float().ok_or_else(|| value.refuse("rounded"))?;
    let scale = 10f64.powi(precision as i32);
    Ok(match (method.text("a method")?.unwrap_or("common"), value.as_int()) {
        ("ceil", _) => Value::Float((x * scale).ceil() / scale),
        ("floor", _) => Value::Float((x * scale).floor() / scale),
        ("common", Some(n)) if precision >= 0 => Value::Int(n),
        ("common", Some(n)) => Value::Int(round_whole(n, precision.unsigned_abs())),
        ("common", None) => Value::Float(round_float(x, precision)),
        _ => return Err(Fault::template("the method of `round` is `common`, `ceil` or `floor`")),
    })
}

/// Rounds to a multiple of `10 ** digits`, halves to even.
fn round_whole(n: i64, digits: u64) -> i64 {
    let Some(unit) = u32::try_from(digits).ok().and_then(|digits| 10i128.checked_pow(digits)) else { return 0 };
    let n = i128::from(n);
    let (below, rest) = (n.div_euclid(unit), n.rem_euclid(unit));
    let up = 2 * rest > unit || 2 * rest == unit && below % 2 != 0;
    i64::try_from((below + i128::from(up)) * unit).unwrap_or(0)
}

/// Rounds the exact decimal value, as Python does: 2.675 is slightly below 2.675.
fn round_float(x: f64, precision: i64) -> f64 {
    if !x.is_finite() || precision > 320 {
        return x;
    }
    match usize::try_from(precision) {
        Ok(precision) => format!("{x:.precision$}").parse().unwrap_or(x),
        Err(_) => {
            let unit = 10f64.powi((-precision) as i32);
            (x / unit).round_ties_even() * unit
        }
    }
}

/// Python's `int(text, base)`.
fn whole(text: &str, base: i64) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let prefixed = prefixes.iter().find_map(|(prefix, of)| lower.strip_prefix(prefix).map(|rest| (rest, *of)));
    let (digits, base) = match (prefixed, base) {
        (Some((rest, of)), base) if base == of || base == 0 => (rest.strip_prefix('_').unwrap_or(rest), of),
        (_, 0) if lower.len() > 1 && lower.starts_with('0') && lower.contains(|c| !matches!(c, '0' | '_')) => {
            return None;
        }
        (_, 0) => (lower.as_str(), 10),
        (_, base) => (lower.as_str(), base),
    };
    let radix = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
    let digits = without_underscores(digits)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(&format!("{}{digits}", if negative { "-" } else { "" }), radix).ok()
}

/// Python's `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    without_underscores(text.trim())?.parse().ok()
}

/// Removes underscores, which may only separate digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let fits = bytes.iter().enumerate().all(|(at, b)| *b != b'_' || digit(at.checked_sub(1)) && digit(Some(at + 1)));
    fits.then(|| text.replace('_', ""))
}
