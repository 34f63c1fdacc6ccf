//! The names that a pickle may refer to.

use super::value::{Callable, Value};
use crate::dtype::Dtype;

/// The globals that a pickle of weights may refer to: those that `torch.load(weights_only=True)` accepts
/// (torch/_weights_only_unpickler.py) and that can occur in dense weights.
pub(super) fn global(module: &str, name: &str) -> Option<Value> {
    use Dtype::{BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8};
    Some(match (module, name) {
        ("collections", "OrderedDict") => Value::Callable(Callable::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Value::Callable(Callable::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v3") => Value::Callable(Callable::RebuildTyped),
        ("torch.storage", "UntypedStorage") => Value::StorageType(U8),
        ("torch._utils", "_rebuild_tensor") => Value::Callable(Callable::RebuildTensor),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Value::Callable(Callable::RebuildParameter)
        }
        ("torch._tensor", "_rebuild_from_type_v2") => Value::Callable(Callable::RebuildFromType),
        ("torch", "Tensor") => Value::Callable(Callable::TensorType),
        ("torch.nn.parameter" | "torch.nn", "Parameter") => Value::Callable(Callable::ParameterType),
        ("torch", "Size") => Value::Callable(Callable::Size),
        ("torch", "device")
        | ("torch.serialization", "_get_layout")
        | ("_codecs", "encode")
        | ("collections", "Counter")
        | ("builtins" | "__builtin__", "bytearray" | "set" | "complex") => Value::Callable(Callable::Harmless),
        ("torch", name) if is_dtype(name) => element_type(name).map_or(Value::Other, Value::ElementType),
        ("torch", storage) => Value::StorageType(match storage {
            "FloatStorage" => F32,
            "HalfStorage" => F16,
            "BFloat16Storage" => BF16,
            "DoubleStorage" => F64,
            "LongStorage" => I64,
            "IntStorage" => I32,
            "ShortStorage" => I16,
            "CharStorage" => I8,
            "ByteStorage" => U8,
            "BoolStorage" => BOOL,
            _ => return None,
        }),
        _ => return None,
    })
}

/// Whether `name` is a torch dtype, such as `float32` or `float8_e4m3fn`.
fn is_dtype(name: &str) -> bool {
    let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name == "bool"
        || ["float", "bfloat", "complex", "int", "uint", "qint", "quint"]
            .iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(digits))
}

/// The type that torch calls `name`, of those that safetensors has.
fn element_type(name: &str) -> Option<Dtype> {
    Some(match name {
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        _ => return Dtype::from_torch_name(name),
    })
}
