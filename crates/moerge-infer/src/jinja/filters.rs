//! Jinja's filters, with transformers' `tojson`.

mod lists;

use std::cmp::Ordering;

use super::{
    Fault,
    arguments::{Args, Optional as _},
    interpreter::Interpreter,
    json::tojson,
    meter::Meter,
    methods::{BY_CHARACTER, items},
    numbers,
    strings::{capitalize, is_space, replace, strip, title_char},
    text_filters,
    value::{Value, escape_html},
};

use lists::{join, reverse_stably, sort};

type Run<T> = Result<T, Fault>;

/// The names of all filters.
pub const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

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
                for (key, _) in &mut keyed {
                    // Jinja compares lists, which skips equal items, so undefined values can be sorted.
                    *key = Value::list(vec![key.clone()], &self.meter)?;
                }
                sort(&mut keyed, &self.meter)?;
                if reverse.truth() {
                    reverse_stably(&mut keyed, &self.meter)?;
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
                let [attribute, default, case_sensitive] =
                    args.bind(name, ["attribute", "default", "case_sensitive"])?;
                let mut keyed = self.keyed_or(&value, &attribute, case_sensitive.truth(), default.as_ref())?;
                sort(&mut keyed, &self.meter)?;
                // The key to compare, the key to show, and the items.
                let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
                for (key, item) in keyed {
                    match groups.last_mut() {
                        Some((known, _, group)) if known.equals(&key, &self.meter)? => group.push(item),
                        _ => {
                            // A group shows the key of its first item.
                            let shown = self.path(&item, attribute.as_ref().unwrap_or(&Value::None))?;
                            let missing = matches!(shown, Value::Undefined(_));
                            let shown = default.clone().filter(|_| missing).unwrap_or(shown);
                            groups.push((key, shown, vec![item]));
                        }
                    }
                }
                let group = |(_, shown, items): (Value, Value, Vec<Value>)| {
                    Value::group(shown, Value::list(items, &self.meter)?, &self.meter)
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
}

/// Filters that do not call others.
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
            Value::text_like(strip(&text, chars, true, true), value.is_markup(), meter)
        }
        "string" => Value::text_like(printed()?, value.is_markup(), meter),
        "lower" => Value::text_like(printed()?.to_lowercase(), value.is_markup(), meter),
        "upper" => Value::text_like(printed()?.to_uppercase(), value.is_markup(), meter),
        "capitalize" => Value::text_like(capitalize(&printed()?), value.is_markup(), meter),
        "title" => {
            let text = printed()?;
            meter.work(BY_CHARACTER * text.len())?;
            Value::text(title(&text), meter)
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let count = count.int("a count")?.and_then(|n| usize::try_from(n).ok());
            let (Some(old), Some(new)) = (old, new) else { return Err(Fault::template("`replace` needs two strings")) };
            Value::text(replace(&printed()?, &old.print(meter)?, &new.print(meter)?, count, meter)?, meter)
        }
        "first" | "last" => {
            let items = value.iterate(meter)?;
            let item = if name == "first" { items.items.first() } else { items.items.last() };
            Ok(item.cloned().unwrap_or_else(|| Value::undefined(&format!("the {name} of nothing"))))
        }
        "list" => Value::list(value.iterate(meter)?.items.clone(), meter),
        "reverse" => match &value {
            Value::Str(text) => Value::text_like(text.chars().rev().collect::<String>(), text.is_markup, meter),
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
                reverse_stably(&mut keyed, meter)?;
            }
            Value::list(keyed.into_iter().map(|(_, pair)| pair).collect(), meter)
        }
        "int" => numbers::int(&value, args),
        "float" => numbers::float(&value, args),
        "round" => numbers::round(&value, args),
        "indent" => text_filters::indent(&value, args, meter),
        "truncate" => text_filters::truncate(&value, args, meter),
        "wordwrap" => text_filters::wordwrap(&printed()?, args, meter),
        "filesizeformat" => text_filters::file_size(&value, args, meter),
        "xmlattr" => text_filters::xml_attributes(&value, args, meter),
        "urlencode" => text_filters::url_encode(&value, meter),
        "striptags" => text_filters::strip_tags(&printed()?, meter),
        "escape" | "e" if value.is_markup() => Ok(value),
        "escape" | "e" | "forceescape" => Value::text_like(escape_html(&printed()?, meter)?, true, meter),
        "safe" => Value::text_like(printed()?, true, meter),
        // Python's `pprint` breaks lines and sorts keys.
        "pprint" if matches!(value, Value::Dict(_) | Value::List(_) | Value::Tuple(_)) => {
            Err(Fault::template("`pprint` of lists and dictionaries is not supported; use `tojson`"))
        }
        "pprint" => Value::text(value.repr(meter)?, meter),
        "abs" => match &value {
            Value::Float(x) => Ok(Value::Float(x.abs())),
            other => other.as_int().and_then(i64::checked_abs).map(Value::Int).ok_or_else(|| other.refuse("a number")),
        },
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let width = Args { positional: vec![width.unwrap_or(Value::Int(80))], named: Vec::new() };
            super::methods::call(&Value::text_like(printed()?, value.is_markup(), meter)?, "center", width, meter)
        }
        "format" => {
            let values = if args.named.is_empty() {
                Value::tuple(args.positional, meter)?
            } else {
                let pair = |(name, value): (String, Value)| Ok((Value::text(name, meter)?, value));
                Value::dict(args.named.into_iter().map(pair).collect::<Run<_>>()?, meter)?
            };
            let markup = value.is_markup();
            Value::text_like(super::format::percent(&printed()?, &values, markup, meter)?, markup, meter)
        }
        "wordcount" => Ok(Value::Int(
            printed()?.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).count() as i64,
        )),
        "slice" => {
            let [slices, fill] = args.bind(name, ["slices", "fill_with"])?;
            let slices = slices.int("a number of slices")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            let slices = slices.ok_or_else(|| Fault::template("`slice` needs a number of slices"))?;
            meter.memory(slices.saturating_mul(size_of::<Value>() + 64))?;
            let items = value.iterate(meter)?;
            let (each, more) = (items.items.len() / slices, items.items.len() % slices);
            let fill = fill.filter(|fill| !matches!(fill, Value::None) && more > 0);
            let mut rest = items.items.as_slice();
            let mut sliced = Vec::new();
            for index in 0..slices {
                let (slice, after) = rest.split_at(each + usize::from(index < more));
                rest = after;
                let filled = fill.clone().filter(|_| index >= more);
                sliced.push(Value::list(slice.iter().cloned().chain(filled).collect(), meter)?);
            }
            Value::list(sliced, meter)
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
        _ => Err(Fault::template(format!("there is no filter `{}`", moerge_core::suggest::shorten(name)))),
    }
}

fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut at_start = true;
    for c in text.chars() {
        let separates = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
        if at_start {
            titled.push_str(&title_char(c))
        } else {
            titled.extend(c.to_lowercase())
        }
        at_start = separates;
    }
    titled
}
