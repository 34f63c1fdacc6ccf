//! Filters over the items of a list: map, select, sort, group and join.

use std::cmp::Ordering;

use super::Run;
use crate::jinja::{
    Fault,
    arguments::{Args, Optional as _},
    interpreter::Interpreter,
    meter::Meter,
    value::Value,
};

impl Interpreter<'_, '_> {
    /// `map`, `select`, `reject` and their `attr` variants.
    pub(super) fn over(&mut self, name: &str, value: &Value, mut args: Args) -> Run<Value> {
        // As in Jinja, any false value counts as empty, including `none`.
        let empty = Value::undefined(name);
        let items = if value.is_true() { value } else { &empty }.iterate(&self.meter)?;
        let mut kept = Vec::new();
        let by_attribute = name.ends_with("attr");
        if name == "map" && args.positional.is_empty() {
            let [attribute, default] = args.bind(name, ["attribute", "default"])?;
            let attribute = attribute.ok_or_else(|| Fault::template("`map` needs a filter or an attribute"))?;
            for item in &items.items {
                let found = self.path(item, &attribute)?;
                let missing = matches!(found, Value::Undefined(_));
                kept.push(default.clone().filter(|_| missing).unwrap_or(found));
            }
            return Value::list(kept, &self.meter);
        }
        let take = |args: &mut Args| if args.positional.is_empty() { None } else { Some(args.positional.remove(0)) };
        let attribute = if by_attribute { take(&mut args) } else { None };
        if by_attribute && attribute.is_none() {
            return Err(Fault::template(format!("`{name}` needs an attribute")));
        }
        let called = take(&mut args);
        let called = called.text("the name of a filter or test")?;
        for item in &items.items {
            let args = Args { positional: args.positional.clone(), named: args.named.clone() };
            self.meter.step()?;
            if name == "map" {
                kept.push(self.filter(called.unwrap_or_default(), item.clone(), args)?);
                continue;
            }
            let tested = match &attribute {
                Some(attribute) => self.path(item, attribute)?,
                None => item.clone(),
            };
            let holds = match called {
                Some(test) => self.test(test, &tested, args)?,
                None => tested.is_true(),
            };
            if holds == name.starts_with("select") {
                kept.push(item.clone());
            }
        }
        Value::list(kept, &self.meter)
    }

    /// Follows a path such as `a.b.0`, or takes an item by index.
    pub(super) fn path(&mut self, item: &Value, path: &Value) -> Run<Value> {
        let Some(path) = path.as_str() else { return self.item(item, path) };
        let mut value = item.clone();
        for part in path.split('.') {
            let key = match part.parse::<i64>() {
                Ok(number) => Value::Int(number),
                Err(_) => Value::text(part, &self.meter)?,
            };
            value = self.item(&value, &key)?;
        }
        Ok(value)
    }

    /// The items with their sort keys.
    pub(super) fn keyed(
        &mut self,
        value: &Value,
        attribute: &Option<Value>,
        case_sensitive: bool,
    ) -> Run<Vec<(Value, Value)>> {
        self.keyed_or(value, attribute, case_sensitive, None)
    }

    /// Like `keyed`, with a `default` for missing attributes.
    pub(super) fn keyed_or(
        &mut self,
        value: &Value,
        attribute: &Option<Value>,
        case_sensitive: bool,
        default: Option<&Value>,
    ) -> Run<Vec<(Value, Value)>> {
        let items = value.iterate(&self.meter)?;
        self.meter.memory(items.items.len() * size_of::<(Value, Value)>())?;
        let mut keyed = Vec::with_capacity(items.items.len());
        for item in &items.items {
            let folded = |key: Value, meter: &Meter<'_>| match &key {
                Value::Str(text) if !case_sensitive => Value::text(text.to_lowercase(), meter),
                _ => Ok(key),
            };
            let key = match attribute {
                // Several attributes, compared in order.
                Some(Value::Str(paths)) if paths.contains(',') => {
                    let mut keys = Vec::new();
                    for path in paths.split(',') {
                        let path = Value::text(path, &self.meter)?;
                        let key = self.path(item, &path)?;
                        keys.push(folded(key, &self.meter)?);
                    }
                    Value::list(keys, &self.meter)?
                }
                Some(attribute) if !matches!(attribute, Value::None) => self.path(item, attribute)?,
                _ => item.clone(),
            };
            let key = match default.filter(|_| matches!(key, Value::Undefined(_))) {
                Some(default) => default.clone(),
                None => key,
            };
            let key = folded(key, &self.meter)?;
            keyed.push((key, item.clone()));
        }
        Ok(keyed)
    }
}

/// Sorts by key. Keys that cannot be compared are an error.
pub(super) fn sort(keyed: &mut [(Value, Value)], meter: &Meter<'_>) -> Run<()> {
    let mut fault = None;
    keyed.sort_by(|a, b| match a.0.compare(&b.0, meter) {
        Ok(order) if fault.is_none() => order.unwrap_or(Ordering::Equal),
        Ok(_) => Ordering::Equal,
        Err(error) => {
            fault.get_or_insert(error);
            Ordering::Equal
        }
    });
    fault.map_or(Ok(()), Err)
}

/// Reverses a sorted list but keeps the order of equal keys, as Python's `sort(reverse=True)`.
pub(super) fn reverse_stably(keyed: &mut [(Value, Value)], meter: &Meter<'_>) -> Run<()> {
    keyed.reverse();
    let mut start = 0;
    while start < keyed.len() {
        let mut end = start + 1;
        while end < keyed.len() && keyed[end].0.equals(&keyed[start].0, meter)? {
            end += 1;
        }
        keyed[start..end].reverse();
        start = end;
    }
    Ok(())
}

pub(super) fn join(items: &[Value], separator: &str, meter: &Meter<'_>) -> Run<Value> {
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let item = item.print(meter)?;
        meter.fits(joined.len() + separator.len() + item.len())?;
        meter.work(separator.len())?;
        joined.push_str(if index > 0 { separator } else { "" });
        joined.push_str(&item);
    }
    Value::text(joined, meter)
}
