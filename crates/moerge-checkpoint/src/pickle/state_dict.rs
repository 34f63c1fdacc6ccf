//! Converts the result of a pickle to tensors by name with their locations in the file.

use std::collections::BTreeMap;

use super::{
    PickleError, StoredBytes,
    value::{Id, Value},
};
use crate::header::HeaderTensor;

/// The tensors of the dict `root`, sorted by name.
pub(super) fn tensors(
    values: &[Value],
    root: Id,
    storage: &mut dyn FnMut(&str) -> Option<StoredBytes>,
) -> Result<Vec<HeaderTensor>, PickleError> {
    let value = |id: Id| values.get(id as usize).unwrap_or(&Value::None);
    let Value::Dict(items) = value(root) else { return Err(PickleError::NotADict(kind(value(root)))) };
    let mut places: BTreeMap<&str, Option<StoredBytes>> = BTreeMap::new();
    let mut tensors: BTreeMap<&str, HeaderTensor> = BTreeMap::new();
    for (name, item) in items {
        let Value::Text(name) = value(*name) else { return Err(PickleError::NotADict("something without a name")) };
        let Value::Tensor { storage: id, offset, shape, stride } = value(*item) else {
            return Err(PickleError::NotATensor { name: name.clone(), found: kind(value(*item)) });
        };
        let Value::Storage { dtype, key, elements } = value(*id) else {
            return Err(PickleError::NotATensor { name: name.clone(), found: "a tensor without bytes" });
        };
        let wrong = |what: String| PickleError::Place { name: name.clone(), what };
        let place = *places.entry(key).or_insert_with(|| storage(key));
        let place = place.ok_or_else(|| wrong(format!("it has no data/{}", key.escape_debug())))?;
        let bytes = u64::from(dtype.size_bits() / 8);
        if elements.checked_mul(bytes) != Some(place.len) {
            return Err(wrong(format!("it declares {elements} {dtype}, but has {} bytes", place.len)));
        }
        if !follow_each_other(shape, stride) {
            return Err(PickleError::Strides { name: name.clone(), shape: shape.clone(), stride: stride.clone() });
        }
        let len = dtype.tensor_bytes(shape).map_err(|problem| wrong(format!("{dtype} {shape:?} is {problem}")))?;
        let begin =
            offset.checked_mul(bytes).filter(|begin| begin.checked_add(len).is_some_and(|end| end <= place.len));
        let begin = begin.ok_or_else(|| wrong(format!("{len} bytes at element {offset} of {elements}")))?;
        let begin = place.offset + begin;
        let tensor = HeaderTensor { name: name.clone(), dtype: *dtype, shape: shape.clone(), begin, end: begin + len };
        if tensors.insert(name, tensor).is_some() {
            return Err(PickleError::DuplicateName(name.clone()));
        }
    }
    Ok(tensors.into_values().collect())
}

/// Whether the elements are contiguous in row-major order. Strides of dimensions of size 1 do not matter.
fn follow_each_other(shape: &[usize], stride: &[i64]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected: u128 = 1;
    for (&dim, &stride) in shape.iter().zip(stride).rev() {
        if dim != 1 {
            if u128::try_from(stride) != Ok(expected) {
                return false;
            }
            expected = expected.saturating_mul(dim as u128);
        }
    }
    true
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "nothing",
        Value::Bool(_) | Value::Int(_) | Value::Float => "a number",
        Value::Text(_) => "a string",
        Value::Tuple(_) | Value::List(_) => "a list",
        Value::Dict(_) => "a dict",
        Value::Callable(_) | Value::StorageType(_) => "a function",
        Value::Other | Value::ElementType(_) => "not a weight",
        Value::Storage { .. } => "bare bytes",
        Value::Tensor { .. } => "a tensor",
    }
}
