//! Python's arithmetic, with integers limited to 64 bits.

use super::{
    Fault,
    format::percent,
    meter::Meter,
    syntax::Binary,
    value::{Text, Value, escape_html},
};

type Run<T> = Result<T, Fault>;

pub fn negative(value: &Value) -> Run<Value> {
    match value {
        Value::Float(x) => Ok(Value::Float(-x)),
        other => match other.as_int() {
            Some(n) => n.checked_neg().map(Value::Int).ok_or_else(too_large),
            None => Err(other.refuse("negated")),
        },
    }
}

pub fn binary(operator: Binary, left: &Value, right: &Value, meter: &Meter<'_>) -> Run<Value> {
    match (operator, left, right) {
        (_, Value::Undefined(_), _) => return Err(left.refuse("computed with")),
        (Binary::Rem, Value::Str(format), arguments) => {
            let text = percent(format, arguments, format.is_markup, meter)?;
            return Value::text_like(text, format.is_markup, meter);
        }
        (_, _, Value::Undefined(_)) => return Err(right.refuse("computed with")),
        (Binary::Add, Value::Str(a), Value::Str(b)) => {
            meter.fits(a.len() + b.len())?;
            return match (a.is_markup, b.is_markup) {
                (false, false) => Value::text([&**a, &**b].concat(), meter),
                _ => Value::text_like([as_markup(a, meter)?, as_markup(b, meter)?].concat(), true, meter),
            };
        }
        (Binary::Add, Value::List(a), Value::List(b)) => {
            meter.fits((a.items.len() + b.items.len()) * size_of::<Value>())?;
            return Value::list([a.items.as_slice(), &b.items].concat(), meter);
        }
        (Binary::Add, Value::Tuple(a), Value::Tuple(b)) => {
            meter.fits((a.items.len() + b.items.len()) * size_of::<Value>())?;
            return Value::tuple([a.items.as_slice(), &b.items].concat(), meter);
        }
        (Binary::Mul, Value::Str(_) | Value::List(_) | Value::Tuple(_), n) if n.as_int().is_some() => {
            return repeat(left, n.as_int().unwrap_or(0), meter);
        }
        (Binary::Mul, n, Value::Str(_) | Value::List(_) | Value::Tuple(_)) if n.as_int().is_some() => {
            return repeat(right, n.as_int().unwrap_or(0), meter);
        }
        _ => {}
    }
    let numbers = (left.as_int(), right.as_int(), left.as_float(), right.as_float());
    match numbers {
        (Some(a), Some(b), ..) => whole(operator, a, b),
        (_, _, Some(a), Some(b)) => float(operator, a, b).map(Value::Float),
        _ => Err(Fault::template(format!("a {} and a {} cannot be computed with", left.kind(), right.kind()))),
    }
}

/// The string, escaped unless it is markup.
fn as_markup(text: &Text, meter: &Meter<'_>) -> Run<String> {
    if text.is_markup { Ok(text.to_string()) } else { escape_html(text, meter) }
}

fn repeat(value: &Value, times: i64, meter: &Meter<'_>) -> Run<Value> {
    let times = usize::try_from(times).unwrap_or(0);
    let too_long = || Fault::limit("it takes too much memory");
    match value {
        Value::Str(text) => {
            meter.fits(text.len().checked_mul(times).ok_or_else(too_long)?)?;
            Value::text_like(text.repeat(times), text.is_markup, meter)
        }
        Value::List(items) | Value::Tuple(items) => {
            let bytes = items.items.len().checked_mul(times).and_then(|n| n.checked_mul(size_of::<Value>()));
            meter.fits(bytes.ok_or_else(too_long)?)?;
            let times = if items.items.is_empty() { 0 } else { times };
            let repeated = std::iter::repeat_n(&items.items, times).flatten().cloned().collect();
            match value {
                Value::Tuple(_) => Value::tuple(repeated, meter),
                _ => Value::list(repeated, meter),
            }
        }
        other => Err(other.refuse("repeated")),
    }
}

fn whole(operator: Binary, a: i64, b: i64) -> Run<Value> {
    let by_zero = || Fault::template("division by zero");
    let result = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div if b == 0 => return Err(by_zero()),
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv | Binary::Rem if b == 0 => return Err(by_zero()),
        Binary::FloorDiv => {
            let below = i64::from(a.wrapping_rem(b) != 0 && (a < 0) != (b < 0));
            a.checked_div(b).map(|quotient| quotient - below)
        }
        Binary::Rem => {
            let rest = a.wrapping_rem(b);
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        Binary::Pow if b < 0 => return float(operator, a as f64, b as f64).map(Value::Float),
        Binary::Pow => match (a, u32::try_from(b)) {
            (0 | 1, _) if b > 0 => Some(a),
            (-1, _) => Some(if b % 2 == 0 { 1 } else { -1 }),
            (_, Ok(b)) => a.checked_pow(b),
            _ => None,
        },
    };
    result.map(Value::Int).ok_or_else(too_large)
}

fn float(operator: Binary, a: f64, b: f64) -> Run<f64> {
    if b == 0.0 && matches!(operator, Binary::Div | Binary::FloorDiv | Binary::Rem)
        || (operator == Binary::Pow && a == 0.0 && b < 0.0)
    {
        return Err(Fault::template("division by zero"));
    }
    Ok(match operator {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::FloorDiv => (a / b).floor(),
        Binary::Rem => {
            let rest = a % b;
            match rest {
                0.0 => 0f64.copysign(b),
                rest if (rest < 0.0) != (b < 0.0) => rest + b,
                rest => rest,
            }
        }
        Binary::Pow if a < 0.0 && b.is_finite() && b.fract() != 0.0 => {
            return Err(Fault::template("the power of a negative number is complex, which is not supported"));
        }
        Binary::Pow => a.powf(b),
    })
}

fn too_large() -> Fault {
    Fault::template("an integer exceeds 64 bits, which is not supported")
}
