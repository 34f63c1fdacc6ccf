//! Executes statements: output, branches, loops, assignments, macros, and their scopes.
//!
//! Scopes, namespaces and macros refer to each other by index, so none can own itself and dropping them does not recurse.

use std::rc::Rc;

use super::{
    Fault,
    arguments::Args,
    meter::Meter,
    syntax::{Arguments, Expr, ForLoop, MacroBody, Stmt, StmtKind, Target},
    value::{Items, LoopState, Value},
};

/// Maximum evaluation depth, including macros and recursive loops.
const MAX_DEPTH: usize = 600;

/// How a run of statements ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Break,
    Continue,
}

struct Scope<'t> {
    variables: Vec<(&'t str, Value)>,
    parent: Option<usize>,
}

/// Renders a template once.
pub struct Interpreter<'t, 'p> {
    pub meter: Meter<'p>,
    scopes: Vec<Scope<'t>>,
    /// The current scope.
    scope: usize,
    pub namespaces: Vec<Vec<(Rc<str>, Value)>>,
    macros: Vec<(&'t MacroBody, usize)>,
    loops: Vec<&'t ForLoop>,
    loops_run: usize,
    /// The last arguments of `loop.changed`, with the loop's number.
    pub changed: Vec<(usize, Vec<Value>)>,
    out: String,
    depth: usize,
    /// Line of the current statement.
    pub line: usize,
}

type Run<T> = Result<T, Fault>;

impl<'t, 'p> Interpreter<'t, 'p> {
    pub fn new(meter: Meter<'p>, globals: Vec<(&'t str, Value)>) -> Self {
        Self {
            meter,
            scopes: vec![Scope { variables: globals, parent: None }, Scope { variables: Vec::new(), parent: Some(0) }],
            scope: 1,
            namespaces: Vec::new(),
            macros: Vec::new(),
            loops: Vec::new(),
            loops_run: 0,
            changed: Vec::new(),
            out: String::new(),
            depth: 0,
            line: 1,
        }
    }

    /// The text of `statements`.
    pub fn render(&mut self, statements: &'t [Stmt]) -> Run<String> {
        self.run(statements)?;
        Ok(std::mem::take(&mut self.out))
    }

    /// Runs `inner` one level deeper.
    pub fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        self.meter.step()?;
        if self.depth >= MAX_DEPTH {
            return Err(Fault::limit("its macros, loops or expressions nest too deeply"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn run(&mut self, statements: &'t [Stmt]) -> Run<Flow> {
        for statement in statements {
            self.line = statement.line;
            let flow = self.deeper(|this| this.statement(statement))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'t Stmt) -> Run<Flow> {
        match &statement.kind {
            StmtKind::Text(text) => self.write(text)?,
            StmtKind::Output(value) => {
                let text = self.evaluate(value)?.print(&self.meter)?;
                self.write(&text)?;
            }
            StmtKind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.run(body);
                    }
                }
                return self.run(otherwise);
            }
            StmtKind::For(for_loop) => {
                let items = self.evaluate(&for_loop.items)?;
                self.for_loop(for_loop, &items, 0)?;
            }
            StmtKind::Set(target, value) => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock(target, filter, body) => {
                let text = self.capture(|this| this.scoped(|this| this.run(body)))?;
                let text = self.filtered(filter.as_ref(), text)?;
                self.assign(target, text)?;
            }
            StmtKind::FilterBlock(filter, body) => {
                let text = self.capture(|this| this.scoped(|this| this.run(body)))?;
                let text = self.filtered(Some(filter), text)?.print(&self.meter)?;
                self.write(&text)?;
            }
            StmtKind::With(values, body) => {
                let evaluated = values.iter().map(|(_, value)| self.evaluate(value)).collect::<Run<Vec<_>>>()?;
                return self.scoped(|this| {
                    for ((target, _), value) in values.iter().zip(evaluated) {
                        this.assign(target, value)?;
                    }
                    this.run(body)
                });
            }
            StmtKind::Scoped(body) => return self.scoped(|this| this.run(body)),
            StmtKind::Macro(body) => {
                let value = self.new_macro(body)?;
                self.set(&body.name, value);
            }
            StmtKind::CallBlock(call, body) => {
                let caller = self.new_macro(body)?;
                let Expr::Call(callee, arguments) = call else { return Ok(Flow::Next) };
                let text = self.call(callee, arguments, Some(caller))?.print(&self.meter)?;
                self.write(&text)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, text: &str) -> Run<()> {
        self.meter.memory(text.len())?;
        self.meter.output(self.out.len() + text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    /// Captures the output of `inner`.
    fn capture(&mut self, inner: impl FnOnce(&mut Self) -> Run<Flow>) -> Run<Value> {
        let before = std::mem::take(&mut self.out);
        let result = inner(self);
        let text = std::mem::replace(&mut self.out, before);
        result?;
        Value::text(text, &self.meter)
    }

    fn filtered(&mut self, filter: Option<&'t Expr>, value: Value) -> Run<Value> {
        match filter {
            None => Ok(value),
            Some(filter) => self.apply_filters(filter, value),
        }
    }

    /// Applies a chain of filters without an operand to `value`.
    fn apply_filters(&mut self, filter: &'t Expr, value: Value) -> Run<Value> {
        self.deeper(|this| match filter {
            Expr::Filter(operand, name, arguments) => {
                let value = match operand {
                    Some(operand) => this.apply_filters(operand, value)?,
                    None => value,
                };
                let arguments = this.arguments(arguments)?;
                this.filter(name, value, arguments)
            }
            _ => Err(Fault::template("expected a filter")),
        })
    }

    fn for_loop(&mut self, for_loop: &'t ForLoop, items: &Value, level: usize) -> Run<()> {
        let mut items = items.iterate(&self.meter)?;
        if let Some(condition) = &for_loop.condition {
            let mut kept = Vec::new();
            for item in &items.items {
                let keep = self.scoped(|this| {
                    this.assign(&for_loop.target, item.clone())?;
                    Ok(this.evaluate(condition)?.is_true())
                })?;
                if keep {
                    kept.push(item.clone());
                }
            }
            items = Rc::new(Items::new(kept, &self.meter)?);
        }
        if items.items.is_empty() {
            return self.scoped(|this| this.run(&for_loop.otherwise)).map(drop);
        }
        let recursion = if for_loop.recursive {
            let known = self.loops.iter().position(|known| std::ptr::eq(*known, for_loop));
            Some(known.unwrap_or_else(|| {
                self.loops.push(for_loop);
                self.loops.len() - 1
            }))
        } else {
            None
        };
        let number = self.loops_run;
        self.loops_run += 1;
        for (index, item) in items.items.iter().enumerate() {
            let state = LoopState { items: items.clone(), index, number, level, recursion };
            let flow = self.scoped(|this| {
                this.set("loop", Value::Loop(Rc::new(state)));
                this.assign(&for_loop.target, item.clone())?;
                this.run(&for_loop.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// `loop(items)` in a recursive loop.
    pub fn recurse(&mut self, state: &LoopState, items: &Value) -> Run<Value> {
        let found = state.recursion.and_then(|at| self.loops.get(at).copied());
        let for_loop = found.ok_or_else(|| Fault::template("`loop(...)` is for loops that are `recursive`"))?;
        self.deeper(|this| {
            this.capture(|this| {
                this.for_loop(for_loop, items, state.level + 1)?;
                Ok(Flow::Next)
            })
        })
    }

    /// Runs `inner` in a nested scope.
    fn scoped<T>(&mut self, inner: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        self.scoped_in(self.scope, inner)
    }

    fn scoped_in<T>(&mut self, parent: usize, inner: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        let (outer, macros, scope) = (self.scope, self.macros.len(), self.scopes.len());
        self.scopes.push(Scope { variables: Vec::new(), parent: Some(parent) });
        self.scope = scope;
        let result = inner(self);
        self.scope = outer;
        // Macros defined in the scope may be called later and need it.
        if self.macros.len() == macros {
            self.scopes.truncate(scope);
        }
        result
    }

    fn new_macro(&mut self, body: &'t MacroBody) -> Run<Value> {
        self.meter.memory(512)?;
        self.macros.push((body, self.scope));
        Ok(Value::Macro(self.macros.len() - 1))
    }

    pub fn call_macro(&mut self, number: usize, args: Args, caller: Option<Value>) -> Run<Value> {
        let Some((body, scope)) = self.macros.get(number).copied() else {
            return Err(Fault::template("there is no such macro"));
        };
        let Args { positional, named } = args;
        if positional.len() > body.parameters.len() && !body.uses_varargs {
            let most = body.parameters.len();
            return Err(Fault::template(format!("macro `{}` takes at most {most} arguments", body.name)));
        }
        let mut caller = caller;
        if let Some((_, value)) = named.iter().find(|(name, _)| name == "caller") {
            caller = Some(value.clone());
        }
        let is_parameter = |name: &str| name == "caller" || body.parameters.iter().any(|(known, _)| known == name);
        let unknown: Vec<&(String, Value)> = named.iter().filter(|(name, _)| !is_parameter(name)).collect();
        if let Some((name, _)) = unknown.first().filter(|_| !body.uses_kwargs) {
            let name = moerge_core::suggest::shorten(name);
            return Err(Fault::template(format!("macro `{}` has no parameter `{name}`", body.name)));
        }
        let pair = |(name, value): &&(String, Value)| Ok((Value::text(name, &self.meter)?, value.clone()));
        let kwargs = Value::dict(unknown.iter().map(pair).collect::<Run<_>>()?, &self.meter)?;
        let line = self.line;
        let text = self.deeper(|this| {
            this.capture(|this| {
                this.scoped_in(scope, |this| {
                    if let Some(caller) = caller {
                        this.set("caller", caller);
                    }
                    let mut positional = positional.into_iter();
                    for (name, default) in &body.parameters {
                        let given = positional.next();
                        let given = given.or_else(|| named.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()));
                        let value = match (given, default) {
                            (Some(value), _) => value,
                            (None, Some(default)) => this.evaluate(default)?,
                            (None, None) => Value::undefined(name),
                        };
                        this.set(name, value);
                    }
                    if body.uses_varargs {
                        let varargs = Value::tuple(positional.collect(), &this.meter)?;
                        this.set("varargs", varargs);
                    }
                    if body.uses_kwargs {
                        this.set("kwargs", kwargs);
                    }
                    this.run(&body.body)?;
                    Ok(Flow::Next)
                })
            })
        })?;
        self.line = line;
        Ok(text)
    }

    /// The attributes of a macro, such as `name`.
    pub fn macro_attribute(&self, number: usize, name: &str) -> Run<Value> {
        let Some((body, _)) = self.macros.get(number) else { return Ok(Value::undefined(name)) };
        let meter = &self.meter;
        Ok(match name {
            "name" => Value::text(&body.name, meter)?,
            "arguments" => {
                let names = body.parameters.iter().map(|(name, _)| Value::text(name, meter));
                Value::tuple(names.collect::<Run<_>>()?, meter)?
            }
            "catch_varargs" => Value::Bool(body.uses_varargs),
            "catch_kwargs" => Value::Bool(body.uses_kwargs),
            "caller" => Value::Bool(body.uses_caller),
            name => Value::undefined(name),
        })
    }

    fn assign(&mut self, target: &'t Target, value: Value) -> Run<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Tuple(targets) => {
                let items = value.iterate(&self.meter)?;
                if items.items.len() != targets.len() {
                    let (found, expected) = (items.items.len(), targets.len());
                    return Err(Fault::template(format!("{found} values cannot be assigned to {expected} names")));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
            }
            Target::Attribute(name, attribute) => {
                let Value::Namespace(number) = self.lookup(name)? else {
                    return Err(Fault::template(format!(
                        "`{name}` is not a namespace, so its attributes cannot be set"
                    )));
                };
                self.set_in_namespace(number, attribute, value)?;
            }
        }
        Ok(())
    }

    pub fn set_in_namespace(&mut self, number: usize, name: &str, value: Value) -> Run<()> {
        if name.starts_with('_') {
            return Err(Fault::template(format!("a namespace cannot have `{name}`, which begins with an underscore")));
        }
        let namespace = self.namespaces.get_mut(number).ok_or_else(|| Fault::template("there is no such namespace"))?;
        self.meter.work(16 * namespace.len())?;
        match namespace.iter_mut().find(|(known, _)| known.as_ref() == name) {
            Some((_, known)) => *known = value,
            None => {
                self.meter.memory(name.len() + 48)?;
                namespace.push((name.into(), value));
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &'t str, value: Value) {
        let variables = &mut self.scopes[self.scope].variables;
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => variables.push((name, value)),
        }
    }

    pub fn lookup(&self, name: &str) -> Run<Value> {
        let mut scope = Some(self.scope);
        while let Some(number) = scope {
            let Scope { variables, parent } = &self.scopes[number];
            self.meter.work(16 * variables.len())?;
            if let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) {
                return Ok(value.clone());
            }
            scope = *parent;
        }
        Ok(super::functions::global(name).map_or_else(|| Value::undefined(name), Value::Function))
    }

    /// Evaluates the arguments of a call.
    pub fn arguments(&mut self, arguments: &'t Arguments) -> Run<Args> {
        let mut args = Args::default();
        for value in &arguments.positional {
            args.positional.push(self.evaluate(value)?);
        }
        if let Some(star) = &arguments.star {
            let items = self.evaluate(star)?.iterate(&self.meter)?;
            args.positional.extend(items.items.iter().cloned());
        }
        for (name, value) in &arguments.named {
            args.named.push((name.clone(), self.evaluate(value)?));
        }
        if let Some(double_star) = &arguments.double_star {
            match self.evaluate(double_star)? {
                Value::Dict(dict) => {
                    for (key, value) in &dict.entries {
                        let key = key.as_str().ok_or_else(|| key.refuse("the name of an argument"))?;
                        self.meter.memory(key.len())?;
                        args.named.push((key.to_owned(), value.clone()));
                    }
                }
                other => return Err(other.refuse("named arguments")),
            }
        }
        Ok(args)
    }
}
