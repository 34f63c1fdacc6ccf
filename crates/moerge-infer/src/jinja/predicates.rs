//! Jinja's tests, used with `is`.

use std::cmp::Ordering;

use super::{Fault, arguments::Args, interpreter::Interpreter, value::Value};

/// The names of all tests.
const NAMES: [&str; 39] = [
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "integer",
    "float",
    "number",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "callable",
    "odd",
    "even",
    "divisibleby",
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "in",
    "sameas",
    "lower",
    "upper",
    "escaped",
    "filter",
    "test",
];

impl Interpreter<'_, '_> {
    /// `value is name(args)`.
    pub fn test(&mut self, name: &str, value: &Value, args: Args) -> Result<bool, Fault> {
        let meter = &self.meter;
        let operand = |args: Args| -> Result<Value, Fault> {
            let [other] = args.bind(name, ["other"])?;
            other.ok_or_else(|| Fault::template(format!("the test `{name}` needs a value")))
        };
        let divides = |n: i64| -> Result<bool, Fault> {
            if let (Value::Float(x), true) = (value, n != 0) {
                return Ok(x % n as f64 == 0.0);
            }
            let whole = value.as_int().ok_or_else(|| value.refuse("divided"))?;
            whole.checked_rem(n).map(|rest| rest == 0).ok_or_else(|| Fault::template("division by zero"))
        };
        let ordered =
            |args: Args, holds: fn(Ordering) -> bool| Ok(value.compare(&operand(args)?, meter)?.is_some_and(holds));
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_float().is_some(),
            "string" => value.as_str().is_some(),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => {
                matches!(value, Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Undefined(_))
            }
            "iterable" => {
                let items = matches!(value, Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_));
                items || matches!(value, Value::Undefined(_) | Value::Loop(_))
            }
            "callable" => {
                // Python's `callable(Undefined)` is true.
                let function = matches!(value, Value::Macro(_) | Value::Function(_) | Value::Method(_));
                function || matches!(value, Value::Loop(_) | Value::Undefined(_))
            }
            "odd" => match value {
                Value::Float(x) => x.rem_euclid(2.0) == 1.0,
                _ => !divides(2)?,
            },
            "even" => divides(2)?,
            "divisibleby" => {
                let n = operand(args)?;
                divides(n.as_int().ok_or_else(|| n.refuse("a divisor"))?)?
            }
            "eq" | "equalto" | "==" => value.equals(&operand(args)?, meter)?,
            "ne" | "!=" => !value.equals(&operand(args)?, meter)?,
            "lt" | "lessthan" | "<" => ordered(args, Ordering::is_lt)?,
            "le" | "<=" => ordered(args, Ordering::is_le)?,
            "gt" | "greaterthan" | ">" => ordered(args, Ordering::is_gt)?,
            "ge" | ">=" => ordered(args, Ordering::is_ge)?,
            "in" => operand(args)?.contains(value, meter)?,
            "sameas" => {
                let other = operand(args)?;
                value.kind() == other.kind() && value.equals(&other, meter)?
            }
            "lower" | "upper" => {
                let text = value.print(meter)?;
                let (lower, upper) = (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
                if name == "lower" { lower && !upper } else { upper && !lower }
            }
            "escaped" => value.is_markup(),
            "filter" => value.as_str().is_some_and(|name| super::filters::NAMES.contains(&name)),
            "test" => value.as_str().is_some_and(|name| NAMES.contains(&name)),
            _ => return Err(Fault::template(format!("there is no test `{}`", moerge_core::suggest::shorten(name)))),
        })
    }
}
