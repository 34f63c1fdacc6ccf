//! Jinja's filters, with transformers' `tojson`.

use std::cmp::Ordering;

use super::{
    Fault,
    arguments::{Args, Optional as _},
    interpreter::Interpreter,
    json::tojson,
    meter::Meter,
    methods::{capitalize, items, lines, replace, strip},
    value::Value,
};

type Run<T> = Result<T, Fault>;

impl Interpreter<'_, '_> {
    /// `value | name(args)`.
    pub fn filter(&mut self, name: &str, value: Value, args: Args) -> Run<Value> {
        match name {
            "map" | "select" | "reject" | "selectattr" | "rejectattr" => {
                return self.deeper(|this| this.over(name, &value, args));
            }
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    args.bind(name, ["reverse", "case_sensitive", "attribute"])?;
                let mut keyed = self.keyed(&value, &attribute, case_sensitive.truth())?;
                sort(&mut keyed, &self.meter)?;
                if reverse.truth() {
                    // Equal ones keep their order, as Python's `sort(reverse=True)` keeps it.
                    keyed.reverse();
                    let mut start = 0;
                    while start < keyed.len() {
                        let mut end = start + 1;
                        while end < keyed.len() && keyed[end].0.equals(&keyed[start].0, &self.meter)? {
                            end += 1;
                        }
                        keyed[start..end].reverse();
                        start = end;
                    }
                }
                return Value::list(keyed.into_iter().map(|(_, item)| item).collect(), &self.meter);
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
                let mut keyed = self.keyed(&value, &attribute, case_sensitive.truth())?.into_iter();
                let Some(mut best) = keyed.next() else { return Ok(Value::undefined(name)) };
                for candidate in keyed {
                    let order = candidate.0.compare(&best.0, &self.meter)?;
                    if order == Some(if name == "min" { Ordering::Less } else { Ordering::Greater }) {
                        best = candidate;
                    }
                }
                return Ok(best.1);
            }
            "unique" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
                let mut kept: Vec<(Value, Value)> = Vec::new();
                for (key, item) in self.keyed(&value, &attribute, case_sensitive.truth())? {
                    let mut known = false;
                    for (other, _) in &kept {
                        known |= other.equals(&key, &self.meter)?;
                    }
                    if !known {
                        kept.push((key, item));
                    }
                }
                return Value::list(kept.into_iter().map(|(_, item)| item).collect(), &self.meter);
            }
            "groupby" => {
                let [attribute, _default, case_sensitive] =
                    args.bind(name, ["attribute", "default", "case_sensitive"])?;
                let mut keyed = self.keyed(&value, &attribute, case_sensitive.truth())?;
                sort(&mut keyed, &self.meter)?;
                let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
                for (key, item) in keyed {
                    match groups.last_mut() {
                        Some((known, group)) if known.equals(&key, &self.meter)? => group.push(item),
                        _ => {
                            // The group is called what the first of its items is.
                            let shown = self.path(&item, attribute.as_ref().unwrap_or(&Value::None))?;
                            groups.push((shown, vec![item]));
                        }
                    }
                }
                let group = |(key, items): (Value, Vec<Value>)| {
                    Value::tuple(vec![key, Value::list(items, &self.meter)?], &self.meter)
                };
                return Value::list(groups.into_iter().map(group).collect::<Run<_>>()?, &self.meter);
            }
            "sum" | "join" => {
                let (attribute, rest) = if name == "sum" {
                    let [attribute, start] = args.bind(name, ["attribute", "start"])?;
                    (attribute, start)
                } else {
                    let [separator, attribute] = args.bind(name, ["d", "attribute"])?;
                    (attribute, separator)
                };
                let mut values = value.iterate(&self.meter)?.items.clone();
                if let Some(attribute) = attribute.filter(|attribute| !matches!(attribute, Value::None)) {
                    values = values.iter().map(|item| self.path(item, &attribute)).collect::<Run<_>>()?;
                }
                return if name == "sum" {
                    let add = |sum: Value, item| {
                        super::operators::binary(super::syntax::Binary::Add, &sum, item, &self.meter)
                    };
                    values.iter().try_fold(rest.unwrap_or(Value::Int(0)), add)
                } else {
                    join(&values, &rest.map_or(Ok(String::new()), |s| s.print(&self.meter))?, &self.meter)
                };
            }
            "attr" => {
                let [attribute] = args.bind(name, ["name"])?;
                return match (&value, attribute.text("a name")?) {
                    (Value::Namespace(_) | Value::Loop(_), Some(name)) => self.attribute(&value, name),
                    (_, name) => Ok(Value::undefined(name.unwrap_or_default())),
                };
            }
            _ => {}
        }
        simple(name, value, args, &self.meter)
    }

    /// `map`, `select` and their kin.
    fn over(&mut self, name: &str, value: &Value, mut args: Args) -> Run<Value> {
        // Whatever is false counts as empty here, `none` too.
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

    /// Follows `a.b.0`, or takes an item by its number.
    fn path(&mut self, item: &Value, path: &Value) -> Run<Value> {
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

    /// The items with what they are compared by.
    fn keyed(&mut self, value: &Value, attribute: &Option<Value>, case_sensitive: bool) -> Run<Vec<(Value, Value)>> {
        let items = value.iterate(&self.meter)?;
        self.meter.memory(items.items.len() * size_of::<(Value, Value)>())?;
        let mut keyed = Vec::with_capacity(items.items.len());
        for item in &items.items {
            let key = match attribute {
                Some(attribute) if !matches!(attribute, Value::None) => self.path(item, attribute)?,
                _ => item.clone(),
            };
            let key = match &key {
                Value::Str(text) if !case_sensitive => Value::text(text.to_lowercase(), &self.meter)?,
                _ => key,
            };
            keyed.push((key, item.clone()));
        }
        Ok(keyed)
    }
}

/// Sorts by the keys; those that cannot be compared are an error.
fn sort(keyed: &mut [(Value, Value)], meter: &Meter<'_>) -> Run<()> {
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

fn join(items: &[Value], separator: &str, meter: &Meter<'_>) -> Run<Value> {
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

/// Filters that need nothing but the value and their arguments.
fn simple(name: &str, value: Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let printed = || value.print(meter);
    match name {
        "tojson" => tojson(&value, args, meter),
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let replaced = matches!(value, Value::Undefined(_)) || boolean.truth() && !value.is_true();
            Ok(if replaced { default.map_or_else(|| Value::text("", meter), Ok)? } else { value })
        }
        "length" | "count" => {
            let length = match &value {
                Value::Undefined(_) => 0,
                Value::Str(text) => text.chars().count(),
                Value::List(items) | Value::Tuple(items) => items.items.len(),
                Value::Dict(dict) => dict.entries.len(),
                Value::Loop(state) => state.items.items.len(),
                other => return Err(other.refuse("counted")),
            };
            Ok(Value::Int(length as i64))
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            let (text, chars) = (printed()?, chars.text("the characters to trim")?);
            meter.work(text.len().saturating_mul(chars.map_or(0, str::len)))?;
            Value::text(strip(&text, chars, true, true), meter)
        }
        "string" => Value::text(printed()?, meter),
        "lower" => Value::text(printed()?.to_lowercase(), meter),
        "upper" => Value::text(printed()?.to_uppercase(), meter),
        "capitalize" => Value::text(capitalize(&printed()?), meter),
        "title" => Value::text(title(&printed()?), meter),
        "safe" => Ok(value),
        "escape" | "e" | "forceescape" => {
            let text = printed()?;
            meter.fits(6 * text.len())?;
            let escape = |c: char| match c {
                '&' => "&amp;".into(),
                '<' => "&lt;".into(),
                '>' => "&gt;".into(),
                '\'' => "&#39;".into(),
                '"' => "&#34;".into(),
                c => String::from(c),
            };
            Value::text(text.chars().map(escape).collect::<String>(), meter)
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let count = count.int("a count")?.and_then(|n| usize::try_from(n).ok());
            let (Some(old), Some(new)) = (old, new) else { return Err(Fault::template("`replace` needs two strings")) };
            replace(&printed()?, &old.print(meter)?, &new.print(meter)?, count, meter)
        }
        "first" | "last" => {
            let items = value.iterate(meter)?;
            let item = if name == "first" { items.items.first() } else { items.items.last() };
            Ok(item.cloned().unwrap_or_else(|| Value::undefined(&format!("the {name} of nothing"))))
        }
        "list" => Value::list(value.iterate(meter)?.items.clone(), meter),
        "reverse" => match &value {
            Value::Str(text) => Value::text(text.chars().rev().collect::<String>(), meter),
            other => Value::list(other.iterate(meter)?.items.iter().rev().cloned().collect(), meter),
        },
        "items" => {
            if matches!(value, Value::Undefined(_)) {
                Value::list(Vec::new(), meter)
            } else {
                items(&value, meter)
            }
        }
        "dictsort" => {
            let [case_sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
            let at = usize::from(by.text("`key` or `value`")? == Some("value"));
            let pairs = items(&value, meter)?.iterate(meter)?;
            let mut keyed = Vec::new();
            for pair in &pairs.items {
                let key = match &pair.iterate(meter)?.items[at] {
                    Value::Str(text) if !case_sensitive.truth() => Value::text(text.to_lowercase(), meter)?,
                    key => key.clone(),
                };
                keyed.push((key, pair.clone()));
            }
            sort(&mut keyed, meter)?;
            if reverse.truth() {
                keyed.reverse();
            }
            Value::list(keyed.into_iter().map(|(_, pair)| pair).collect(), meter)
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            let base = base.int("a base")?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
            let parsed = match &value {
                Value::Float(x) if x.is_finite() && x.abs() < 9e18 => Some(*x as i64),
                Value::Str(text) => {
                    let digits = text.trim().replace('_', "");
                    let whole = (2..=36).contains(&base).then(|| i64::from_str_radix(&digits, base).ok()).flatten();
                    whole.or_else(|| digits.parse::<f64>().ok().filter(|x| x.abs() < 9e18).map(|x| x as i64))
                }
                other => other.as_int(),
            };
            Ok(parsed.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
        }
        "float" => {
            let [default] = args.bind(name, ["default"])?;
            let parsed = match &value {
                Value::Str(text) => text.trim().parse().ok(),
                other => other.as_float(),
            };
            Ok(parsed.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "abs" => match &value {
            Value::Float(x) => Ok(Value::Float(x.abs())),
            other => other.as_int().and_then(i64::checked_abs).map(Value::Int).ok_or_else(|| other.refuse("a number")),
        },
        "round" => {
            let [precision, method] = args.bind(name, ["precision", "method"])?;
            let x = value.as_float().ok_or_else(|| value.refuse("rounded"))?;
            let scale = 10f64.powi(precision.int("a precision")?.unwrap_or(0).clamp(-300, 300) as i32);
            let rounded = match method.text("a method")?.unwrap_or("common") {
                "ceil" => (x * scale).ceil() / scale,
                "floor" => (x * scale).floor() / scale,
                _ => (x * scale).round_ties_even() / scale,
            };
            Ok(Value::Float(rounded))
        }
        "indent" => {
            let [width, first, blank] = args.bind(name, ["width", "first", "blank"])?;
            indent(&printed()?, width, first.truth(), blank.truth(), meter)
        }
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let width = Args { positional: vec![width.unwrap_or(Value::Int(80))], named: Vec::new() };
            super::methods::call(&Value::text(printed()?, meter)?, "center", width, meter)
        }
        "format" => {
            let values = if args.named.is_empty() {
                Value::tuple(args.positional, meter)?
            } else {
                let pair = |(name, value): (String, Value)| Ok((Value::text(name, meter)?, value));
                Value::dict(args.named.into_iter().map(pair).collect::<Run<_>>()?, meter)?
            };
            Value::text(super::format::percent(&printed()?, &values, meter)?, meter)
        }
        "wordcount" => Ok(Value::Int(
            printed()?.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count() as i64,
        )),
        "truncate" => {
            let [length, killwords, end, leeway] = args.bind(name, ["length", "killwords", "end", "leeway"])?;
            let length = usize::try_from(length.int("a length")?.unwrap_or(255)).unwrap_or(0);
            let leeway = usize::try_from(leeway.int("a leeway")?.unwrap_or(5)).unwrap_or(0);
            let (text, end) = (printed()?, end.text("an ending")?.unwrap_or("...").to_owned());
            if text.chars().count() <= length.saturating_add(leeway) {
                return Value::text(text, meter);
            }
            let cut: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
            let cut =
                if killwords.truth() { &cut } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words) };
            Value::text(format!("{cut}{end}"), meter)
        }
        "batch" => {
            let [size, fill] = args.bind(name, ["linecount", "fill_with"])?;
            let size = size.int("a size")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            let size = size.ok_or_else(|| Fault::template("`batch` needs a size"))?;
            let mut batches = Vec::new();
            for batch in value.iterate(meter)?.items.chunks(size) {
                let mut batch = batch.to_vec();
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                    meter.fits(size.saturating_mul(size_of::<Value>()))?;
                    batch.resize(size, fill.clone());
                }
                batches.push(Value::list(batch, meter)?);
            }
            Value::list(batches, meter)
        }
        "urlencode" => {
            let text = printed()?;
            meter.fits(3 * text.len())?;
            let mut encoded = String::new();
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
                    encoded.push(char::from(byte));
                } else {
                    encoded.push_str(&format!("%{byte:02X}"));
                }
            }
            Value::text(encoded, meter)
        }
        _ => Err(Fault::template(format!("there is no filter `{}`", moerge_core::suggest::shorten(name)))),
    }
}

fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        let separates = c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
        if at_start {
            titled.extend(c.to_uppercase())
        } else {
            titled.extend(c.to_lowercase())
        }
        at_start = separates;
    }
    titled
}

fn indent(text: &str, width: Option<Value>, first: bool, blank: bool, meter: &Meter<'_>) -> Run<Value> {
    let indent = match &width {
        Some(Value::Str(indent)) => indent.as_ref().to_owned(),
        width => {
            let width = usize::try_from(width.int("a width")?.unwrap_or(4)).unwrap_or(0);
            meter.fits(width)?;
            " ".repeat(width)
        }
    };
    let text = format!("{text}\n");
    let lines = lines(&text, false);
    meter.fits(lines.len().saturating_mul(indent.len() + 1).saturating_add(text.len()))?;
    let mut out = if first { indent.clone() } else { String::new() };
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
            out.push_str(if blank || !line.is_empty() { &indent } else { "" });
        }
        out.push_str(line);
    }
    Value::text(out, meter)
}
