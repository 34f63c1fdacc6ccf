//! Binds the arguments of a call to parameter names.

use super::{Fault, value::Value};

/// Evaluated arguments.
#[derive(Debug, Default)]
pub struct Args {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
}

impl Args {
    /// Binds the arguments to the parameter `names` of `function`.
    pub fn bind<const N: usize>(self, function: &str, names: [&str; N]) -> Result<[Option<Value>; N], Fault> {
        if self.positional.len() > N {
            let given = self.positional.len();
            return Err(Fault::template(format!("`{function}` takes at most {N} arguments, not {given}")));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let slot = names.iter().position(|known| *known == name).map(|at| &mut bound[at]);
            match slot {
                Some(slot) if slot.is_none() => *slot = Some(value),
                _ => {
                    let name = moerge_core::suggest::shorten(&name);
                    return Err(Fault::template(format!("`{function}` does not take an argument `{name}` here")));
                }
            }
        }
        Ok(bound)
    }
}

/// Reads an argument that may be absent.
pub trait Optional {
    fn int(&self, what: &str) -> Result<Option<i64>, Fault>;
    fn text(&self, what: &str) -> Result<Option<&str>, Fault>;
    fn truth(&self) -> bool;
}

impl Optional for Option<Value> {
    fn int(&self, what: &str) -> Result<Option<i64>, Fault> {
        match self {
            None | Some(Value::None) => Ok(None),
            Some(value) => value.as_int().map(Some).ok_or_else(|| value.refuse(what)),
        }
    }

    fn text(&self, what: &str) -> Result<Option<&str>, Fault> {
        match self {
            None | Some(Value::None) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| value.refuse(what)),
        }
    }

    fn truth(&self) -> bool {
        self.as_ref().is_some_and(Value::is_true)
    }
}
