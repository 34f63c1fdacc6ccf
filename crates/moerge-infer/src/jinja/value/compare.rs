//! Python's `==`, `<` and `in`.

use std::{cmp::Ordering, rc::Rc};

use super::{Value, Valued};
use crate::jinja::{Fault, meter::Meter};

impl Value {
    /// Python's `==`.
    pub fn equals(&self, other: &Self, meter: &Meter<'_>) -> Valued<bool> {
        meter.step()?;
        Ok(match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => {
                meter.work(a.len().min(b.len()))?;
                **a == **b
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match b.get(key, meter)? {
                        Some(other) if value.equals(other, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Self::Namespace(a), Self::Namespace(b)) | (Self::Macro(a), Self::Macro(b)) => a == b,
            (Self::Function(a), Self::Function(b)) | (Self::Method(a), Self::Method(b)) => a == b,
            (Self::Loop(a), Self::Loop(b)) => Rc::ptr_eq(a, b),
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// Python's ordering, which is only defined between values of similar types.
    pub fn compare(&self, other: &Self, meter: &Meter<'_>) -> Valued<Option<Ordering>> {
        meter.step()?;
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => {
                meter.work(a.len().min(b.len()))?;
                Ok(Some((**a).cmp(&**b)))
            }
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return a.compare(b, meter);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            (Self::Undefined(_), _) => Err(self.refuse("compared")),
            (_, Self::Undefined(_)) => Err(other.refuse("compared")),
            (a, b) => match (a.as_int(), b.as_int(), a.as_float(), b.as_float()) {
                (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
                (_, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
                _ => Err(Fault::template(format!("a {} cannot be compared with a {}", a.kind(), b.kind()))),
            },
        }
    }

    /// Python's `in`.
    pub fn contains(&self, item: &Self, meter: &Meter<'_>) -> Valued<bool> {
        match (self, item) {
            (Self::Str(text), Self::Str(part)) => {
                meter.work(text.len())?;
                Ok(text.contains(&**part))
            }
            (Self::Str(_), other) => Err(other.refuse("looked for in a string")),
            (Self::Dict(dict), key) => Ok(dict.get(key, meter)?.is_some()),
            (Self::List(items) | Self::Tuple(items), item) => {
                for other in &items.items {
                    if item.equals(other, meter)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Self::Undefined(_), _) => Ok(false),
            (other, _) => Err(Fault::template(format!("nothing can be `in` a {}", other.kind()))),
        }
    }
}
