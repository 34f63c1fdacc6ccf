//! Python's string formatting: `'%s' % value` and `'{}'.format(value)`.

use super::{
    Fault,
    arguments::Args,
    meter::Meter,
    value::{Value, escape_char, escape_html},
};

type Run<T> = Result<T, Fault>;

/// A format specification.
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

/// Maximum number of digits.
const MAX_PRECISION: usize = 200;

/// `format % arguments`. Where the format is `markup`, arguments are escaped.
pub fn percent(format: &str, arguments: &Value, markup: bool, meter: &Meter<'_>) -> Run<String> {
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
        let mut star = |spec: &mut Spec| -> Run<usize> {
            let n = values.next().and_then(|n| n.as_int());
            let n = n.ok_or_else(|| Fault::template("a `*` in a format needs a whole number"))?;
            if n < 0 {
                spec.align = Some('<');
            }
            bounded(n.unsigned_abs())
        };
        spec.width = match chars.next_if_eq(&'*') {
            Some(_) => star(&mut spec)?,
            None => number(&mut chars)?.unwrap_or(0),
        };
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(match chars.next_if_eq(&'*') {
                Some(_) => star(&mut Spec::default())?,
                None => number(&mut chars)?.unwrap_or(0),
            });
        }
        while chars.next_if(|c| matches!(c, 'h' | 'l' | 'L')).is_some() {}
        let conversion = chars.next().ok_or_else(|| Fault::template("a format ends with an unfinished `%`"))?;
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => values.next().ok_or_else(|| Fault::template("a format has more fields than values"))?,
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
                let text = match conversion {
                    's' => value.print(meter)?,
                    'r' => value.repr(meter)?,
                    _ => ascii(&value.repr(meter)?, meter)?,
                };
                let text = if markup && !value.is_markup() { escape_html(&text, meter)? } else { text };
                let align = spec.align.unwrap_or('>');
                pad_text(&text, &Spec { align: Some(align), ..spec }, &mut out, meter)?;
            }
            'c' => {
                let text = character(&value)?.to_string();
                pad_text(
                    &text,
                    &Spec { align: Some(spec.align.unwrap_or('>')), precision: None, ..spec },
                    &mut out,
                    meter,
                )?;
            }
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
        return Err(Fault::template("a format has fewer fields than values"));
    }
    Ok(out)
}

/// `format.format(args)`. Where the format is `markup`, arguments are escaped.
pub fn braces(format: &str, args: &Args, markup: bool, meter: &Meter<'_>) -> Run<String> {
    let mut out = String::new();
    let mut fields = Fields { args, next: 0, meter };
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
        let end = field_end(rest).ok_or_else(|| Fault::template("a format has a `{` without `}`"))?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
        let value = fields.value(name)?;
        let spec = fields.filled(spec)?;
        let value = match conversion {
            "" => value,
            "s" => Value::text(value.print(meter)?, meter)?,
            "r" => Value::text(value.repr(meter)?, meter)?,
            "a" => Value::text(ascii(&value.repr(meter)?, meter)?, meter)?,
            _ => return Err(Fault::template("a format has an unknown conversion")),
        };
        if markup && !value.is_markup() {
            let mut text = String::new();
            field_value(&value, &spec, &mut text, meter)?;
            out.push_str(&escape_html(&text, meter)?);
        } else {
            field_value(&value, &spec, &mut out, meter)?;
        }
    }
    meter.fits(out.len() + rest.len())?;
    out.push_str(rest);
    Ok(out)
}

/// The end of the field that `text` starts in. Its specification may contain fields.
fn field_end(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Looks up the arguments of `format` for its fields.
struct Fields<'a, 'm> {
    args: &'a Args,
    next: usize,
    meter: &'a Meter<'m>,
}

impl Fields<'_, '_> {
    /// The value of `name`, `0.name`, `name[key]`, or the next positional argument.
    fn value(&mut self, name: &str) -> Run<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let found = if first.is_empty() {
            self.next += 1;
            self.args.positional.get(self.next - 1)
        } else if let Ok(number) = first.parse::<usize>() {
            self.args.positional.get(number)
        } else {
            self.args.named.iter().find(|(known, _)| known == first).map(|(_, value)| value)
        };
        let mut value = found.cloned().ok_or_else(|| Fault::template("a format has more fields than values"))?;
        while !path.is_empty() {
            self.meter.step()?;
            let end;
            let key = match path.strip_prefix('[') {
                Some(rest) => {
                    let at = rest.find(']').ok_or_else(|| Fault::template("a format has a `[` without `]`"))?;
                    end = at + 2;
                    &rest[..at]
                }
                None => {
                    end = path[1..].find(['.', '[']).map_or(path.len(), |at| at + 1);
                    &path[1..end]
                }
            };
            path = &path[end..];
            let none = || Value::undefined(key);
            value = match (&value, key.parse::<usize>()) {
                (Value::List(items) | Value::Tuple(items), Ok(at)) => items.items.get(at).cloned().unwrap_or_else(none),
                (Value::Dict(dict), _) => dict.get_str(key, self.meter)?.cloned().unwrap_or_else(none),
                _ => none(),
            };
        }
        Ok(value)
    }

    /// A specification with its own fields filled in.
    fn filled(&mut self, spec: &str) -> Run<String> {
        let mut filled = String::new();
        let mut rest = spec;
        while let Some(at) = rest.find('{') {
            let end = rest[at..].find('}').ok_or_else(|| Fault::template("a format has a `{` without `}`"))?;
            filled.push_str(&rest[..at]);
            let value = self.value(&rest[at + 1..at + end])?.print(self.meter)?;
            self.meter.fits(filled.len() + value.len())?;
            filled.push_str(&value);
            rest = &rest[at + end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// Python's `ascii`, of a `repr`.
fn ascii(repr: &str, meter: &Meter<'_>) -> Run<String> {
    meter.fits(10 * repr.len())?;
    let mut out = String::with_capacity(repr.len());
    for c in repr.chars() {
        if c.is_ascii() { out.push(c) } else { escape_char(c, &mut out) }
    }
    Ok(out)
}

/// The character that `%c` prints: a string of one character, or a code point.
fn character(value: &Value) -> Run<char> {
    let of_text = value.as_str().and_then(|text| {
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    });
    let of_number = || char::from_u32(u32::try_from(value.as_int()?).ok()?);
    of_text.or_else(of_number).ok_or_else(|| value.refuse("written as one character"))
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
        spec.precision =
            Some(number(&mut chars)?.ok_or_else(|| Fault::template("a format has no digits after the point"))?);
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
        (Value::Int(_) | Value::Bool(_), Some('c')) => {
            pad_text(&character(value)?.to_string(), &numeric(&spec), out, meter)
        }
        (Value::Bool(b), None) if !text.is_empty() => whole(i64::from(*b), 'd', &numeric(&spec), out, meter),
        (Value::Int(n), None) => whole(*n, 'd', &numeric(&spec), out, meter),
        (Value::Int(_) | Value::Bool(_) | Value::Float(_), Some(kind @ ('f' | 'F' | 'e' | 'E' | 'g' | 'G' | '%'))) => {
            float(value.as_float().unwrap_or(0.0), kind, &numeric(&spec), out, meter)
        }
        (Value::Float(x), None) if spec.precision.is_none() => {
            let digits = super::value::float_repr(x.abs());
            signed(x.is_sign_negative(), "", &digits, &numeric(&spec), out, meter)
        }
        (Value::Float(x), None) => float(*x, 'g', &numeric(&spec), out, meter),
        (Value::Str(text), None | Some('s')) => {
            spec.fill = spec.fill.or(spec.zero.then_some('0'));
            pad_text(text, &spec, out, meter)
        }
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
        // Far above any width that fits, and sums cannot overflow.
        let value =
            value.filter(|n| *n < usize::MAX / 4).ok_or_else(|| Fault::limit("the width of a format is too large"))?;
        found = Some(value);
    }
    Ok(found)
}

/// Bounds a width or precision given as an argument.
fn bounded(n: u64) -> Run<usize> {
    let n = usize::try_from(n).ok().filter(|n| *n < usize::MAX / 4);
    n.ok_or_else(|| Fault::limit("the width of a format is too large"))
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
