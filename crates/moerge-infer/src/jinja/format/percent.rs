//! `'%s' % value`.

use super::{
    Run, ascii, character,
    spec::{MAX_PRECISION, Spec, bounded, float, number, pad_text, whole},
};
use crate::jinja::{
    Fault,
    meter::Meter,
    value::{Value, escape_html},
};

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
