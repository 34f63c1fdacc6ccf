//! A case of `cases.json` as a method.

use moerge_core::ops::{Method, MethodSpec, ParameterSpec, Scope, Values};
use serde_json::Value;

/// The name of the tensor that is made.
const NAME: &str = "w";

/// The method `name` for `models` inputs, of which the first is a base if `base`. What `parameters` leaves out has the
/// default of recipes.
pub fn method(name: &str, models: usize, base: bool, parameters: &Value) -> Method {
    let spec = MethodSpec::named(name).unwrap();
    let given = |value: &Value| match value {
        Value::Array(list) => list.iter().map(|x| x.as_f64().unwrap()).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    };
    let default = |parameter: &ParameterSpec| {
        let count = if parameter.scope == Scope::Model { models - usize::from(base) } else { 1 };
        vec![parameter.default.unwrap(); count]
    };
    let value = |parameter: &ParameterSpec| parameters.get(parameter.name).map_or_else(|| default(parameter), given);
    let values = spec.parameters.iter().map(value).collect();
    spec.method(&Values { tensor: NAME.into(), base, values })
}
