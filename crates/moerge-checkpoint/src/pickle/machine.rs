//! The subset of Python's pickle machine that rebuilds tensors. It calls nothing: the few callables that are allowed
//! become values, and any other name is an error.

use std::collections::HashMap;

use super::{
    PickleError,
    globals::global,
    value::{Callable, Id, Value},
};
use crate::dtype::Dtype;

/// Maximum number of instructions, which also bounds memory. A model of ten thousand tensors needs half a million.
const MAX_STEPS: usize = 10_000_000;
/// Maximum number of values.
const MAX_VALUES: usize = 4_000_000;

/// Runs a pickle. Returns all values and the index of the result.
pub(super) fn run(pickle: &[u8]) -> Result<(Vec<Value>, Id), PickleError> {
    let mut machine =
        Machine { pickle, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok((machine.values, root));
        }
    }
    Err(machine.damaged("it does not end"))
}

struct Machine<'a> {
    pickle: &'a [u8],
    /// The offset of the next byte.
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; returns the result if it was the last.
    fn step(&mut self) -> Result<Option<Id>, PickleError> {
        let [opcode] = self.bytes()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME: nothing to do.
            0x80 => drop(self.bytes::<1>()?),
            0x95 => drop(self.bytes::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let int = i32::from_le_bytes(self.bytes()?);
                self.push(Value::Int(int.into()))?;
            }
            b'K' => {
                let [int] = self.bytes()?;
                self.push(Value::Int(int.into()))?;
            }
            b'M' => {
                let int = u16::from_le_bytes(self.bytes()?);
                self.push(Value::Int(int.into()))?;
            }
            0x8a => self.long()?,
            b'G' => {
                self.bytes::<8>()?;
                self.push(Value::Float)?;
            }
            b'X' => {
                let len = u32::from_le_bytes(self.bytes()?) as usize;
                self.text(len)?;
            }
            0x8c => {
                let [len] = self.bytes()?;
                self.text(len.into())?;
            }
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let len = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(len).filter(|start| *start >= self.floor());
                let items = self.stack.split_off(start.ok_or_else(|| self.damaged("a tuple of too few"))?);
                self.push(Value::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(&items)?;
            }
            b'q' => {
                let [index] = self.bytes()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.bytes()?);
                self.put(index)?;
            }
            0x94 => {
                let index = self.memo.len();
                self.put(u32::try_from(index).unwrap_or(u32::MAX))?;
            }
            b'h' => {
                let [index] = self.bytes()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.bytes()?);
                self.get(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (self.value(name).clone(), self.value(module).clone())
                else {
                    return Err(self.damaged("a name that is not a string"));
                };
                self.global(&module, &name)?;
            }
            // EMPTY_SET, ADDITEMS as in torch: metadata of a training run.
            0x8f => self.push(Value::Other)?,
            0x81 => self.call()?,
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            other => {
                let what = opcode_name(other);
                return Err(PickleError::Opcode { what, at: self.at.saturating_sub(1) });
            }
        }
        Ok(None)
    }

    fn damaged(&self, what: &str) -> PickleError {
        PickleError::Damaged { what: what.to_owned(), at: self.at.saturating_sub(1) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let bytes = self.at.checked_add(len).and_then(|end| self.pickle.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.damaged("it ends early"))?;
        self.at += len;
        Ok(bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.pickle.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|b| *b == b'\n').ok_or_else(|| self.damaged("a line without an end"))?;
        let line = std::str::from_utf8(self.take(len)?).map_err(|_| self.damaged("a name that is not UTF-8"))?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, len: usize) -> Result<(), PickleError> {
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| self.damaged("a string that is not UTF-8"))?;
        self.push(Value::Text(text.to_owned()))
    }

    /// An integer of up to 8 bytes, little-endian, two's complement.
    fn long(&mut self) -> Result<(), PickleError> {
        let [len] = self.bytes()?;
        let bytes = self.take(len.into())?;
        let mut array = if bytes.last().is_some_and(|b| b & 0x80 != 0) { [0xff; 8] } else { [0; 8] };
        let part = array.get_mut(..bytes.len()).ok_or_else(|| self.damaged("an integer of more than 64 bits"))?;
        part.copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(array)))
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.values.len() >= MAX_VALUES {
            return Err(self.damaged("it makes more values than any model has"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// The stack height at the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.damaged("its stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.damaged("its stack is empty"))
    }

    fn top(&self) -> Result<Id, PickleError> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| self.damaged("its stack is empty"))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("a mark is missing"))?;
        if mark > self.stack.len() {
            return Err(self.damaged("a mark is missing"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    fn put(&mut self, index: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(self.damaged("it remembers more values than any model has"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), PickleError> {
        let id = self.memo.get(&index).copied().ok_or_else(|| self.damaged("a value that was not remembered"))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let value = global(module, name).ok_or_else(|| PickleError::global(module, name))?;
        self.push(value)
    }

    fn append(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let list = self.top()?;
        match self.values.get_mut(list as usize) {
            Some(Value::List(list)) => list.extend_from_slice(items),
            _ => return Err(self.damaged("an append to something other than a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let dict = self.top()?;
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(self.damaged("a key without a value"));
        }
        match self.values.get_mut(dict as usize) {
            Some(Value::Dict(dict)) => dict.extend(pairs.filter_map(|p| Some((*p.first()?, *p.get(1)?)))),
            _ => return Err(self.damaged("an item set in something other than a dict")),
        }
        Ok(())
    }

    /// `('storage', torch.FloatStorage, key, location, elements)` becomes bytes in the file.
    fn storage(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let Value::Tuple(parts) = self.value(id) else { return Err(self.damaged("a storage that is not a tuple")) };
        let parts: Vec<&Value> = parts.iter().map(|id| self.value(*id)).collect();
        let storage = match parts.as_slice() {
            [Value::Text(kind), Value::StorageType(dtype), Value::Text(key), Value::Text(_), Value::Int(elements)]
                if kind == "storage" =>
            {
                u64::try_from(*elements).ok().map(|elements| Value::Storage {
                    dtype: *dtype,
                    key: key.clone(),
                    elements,
                })
            }
            _ => None,
        };
        let storage = storage.ok_or_else(|| self.damaged("a storage that is not one of torch.save's"))?;
        self.push(storage)
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Value::Callable(callable) = *self.value(callable) else {
            return Err(self.damaged("something is called that cannot be"));
        };
        let Value::Tuple(arguments) = self.value(arguments).clone() else {
            return Err(self.damaged("a call without arguments"));
        };
        match (callable, arguments.as_slice()) {
            (Callable::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Callable::RebuildTensor, [storage, offset, shape, stride, ..]) if arguments.len() <= 7 => {
                let tensor = self.tensor(*storage, *offset, *shape, *stride);
                let tensor = tensor.ok_or_else(|| self.damaged("a tensor that is not one of torch.save's"))?;
                self.push(tensor)
            }
            (
                Callable::RebuildTyped,
                [storage, offset, shape, stride, _, _, dtype] | [storage, offset, shape, stride, _, _, dtype, _],
            ) => {
                self.typed_storage(*storage, *dtype)?;
                let storage = self.pop()?;
                let tensor = self.tensor(storage, *offset, *shape, *stride);
                let tensor = tensor.ok_or_else(|| self.damaged("a tensor that is not one of torch.save's"))?;
                self.push(tensor)
            }
            (Callable::RebuildParameter, [data, _, _] | [data, _, _, _])
            | (Callable::ParameterType, [data] | [data, _])
                if matches!(self.value(*data), Value::Tensor { .. }) =>
            {
                self.stack.push(*data);
                Ok(())
            }
            (Callable::RebuildFromType, [function, class, arguments, _])
                if matches!(
                    self.value(*function),
                    Value::Callable(Callable::RebuildTensor | Callable::RebuildTyped | Callable::RebuildParameter)
                ) && matches!(
                    self.value(*class),
                    Value::Callable(Callable::TensorType | Callable::ParameterType)
                ) =>
            {
                // The last argument is the attributes, which are not weights. The inner call is one of the above, so
                // this recursion ends.
                self.stack.extend([*function, *arguments]);
                self.call()
            }
            (Callable::Size, [items]) if matches!(self.value(*items), Value::Tuple(_) | Value::List(_)) => {
                let (Value::Tuple(items) | Value::List(items)) = self.value(*items).clone() else { return Ok(()) };
                self.push(Value::Tuple(items))
            }
            (Callable::OrderedDict, [items]) if matches!(self.value(*items), Value::List(_)) => self.ordered(*items),
            (Callable::Harmless, _) => self.push(Value::Other),
            _ => Err(self.damaged("a call with other arguments than torch.save's")),
        }
    }

    /// `OrderedDict([(key, value), ...])`, written by PyTorch before 1.0 and by Python 2.
    fn ordered(&mut self, items: Id) -> Result<(), PickleError> {
        let Value::List(items) = self.value(items) else {
            return Err(self.damaged("a dict that is not made of a list"));
        };
        let pair = |id: &Id| match self.value(*id) {
            Value::Tuple(pair) | Value::List(pair) => Some((*pair.first()?, *pair.get(1)?)),
            _ => None,
        };
        let pairs: Option<Vec<_>> = items.iter().map(pair).collect();
        let pairs = pairs.ok_or_else(|| self.damaged("a dict of something other than pairs"))?;
        self.push(Value::Dict(pairs))
    }

    /// An untyped storage as one of elements of `dtype`.
    fn typed_storage(&mut self, storage: Id, dtype: Id) -> Result<(), PickleError> {
        let typed = match (self.value(storage), self.value(dtype)) {
            (Value::Storage { dtype: Dtype::U8, key, elements: bytes }, Value::ElementType(dtype)) => {
                let each = u64::from(dtype.size_bits() / 8);
                let whole = bytes.checked_rem(each) == Some(0);
                whole.then(|| Value::Storage { dtype: *dtype, key: key.clone(), elements: bytes / each })
            }
            _ => None,
        };
        let typed = typed.ok_or_else(|| self.damaged("a tensor of a type that safetensors lacks"))?;
        self.push(typed)
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, stride: Id) -> Option<Value> {
        let (Value::Storage { .. }, Value::Int(offset)) = (self.value(storage), self.value(offset)) else {
            return None;
        };
        let numbers = |id: Id| -> Option<Vec<i64>> {
            let Value::Tuple(items) = self.value(id) else { return None };
            let number = |id: &Id| match self.value(*id) {
                Value::Int(number) => Some(*number),
                _ => None,
            };
            // PyTorch's maximum number of dimensions.
            if items.len() > 64 { None } else { items.iter().map(number).collect() }
        };
        let shape: Option<Vec<usize>> = numbers(shape)?.into_iter().map(|n| usize::try_from(n).ok()).collect();
        let (shape, stride) = (shape?, numbers(stride)?);
        let offset = u64::try_from(*offset).ok()?;
        (shape.len() == stride.len()).then_some(Value::Tensor { storage, offset, shape, stride })
    }

    /// Attributes of an OrderedDict: a state dict has `_metadata`, which is not a weight.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let target = self.top()?;
        if matches!(self.value(target), Value::Other) {
            return Ok(());
        }
        let (Value::Dict(_), Value::Dict(attributes)) = (self.value(target), self.value(state)) else {
            return Err(self.damaged("attributes for what has none"));
        };
        for (name, _) in attributes {
            match self.value(*name) {
                Value::Text(name) if name == "_metadata" => {}
                Value::Text(name) => {
                    let what = format!("it sets the attribute `{}`", name.escape_debug());
                    return Err(PickleError::Opcode { what, at: self.at.saturating_sub(1) });
                }
                _ => return Err(self.damaged("an attribute without a name")),
            }
        }
        Ok(())
    }
}

/// pickletools' names of refused instructions that are used in attacks.
fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'B' | b'C' | 0x8e | 0x96 => "BYTES",
        b'I' | b'L' | 0x8b => "INT or LONG",
        b'F' => "FLOAT",
        b'S' | b'T' | b'U' | b'V' | 0x8d => "STRING",
        b'l' | b'd' => "LIST or DICT",
        b'p' | b'g' => "PUT or GET",
        0x8f..=0x91 => "SET",
        0x97 | 0x98 => "BUFFER",
        _ => return format!("the unknown instruction {opcode:#04x}"),
    };
    format!("the instruction {name}")
}
