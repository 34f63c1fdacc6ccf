//! The values of the machine.

use crate::dtype::Dtype;

/// The index of a value. Values refer to each other by index, so none is copied and nesting needs no recursion.
pub(super) type Id = u32;

/// A value on the stack.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Callable(Callable),
    /// A harmless value other than a weight, such as a device, set or bytes. No operation accepts it.
    Other,
    /// A dtype of torch that safetensors has too.
    ElementType(Dtype),
    /// The type of a storage, that is, of its elements.
    StorageType(Dtype),
    /// The bytes of a storage in the file.
    Storage {
        dtype: Dtype,
        key: String,
        elements: u64,
    },
    /// A view of a storage; offset and strides count elements.
    Tensor {
        storage: Id,
        offset: u64,
        shape: Vec<usize>,
        stride: Vec<i64>,
    },
}

/// An allowed callable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    /// `_rebuild_tensor_v3`: its storage is untyped, and an argument is the dtype.
    RebuildTyped,
    RebuildParameter,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes.
    RebuildFromType,
    /// `torch.Tensor`, which is referred to but never called.
    TensorType,
    /// `torch.nn.Parameter`, referred to or called.
    ParameterType,
    /// `torch.Size`: a tuple.
    Size,
    /// Returns [`Value::Other`] for any arguments.
    Harmless,
}
