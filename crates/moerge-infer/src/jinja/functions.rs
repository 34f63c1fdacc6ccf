//! Global functions of Jinja and transformers.

use super::{
    Fault,
    arguments::{Args, Optional as _},
    meter::Meter,
    strftime::strftime_now,
    value::{Value, View},
};

/// Maximum length of a `range`, as in Jinja's sandbox.
const MAX_RANGE: u64 = 100_000;

/// Looks up a function by name.
pub fn global(name: &str) -> Option<&'static str> {
    const NAMES: [&str; 5] = ["namespace", "range", "dict", "raise_exception", "strftime_now"];
    NAMES.into_iter().find(|known| *known == name)
}

pub fn call(name: &str, args: Args, meter: &Meter<'_>) -> Result<Value, Fault> {
    match name {
        "range" => {
            let [first, second, step] = args.bind("range", ["start", "stop", "step"])?;
            let int = |value: &Option<Value>| {
                value.as_ref().map(|v| v.as_int().ok_or_else(|| v.refuse("a bound of `range`"))).transpose()
            };
            let (first, second, step) = (int(&first)?, int(&second)?, int(&step)?.unwrap_or(1));
            let first = first.ok_or_else(|| Fault::template("`range` needs an argument"))?;
            let (start, stop) = second.map_or((0, first), |second| (first, second));
            range(start, stop, step, meter)
        }
        "dict" => {
            let mut pairs = match args.positional.as_slice() {
                [] => Vec::new(),
                [Value::Dict(dict)] => dict.entries.clone(),
                [pairs] => {
                    let pairs = pairs.iterate(meter)?;
                    let pair = |pair: &Value| match pair.iterate(meter)?.items.as_slice() {
                        [key, value] => Ok((key.clone(), value.clone())),
                        _ => Err(Fault::template("`dict` takes pairs")),
                    };
                    pairs.items.iter().map(pair).collect::<Result<_, Fault>>()?
                }
                _ => return Err(Fault::template("`dict` takes one argument")),
            };
            for (name, value) in args.named {
                pairs.push((Value::text(name, meter)?, value));
            }
            Value::dict(pairs, meter)
        }
        "raise_exception" => {
            let [message] = args.bind(name, ["message"])?;
            Err(Fault::raised(message.unwrap_or(Value::None).print(meter)?))
        }
        "strftime_now" => {
            let [format] = args.bind(name, ["format"])?;
            let format = format.text("a date's format")?.unwrap_or_default().to_owned();
            meter.fits(8 * format.len())?;
            Value::text(strftime_now(&format)?, meter)
        }
        _ => Err(Fault::template(format!("there is no function `{name}`"))),
    }
}

fn range(start: i64, stop: i64, step: i64, meter: &Meter<'_>) -> Result<Value, Fault> {
    if step == 0 {
        return Err(Fault::template("the step of `range` cannot be 0"));
    }
    let (low, high) = if step > 0 { (start, stop) } else { (stop, start) };
    let items = if high > low { high.abs_diff(low).div_ceil(step.unsigned_abs()) } else { 0 };
    if items > MAX_RANGE {
        return Err(Fault::limit(format!("a `range` has more than {MAX_RANGE} items")));
    }
    let item = |index: u64| Value::Int(start.wrapping_add(step.wrapping_mul(index as i64)));
    Value::view((0..items).map(item).collect(), View::Range([start, stop, step]), meter)
}
