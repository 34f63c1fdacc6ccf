//! A format specification, and numbers and strings formatted by one.

use super::Run;
use crate::jinja::{Fault, meter::Meter, value::float_repr};

/// Maximum number of digits.
pub(super) const MAX_PRECISION: usize = 200;

/// A format specification.
#[derive(Debug, Default, Clone)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    pub(super) align: Option<char>,
    /// `+`, `-` or a space.
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
}

pub(super) fn whole(n: i64, kind: char, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let magnitude = n.unsigned_abs();
    let (prefix, mut digits) = match kind {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        'b' => ("0b", format!("{magnitude:b}")),
        _ => ("", magnitude.to_string()),
    };
    if let Some(precision) = spec.precision {
        if precision > MAX_PRECISION {
            return Err(Fault::limit(format!("a format has more than {MAX_PRECISION} digits")));
        }
        digits = format!("{digits:0>precision$}");
    }
    if let Some(separator) = spec.grouping {
        digits = grouped(&digits, separator);
    }
    signed(n < 0, if spec.alternate { prefix } else { "" }, &digits, spec, out, meter)
}

pub(super) fn float(x: f64, kind: char, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Err(Fault::limit(format!("a format has more than {MAX_PRECISION} digits")));
    }
    let magnitude = x.abs();
    let mut digits = match kind {
        _ if !x.is_finite() => float_repr(magnitude),
        'f' | 'F' => format!("{magnitude:.precision$}"),
        '%' => format!("{:.precision$}%", magnitude * 100.0),
        'e' | 'E' => scientific(magnitude, precision),
        _ => {
            let precision = precision.max(1);
            let shown = scientific(magnitude, precision - 1);
            let exponent: i64 = shown.rsplit_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
            let trim = |digits: &str| {
                if digits.contains('.') {
                    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
                } else {
                    digits.to_owned()
                }
            };
            if exponent < -4 || exponent >= precision as i64 {
                let (digits, exponent) = shown.rsplit_once('e').unwrap_or((&shown, "+00"));
                format!("{}e{exponent}", trim(digits))
            } else {
                let places = usize::try_from(precision as i64 - 1 - exponent).unwrap_or(0);
                trim(&format!("{magnitude:.places$}"))
            }
        }
    };
    if matches!(kind, 'E' | 'G' | 'F') {
        digits = digits.to_uppercase();
    }
    if let Some(separator) = spec.grouping {
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits = format!("{}{}", grouped(&digits[..end], separator), &digits[end..]);
    }
    signed(x.is_sign_negative() && !x.is_nan(), "", &digits, spec, out, meter)
}

pub(super) fn pad_text(text: &str, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    meter.work(text.len())?;
    let cut: String = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    };
    let missing = spec.width.saturating_sub(cut.chars().count());
    meter.memory(missing.saturating_mul(4))?;
    meter.fits(out.len() + cut.len() + missing)?;
    let left = match spec.align {
        Some('>') => missing,
        Some('^') => missing / 2,
        _ => 0,
    };
    let fill = spec.fill.unwrap_or(' ');
    (0..left).for_each(|_| out.push(fill));
    out.push_str(&cut);
    (left..missing).for_each(|_| out.push(fill));
    Ok(())
}

pub(super) fn signed(
    negative: bool,
    prefix: &str,
    digits: &str,
    spec: &Spec,
    out: &mut String,
    meter: &Meter<'_>,
) -> Run<()> {
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    let length = sign.len() + prefix.len() + digits.len();
    if spec.align == Some('=') && spec.width > length {
        meter.memory(spec.width)?;
        out.push_str(sign);
        out.push_str(prefix);
        let fill = spec.fill.unwrap_or(' ');
        (length..spec.width).for_each(|_| out.push(fill));
        out.push_str(digits);
        return Ok(());
    }
    let unlimited = Spec { precision: None, ..spec.clone() };
    pad_text(&[sign, prefix, digits].concat(), &unlimited, out, meter)
}

pub(super) fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Run<Option<usize>> {
    let mut found = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let digit = digit as usize - '0' as usize;
        let value = found.unwrap_or(0usize).checked_mul(10).and_then(|n| n.checked_add(digit));
        // Far above any width that fits, and sums cannot overflow.
        let value =
            value.filter(|n| *n < usize::MAX / 4).ok_or_else(|| Fault::limit("the width of a format is too large"))?;
        found = Some(value);
    }
    Ok(found)
}

/// Bounds a width or precision given as an argument.
pub(super) fn bounded(n: u64) -> Run<usize> {
    let n = usize::try_from(n).ok().filter(|n| *n < usize::MAX / 4);
    n.ok_or_else(|| Fault::limit("the width of a format is too large"))
}

/// Python's `e` format: the exponent has at least two digits.
fn scientific(magnitude: f64, precision: usize) -> String {
    let shown = format!("{magnitude:.precision$e}");
    let (digits, exponent) = shown.rsplit_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn grouped(digits: &str, separator: char) -> String {
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}
