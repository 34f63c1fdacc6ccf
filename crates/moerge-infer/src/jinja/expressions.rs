//! Evaluates expressions: names, attributes, items, calls and operators.

use std::rc::Rc;

use super::{
    Fault,
    arguments::Args,
    functions,
    interpreter::Interpreter,
    methods,
    operators::{binary, negative},
    syntax::{Arguments, Comparison, Expr, Literal},
    value::{LoopState, Value, View},
};

type Run<T> = Result<T, Fault>;

impl<'t> Interpreter<'t, '_> {
    pub fn evaluate(&mut self, expression: &'t Expr) -> Run<Value> {
        self.deeper(|this| this.evaluate_here(expression))
    }

    fn evaluate_here(&mut self, expression: &'t Expr) -> Run<Value> {
        Ok(match expression {
            Expr::Literal(literal) => self.literal(literal)?,
            Expr::Name(name) => self.lookup(name)?,
            Expr::List(items) => {
                let items = items.iter().map(|item| self.evaluate(item)).collect::<Run<_>>()?;
                Value::list(items, &self.meter)?
            }
            Expr::Tuple(items) => {
                let items = items.iter().map(|item| self.evaluate(item)).collect::<Run<_>>()?;
                Value::tuple(items, &self.meter)?
            }
            Expr::Dict(pairs) => {
                let pairs =
                    pairs.iter().map(|(k, v)| Ok((self.evaluate(k)?, self.evaluate(v)?))).collect::<Run<_>>()?;
                Value::dict(pairs, &self.meter)?
            }
            Expr::Attribute(value, name) => {
                let value = self.evaluate(value)?;
                self.attribute(&value, name)?
            }
            Expr::Item(value, key) => {
                let (value, key) = (self.evaluate(value)?, self.evaluate(key)?);
                self.item(&value, &key)?
            }
            Expr::Slice(value, bounds) => self.slice(value, bounds)?,
            Expr::Call(callee, arguments) => self.call(callee, arguments, None)?,
            Expr::Filter(operand, name, arguments) => {
                let operand = operand.as_ref().ok_or_else(|| Fault::template("a filter without a value"))?;
                let value = self.evaluate(operand)?;
                let arguments = self.arguments(arguments)?;
                self.filter(name, value, arguments)?
            }
            Expr::Test(operand, name, arguments) => {
                let value = self.evaluate(operand)?;
                let arguments = self.arguments(arguments)?;
                Value::Bool(self.test(name, &value, arguments)?)
            }
            Expr::Not(value) => Value::Bool(!self.evaluate(value)?.is_true()),
            Expr::Negative(value) => negative(&self.evaluate(value)?)?,
            Expr::Positive(value) => match self.evaluate(value)? {
                value @ (Value::Int(_) | Value::Float(_)) => value,
                Value::Bool(b) => Value::Int(i64::from(b)),
                other => return Err(other.refuse("a number")),
            },
            Expr::And(left, right) => match self.evaluate(left)? {
                left if left.is_true() => self.evaluate(right)?,
                left => left,
            },
            Expr::Or(left, right) => match self.evaluate(left)? {
                left if left.is_true() => left,
                _ => self.evaluate(right)?,
            },
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                binary(*operator, &left, &right, &self.meter)?
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    let part = self.evaluate(part)?.print(&self.meter)?;
                    self.meter.fits(text.len() + part.len())?;
                    text.push_str(&part);
                }
                Value::text(text, &self.meter)?
            }
            Expr::Compare(first, rest) => self.compare(first, rest)?,
            Expr::Conditional { condition, then, otherwise } => {
                match (self.evaluate(condition)?.is_true(), otherwise) {
                    (true, _) => self.evaluate(then)?,
                    (false, Some(otherwise)) => self.evaluate(otherwise)?,
                    (false, None) => Value::undefined("the value of an `if` without `else`"),
                }
            }
        })
    }

    fn literal(&self, literal: &Literal) -> Run<Value> {
        Ok(match literal {
            Literal::None => Value::None,
            Literal::Bool(b) => Value::Bool(*b),
            Literal::Int(n) => Value::Int(*n),
            Literal::Float(x) => Value::Float(*x),
            Literal::Str(text) => Value::text(text, &self.meter)?,
        })
    }

    fn compare(&mut self, first: &'t Expr, rest: &'t [(Comparison, Expr)]) -> Run<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right)?;
            let order = |ok: fn(std::cmp::Ordering) -> bool| {
                Ok::<bool, Fault>(left.compare(&right, &self.meter)?.is_some_and(ok))
            };
            let holds = match comparison {
                Comparison::Eq => left.equals(&right, &self.meter)?,
                Comparison::Ne => !left.equals(&right, &self.meter)?,
                Comparison::Lt => order(std::cmp::Ordering::is_lt)?,
                Comparison::Le => order(std::cmp::Ordering::is_le)?,
                Comparison::Gt => order(std::cmp::Ordering::is_gt)?,
                Comparison::Ge => order(std::cmp::Ordering::is_ge)?,
                Comparison::In => right.contains(&left, &self.meter)?,
                Comparison::NotIn => !right.contains(&left, &self.meter)?,
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// `value.name`: the attribute, or the item with that key.
    pub fn attribute(&mut self, value: &Value, name: &str) -> Run<Value> {
        match value {
            Value::Undefined(_) => return Err(value.refuse("asked for attributes")),
            Value::Namespace(number) => {
                let found =
                    self.namespaces.get(*number).into_iter().flatten().find(|(known, _)| known.as_ref() == name);
                return Ok(found.map_or_else(|| Value::undefined(name), |(_, value)| value.clone()));
            }
            Value::Loop(state) => return self.loop_attribute(state, name),
            Value::Macro(number) => return self.macro_attribute(*number, name),
            Value::Tuple(items) if items.view == Some(View::Group) && matches!(name, "grouper" | "list") => {
                return Ok(items.items[usize::from(name == "list")].clone());
            }
            _ => {}
        }
        if let Some(method) = methods::method(value, name) {
            return Ok(Value::Method(method));
        }
        match value {
            Value::Dict(dict) => {
                Ok(dict.get_str(name, &self.meter)?.cloned().unwrap_or_else(|| Value::undefined(name)))
            }
            _ => Ok(Value::undefined(name)),
        }
    }

    /// `value[key]`.
    pub fn item(&mut self, value: &Value, key: &Value) -> Run<Value> {
        match (value, key) {
            (Value::Undefined(_), _) => Err(value.refuse("asked for items")),
            (Value::Dict(dict), key) => match (dict.get(key, &self.meter)?, key) {
                (Some(value), _) => Ok(value.clone()),
                (None, Value::Str(name)) => self.attribute(value, &name.clone()),
                (None, key) => Ok(Value::undefined(&key.print(&self.meter)?)),
            },
            (Value::List(items) | Value::Tuple(items), key) if key.as_int().is_some() => {
                let at = key.as_int().and_then(|at| position(at, items.items.len()));
                Ok(at.map_or_else(|| Value::undefined("an item of a list"), |at| items.items[at].clone()))
            }
            (Value::Str(text), key) if key.as_int().is_some() => {
                self.meter.work(text.len())?;
                let at = key.as_int().and_then(|at| position(at, text.chars().count()));
                match at.and_then(|at| text.chars().nth(at)) {
                    Some(c) => Value::text_like(c.encode_utf8(&mut [0; 4]), text.is_markup, &self.meter),
                    None => Ok(Value::undefined("a character of a string")),
                }
            }
            (value, Value::Str(name)) => self.attribute(value, &name.clone()),
            (_, key) => Ok(Value::undefined(&key.print(&self.meter)?)),
        }
    }

    fn slice(&mut self, value: &'t Expr, bounds: &'t [Option<Box<Expr>>; 3]) -> Run<Value> {
        let value = self.evaluate(value)?;
        let mut evaluated = [None; 3];
        for (slot, bound) in evaluated.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *slot = match self.evaluate(bound)? {
                    Value::None => None,
                    bound => Some(bound.as_int().ok_or_else(|| bound.refuse("a bound of a slice"))?),
                };
            }
        }
        match &value {
            Value::Undefined(_) => Err(value.refuse("sliced")),
            Value::Str(text) => {
                self.meter.memory(4 * text.len())?;
                let chars: Vec<char> = text.chars().collect();
                let picked = slice_places(slice_bounds(chars.len(), evaluated)?).map(|at| chars[at]);
                Value::text_like(picked.collect::<String>(), text.is_markup, &self.meter)
            }
            Value::List(items) | Value::Tuple(items) => {
                let bounds = slice_bounds(items.items.len(), evaluated)?;
                let places = slice_places(bounds);
                let picked = places.map(|at| items.items[at].clone()).collect();
                match (&value, items.view) {
                    (_, Some(View::Range([first, _, step]))) => {
                        let at = |place: i64| first.wrapping_add(place.wrapping_mul(step));
                        let range = [at(bounds[0]), at(bounds[1]), step.wrapping_mul(bounds[2])];
                        Value::view(picked, View::Range(range), &self.meter)
                    }
                    (Value::Tuple(_), _) => Value::tuple(picked, &self.meter),
                    _ => Value::list(picked, &self.meter),
                }
            }
            other => Err(other.refuse("sliced")),
        }
    }

    pub fn call(&mut self, callee: &'t Expr, arguments: &'t Arguments, caller: Option<Value>) -> Run<Value> {
        if let Expr::Attribute(receiver, name) = callee {
            let receiver = self.evaluate(receiver)?;
            if methods::method(&receiver, name).is_some() {
                let args = self.arguments(arguments)?;
                return methods::call(&receiver, name, args, &self.meter);
            }
            if let (Value::Loop(state), "changed") = (&receiver, name.as_str()) {
                let args = self.arguments(arguments)?.positional;
                return self.changed(state, args);
            }
            if let (Value::Loop(state), "cycle") = (&receiver, name.as_str()) {
                let args = self.arguments(arguments)?.positional;
                let at = state.index.checked_rem(args.len());
                let at = at.ok_or_else(|| Fault::template("`loop.cycle` needs an argument"))?;
                return Ok(args[at].clone());
            }
            let callee = self.attribute(&receiver, name)?;
            let args = self.arguments(arguments)?;
            return self.call_value(&callee, args, caller);
        }
        let callee = self.evaluate(callee)?;
        let args = self.arguments(arguments)?;
        self.call_value(&callee, args, caller)
    }

    fn call_value(&mut self, callee: &Value, mut args: Args, caller: Option<Value>) -> Run<Value> {
        match callee {
            Value::Macro(number) => self.call_macro(*number, args, caller),
            Value::Function("namespace") => {
                let mut entries = match args.positional.pop() {
                    None => Vec::new(),
                    Some(Value::Dict(dict)) if args.positional.is_empty() => dict.entries.clone(),
                    Some(other) => return Err(other.refuse("made a namespace of")),
                };
                for (name, value) in args.named {
                    entries.push((Value::text(name, &self.meter)?, value));
                }
                self.meter.memory(64)?;
                self.namespaces.push(Vec::new());
                let number = self.namespaces.len() - 1;
                for (name, value) in entries {
                    let name = name.as_str().ok_or_else(|| name.refuse("the name of an attribute"))?;
                    self.set_in_namespace(number, name, value)?;
                }
                Ok(Value::Namespace(number))
            }
            Value::Function(name) => functions::call(name, args, &self.meter),
            Value::Loop(state) => {
                let state = Rc::clone(state);
                let [items] = args.bind("loop", ["iterable"])?;
                let items = items.ok_or_else(|| Fault::template("`loop(...)` needs what it iterates over"))?;
                self.recurse(&state, &items)
            }
            Value::Method(name) => Err(Fault::template(format!("the method `{name}` cannot be stored, only called"))),
            other => Err(other.refuse("called")),
        }
    }

    /// `loop.changed(...)`: whether the values differ from those of the last call.
    fn changed(&mut self, state: &LoopState, values: Vec<Value>) -> Run<Value> {
        self.meter.memory(64 + values.len() * size_of::<Value>())?;
        self.meter.work(16 * self.changed.len())?;
        let known = self.changed.iter().position(|(number, _)| *number == state.number);
        let Some(at) = known else {
            self.changed.push((state.number, values));
            return Ok(Value::Bool(true));
        };
        let before = std::mem::replace(&mut self.changed[at].1, values);
        let after = &self.changed[at].1;
        let mut equal = before.len() == after.len();
        for (before, after) in before.iter().zip(after) {
            equal = equal && before.equals(after, &self.meter)?;
        }
        Ok(Value::Bool(!equal))
    }

    fn loop_attribute(&mut self, state: &LoopState, name: &str) -> Run<Value> {
        let (index, length) = (state.index, state.items.items.len());
        let int = |n: usize| Value::Int(n as i64);
        let neighbour = |at: Option<usize>, name| {
            at.and_then(|at| state.items.items.get(at)).cloned().unwrap_or_else(|| Value::undefined(name))
        };
        Ok(match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(length - index),
            "revindex0" => int(length - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == length),
            "length" => int(length),
            "depth" => int(state.level + 1),
            "depth0" => int(state.level),
            "previtem" => neighbour(index.checked_sub(1), "loop.previtem"),
            "nextitem" => neighbour(Some(index + 1), "loop.nextitem"),
            name => Value::undefined(name),
        })
    }
}

/// Resolves a Python index, which may be negative.
fn position(index: i64, length: usize) -> Option<usize> {
    let length_i = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length_i)? } else { index };
    usize::try_from(index).ok().filter(|at| *at < length)
}

/// Start, stop and step for a sequence of `length`, as Python's `slice.indices`.
fn slice_bounds(length: usize, [start, stop, step]: [Option<i64>; 3]) -> Run<[i64; 3]> {
    let length = length as i64;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::template("the step of a slice cannot be 0"));
    }
    let clamp = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        if step > 0 { bound.clamp(0, length) } else { bound.clamp(-1, length - 1) }
    };
    let start = start.map_or(if step > 0 { 0 } else { length - 1 }, clamp);
    let stop = stop.map_or(if step > 0 { length } else { -1 }, clamp);
    Ok([start, stop, step])
}

/// The indices from `start` up to, but excluding, `stop`.
fn slice_places([start, stop, step]: [i64; 3]) -> impl Iterator<Item = usize> {
    let mut at = start;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < stop } else { at > stop };
        let this = at;
        at = at.saturating_add(step);
        inside.then_some(this as usize)
    })
}
