//! Python's two ways of formatting: `'%s' % value` and `'{}'.format(value)`.

use super::{Fault, arguments::Args, meter::Meter, value::Value};

type Run<T> = Result<T, Fault>;

/// How a value fills its field.
#[derive(Debug, Default, Clone)]
struct Spec {
    fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    /// `+`, `-` or a space.
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
}

/// Most digits behind the point.
const MAX_PRECISION: usize = 200;

/// `format % arguments`.
pub fn percent(format: &str, arguments: &Value, meter: &Meter<'_>) -> Run<String> {
    meter.fits(format.len())?;
    meter.work(format.len())?;
    let several = match arguments {
        Value::Tuple(items) => items.items.clone(),
        other => vec![other.clone()],
    };
    let mut values = several.into_iter();
    let mut used_names = false;
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut named = None;
        if chars.next_if_eq(&'(').is_some() {
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let Value::Dict(dict) = arguments else {
                return Err(Fault::template("`%(name)s` needs a dictionary"));
            };
            let found = dict.get_str(&name, meter)?;
            named = Some(found.cloned().ok_or_else(|| Fault::template("a `%(name)s` is not in the dictionary"))?);
            used_names = true;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | ' ' | '#' | '0')) {
            match flag {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = Some('+'),
                ' ' if spec.sign.is_none() => spec.sign = Some(' '),
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                _ => {}
            }
        }
        spec.width = number(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars)?.unwrap_or(0));
        }
        let conversion = chars.next().ok_or_else(|| Fault::template("a format ends with an unfinished `%`"))?;
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => values.next().ok_or_else(|| Fault::template("there are not enough values for a format"))?,
        };
        meter.fits(out.len() + spec.width + spec.precision.unwrap_or(0).min(MAX_PRECISION))?;
        let align_numbers = |spec: &mut Spec| {
            if spec.align.is_none() {
                spec.align = Some(if spec.zero { '=' } else { '>' });
                spec.fill = spec.zero.then_some('0');
            }
        };
        match conversion {
            's' | 'r' | 'a' => {
                let text = if conversion == 's' { value.print(meter)? } else { value.repr(meter)? };
                let align = spec.align.unwrap_or('>');
                pad_text(&text, &Spec { align: Some(align), ..spec }, &mut out, meter)?;
            }
            'c' => pad_text(
                &value.print(meter)?,
                &Spec { align: Some(spec.align.unwrap_or('>')), ..spec },
                &mut out,
                meter,
            )?,
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                align_numbers(&mut spec);
                let n = match &value {
                    Value::Float(x) if matches!(conversion, 'd' | 'i' | 'u') && x.abs() < 9e18 => *x as i64,
                    other => other.as_int().ok_or_else(|| other.refuse("written as a whole number"))?,
                };
                let kind = if matches!(conversion, 'i' | 'u') { 'd' } else { conversion };
                whole(n, kind, &spec, &mut out, meter)?;
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                align_numbers(&mut spec);
                let x = value.as_float().ok_or_else(|| value.refuse("written as a number"))?;
                float(x, conversion, &spec, &mut out, meter)?;
            }
            other => return Err(Fault::template(format!("a format does not know `%{}`", other.escape_default()))),
        }
    }
    if values.next().is_some() && !used_names && !matches!(arguments, Value::Dict(_)) {
        return Err(Fault::template("a format has fewer places than there are values"));
    }
    Ok(out)
}

/// `format.format(args)`.
pub fn braces(format: &str, args: &Args, meter: &Meter<'_>) -> Run<String> {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        meter.fits(out.len() + at)?;
        meter.work(at)?;
        out.push_str(&rest[..at]);
        let brace = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if rest.as_bytes().first() == Some(&brace) {
            out.push(char::from(brace));
            rest = &rest[1..];
            continue;
        }
        if brace == b'}' {
            return Err(Fault::template("a format has a single `}`"));
        }
        let end = rest.find('}').ok_or_else(|| Fault::template("a format has a `{` without `}`"))?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        if field.contains('{') {
            return Err(Fault::template("fields within the fields of a format are not supported"));
        }
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
        let value = if name.is_empty() {
            next += 1;
            args.positional.get(next - 1)
        } else if let Ok(number) = name.parse::<usize>() {
            args.positional.get(number)
        } else if name.contains(['.', '[']) {
            return Err(Fault::template("attributes in the fields of a format are not supported"));
        } else {
            args.named.iter().find(|(known, _)| known == name).map(|(_, value)| value)
        };
        let value = value.ok_or_else(|| Fault::template("there are not enough values for a format"))?;
        match conversion {
            "" => field_value(value, spec, &mut out, meter)?,
            "s" => field_value(&Value::text(value.print(meter)?, meter)?, spec, &mut out, meter)?,
            "r" => field_value(&Value::text(value.repr(meter)?, meter)?, spec, &mut out, meter)?,
            _ => return Err(Fault::template("a format has an unknown conversion")),
        }
    }
    meter.fits(out.len() + rest.len())?;
    out.push_str(rest);
    Ok(out)
}

fn field_value(value: &Value, text: &str, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let mut chars = text.chars().peekable();
    let mut spec = Spec::default();
    let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
    let mut ahead = chars.clone();
    match (ahead.next(), ahead.next()) {
        (Some(fill), Some(align)) if is_align(align) => {
            (spec.fill, spec.align) = (Some(fill), Some(align));
            chars = ahead;
        }
        (Some(align), _) if is_align(align) => {
            spec.align = Some(align);
            chars.next();
        }
        _ => {}
    }
    spec.sign = chars.next_if(|c| matches!(c, '+' | '-' | ' '));
    spec.alternate = chars.next_if_eq(&'#').is_some();
    spec.zero = chars.next_if_eq(&'0').is_some();
    spec.width = number(&mut chars)?.unwrap_or(0);
    spec.grouping = chars.next_if(|c| matches!(c, ',' | '_'));
    if chars.next_if_eq(&'.').is_some() {
        spec.precision = Some(number(&mut chars)?.ok_or_else(|| Fault::template("a format lacks its precision"))?);
    }
    let kind = chars.next();
    if chars.next().is_some() {
        return Err(Fault::template(format!("bad format {:?}", moerge_core::suggest::shorten(text))));
    }
    meter.fits(out.len() + spec.width + spec.precision.unwrap_or(0).min(MAX_PRECISION))?;
    let numeric = |spec: &Spec| {
        let mut spec = spec.clone();
        if spec.zero && spec.align.is_none() {
            (spec.align, spec.fill) = (Some('='), Some('0'));
        }
        spec.align = spec.align.or(Some('>'));
        spec
    };
    match (value, kind) {
        (Value::Int(_) | Value::Bool(_), Some(kind @ ('d' | 'x' | 'X' | 'o' | 'b'))) => {
            whole(value.as_int().unwrap_or(0), kind, &numeric(&spec), out, meter)
        }
        (Value::Int(n), None) => whole(*n, 'd', &numeric(&spec), out, meter),
        (Value::Int(_) | Value::Bool(_) | Value::Float(_), Some(kind @ ('f' | 'F' | 'e' | 'E' | 'g' | 'G' | '%'))) => {
            float(value.as_float().unwrap_or(0.0), kind, &numeric(&spec), out, meter)
        }
        (Value::Float(x), None) if spec.precision.is_none() => {
            let digits = super::value::float_repr(x.abs());
            signed(x.is_sign_negative(), "", &digits, &numeric(&spec), out, meter)
        }
        (Value::Float(x), None) => float(*x, 'g', &numeric(&spec), out, meter),
        (Value::Str(text), None | Some('s')) => pad_text(text, &spec, out, meter),
        (other, None) if text.is_empty() => {
            let text = other.print(meter)?;
            pad_text(&text, &spec, out, meter)
        }
        (other, _) => {
            Err(Fault::template(format!("bad format {:?} of a {}", moerge_core::suggest::shorten(text), other.kind())))
        }
    }
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Run<Option<usize>> {
    let mut found = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let digit = digit as usize - '0' as usize;
        let value = found.unwrap_or(0usize).checked_mul(10).and_then(|n| n.checked_add(digit));
        // Far above any width that fits, so that sums of it do not overflow.
        let value =
            value.filter(|n| *n < usize::MAX / 4).ok_or_else(|| Fault::limit("the width of a format is too large"))?;
        found = Some(value);
    }
    Ok(found)
}

fn whole(n: i64, kind: char, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let magnitude = n.unsigned_abs();
    let (prefix, mut digits) = match kind {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        'b' => ("0b", format!("{magnitude:b}")),
        _ => ("", magnitude.to_string()),
    };
    if let Some(precision) = spec.precision {
        digits = format!("{digits:0>0$}", precision.min(MAX_PRECISION));
    }
    if let Some(separator) = spec.grouping {
        digits = grouped(&digits, separator);
    }
    signed(n < 0, if spec.alternate { prefix } else { "" }, &digits, spec, out, meter)
}

fn float(x: f64, kind: char, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Err(Fault::limit(format!("a format has more than {MAX_PRECISION} digits")));
    }
    let magnitude = x.abs();
    let mut digits = match kind {
        _ if !x.is_finite() => super::value::float_repr(magnitude),
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

/// Python's `e` format: two digits of exponent at least.
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

fn signed(negative: bool, prefix: &str, digits: &str, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
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

fn pad_text(text: &str, spec: &Spec, out: &mut String, meter: &Meter<'_>) -> Run<()> {
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
