//! `'{}'.format(value)`.

use super::{
    Run, ascii, character,
    spec::{MAX_PRECISION, Spec, float, number, pad_text, signed, whole},
};
use crate::jinja::{
    Fault,
    arguments::Args,
    meter::Meter,
    value::{Value, escape_html, float_repr},
};

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
            let digits = float_repr(x.abs());
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
