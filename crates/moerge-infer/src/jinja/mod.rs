//! Chat templates: Jinja as transformers configures it, for untrusted templates.
//!
//! A general-purpose engine does not fit. It lets a template allocate any amount of memory in one operation, recurses
//! into values that contain themselves, and prints values differently from Python. This one has Python's values, the
//! rules of `ImmutableSandboxedEnvironment`, and a [`Meter`](meter::Meter) that every operation consults first.
//!
//! Reference: <https://jinja.palletsprojects.com/en/stable/templates/> and transformers' `chat_template_utils.py`.

mod arguments;
mod expressions;
mod filters;
mod format;
mod functions;
mod interpreter;
mod json;
mod lexer;
mod meter;
mod methods;
mod numbers;
mod operators;
mod parser;
mod predicates;
mod strftime;
mod strings;
mod syntax;
mod text_filters;
mod value;

use std::{thread, thread::Builder};

use moerge_core::{error::Error, progress::Progress};
use serde_json::Value as Json;

pub use meter::Limits;

/// Stack size of the thread that parses and renders. Only touched pages take memory, and the depth limits keep them
/// to a fraction of it.
const STACK: usize = 64 << 20;
/// Maximum template size in bytes. The largest in use are about 30 kB.
const MAX_SOURCE: usize = 1 << 20;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    statements: Vec<syntax::Stmt>,
}

/// Why a template cannot be used.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// Line number, if known.
    pub line: Option<usize>,
    /// What caused it.
    pub cause: Cause,
}

/// What caused a failure.
#[derive(Debug)]
pub enum Cause {
    /// An error in the template.
    Template,
    /// The template called `raise_exception`: it rejects this conversation.
    Raised,
    /// The template exceeded a limit.
    Limit,
    /// The run was cancelled.
    Stopped(Error),
}

/// A failure whose line is not known yet.
#[derive(Debug)]
struct Fault {
    message: String,
    cause: Cause,
}

impl Fault {
    fn template(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: Cause::Template }
    }

    fn raised(message: String) -> Self {
        Self { message, cause: Cause::Raised }
    }

    fn limit(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: Cause::Limit }
    }

    fn stopped(error: Error) -> Self {
        Self { message: "stopped".into(), cause: Cause::Stopped(error) }
    }

    fn at(self, line: Option<usize>) -> Failure {
        Failure { message: self.message, line, cause: self.cause }
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// It is too long or nested too deeply, or is not a template.
    pub fn parse(source: &str) -> Result<Self, Failure> {
        if source.len() > MAX_SOURCE {
            let message = format!("it has {} bytes, more than the limit of {MAX_SOURCE}", source.len());
            return Err(Fault::limit(message).at(None));
        }
        let parse = || parser::parse(source).map_err(|(fault, line)| fault.at(Some(line)));
        Ok(Self { statements: on_own_stack(parse)? })
    }

    /// Renders it with these variables.
    ///
    /// # Errors
    /// The template raises an error, uses what is not supported, exceeds `limits`, or the user stops it.
    pub fn render(
        &self,
        variables: &[(String, Json)],
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<String, Failure> {
        on_own_stack(|| {
            let meter = meter::Meter::new(limits, progress);
            let global = |(_, json): &'_ (String, Json)| value::Value::from_json(json, &meter);
            let globals =
                variables.iter().map(global).collect::<Result<Vec<_>, _>>().map_err(|fault| fault.at(None))?;
            let globals = variables.iter().map(|(name, _)| name.as_str()).zip(globals).collect();
            let mut interpreter = interpreter::Interpreter::new(meter, globals);
            let rendered = interpreter.render(&self.statements);
            rendered.map_err(|fault| fault.at(Some(interpreter.line)))
        })
    }
}

/// Runs `work` on a thread with a large enough stack.
fn on_own_stack<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    thread::scope(|scope| {
        let spawned = Builder::new().name("chat template".into()).stack_size(STACK).spawn_scoped(scope, work);
        match spawned.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Fault::template("it cannot be processed because of a bug in moerge").at(None)),
            Err(error) => Err(Fault::template(format!("cannot start a thread for it: {error}")).at(None)),
        }
    })
}

#[cfg(test)]
mod tests;
