//! What can be wrong with a file of pickled weights.

use std::io;

use crate::shown::shown;

/// Why a `pytorch_model.bin` is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // What a field holds is what the sentence shows in its place.
pub enum PickleError {
    /// The system refused to read.
    #[error("it cannot be read: {0}")]
    Read(String, io::ErrorKind),
    /// Neither a zip nor the older format.
    #[error("it is no file of torch.save")]
    NotATorchFile,
    /// The format before PyTorch 1.6.
    #[error("it is in the format of PyTorch before 1.6, which is not a zip")]
    Legacy,
    /// The zip is damaged.
    #[error("its zip is damaged: {0}")]
    Zip(String),
    /// Written on a machine of another kind.
    #[error("its numbers are {0}-endian, only little-endian ones are read")]
    ByteOrder(String),
    /// The pickle names something that runs code or reaches the system.
    #[error("it calls `{}`, which has no place among weights", shown(.0))]
    Dangerous(String),
    /// The pickle names a class or a function that is not known here.
    #[error("it needs `{}`, which is not known as a part of weights", shown(.0))]
    Unknown(String),
    /// The pickle does something that rebuilding tensors does not need.
    #[error("its pickle does what weights do not need: {what} (byte {at} of data.pkl)")]
    Opcode { what: String, at: usize },
    /// The pickle is damaged.
    #[error("its pickle is damaged: {what} (byte {at} of data.pkl)")]
    Damaged { what: String, at: usize },
    /// Something beside tensors.
    #[error("`{}` in it is {found}, expected a tensor", shown(name))]
    NotATensor { name: String, found: &'static str },
    /// Not tensors by name at all.
    #[error("it holds {0}, expected tensors by name")]
    NotADict(&'static str),
    /// Two tensors of one name.
    #[error("tensor `{}` occurs twice", shown(.0))]
    DuplicateName(String),
    /// The bytes of a tensor do not follow each other.
    #[error(
        "tensor `{}` of shape {shape:?} has the strides {stride:?}: its bytes do not follow each other",
        shown(name)
    )]
    Strides { name: String, shape: Vec<usize>, stride: Vec<i64> },
    /// A tensor is not inside its storage, or the storage is not there.
    #[error("tensor `{}` is not inside the file: {what}", shown(name))]
    Place { name: String, what: String },
}

/// Modules that no weights need and that run code, read or write files, or reach the network.
const DANGEROUS: [&str; 24] = [
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "builtins",
    "__builtin__",
    "shutil",
    "socket",
    "importlib",
    "runpy",
    "pty",
    "code",
    "codeop",
    "ctypes",
    "pickle",
    "_pickle",
    "operator",
    "functools",
    "webbrowser",
    "urllib",
    "http",
    "requests",
    "asyncio",
];
/// Functions of torch that load or run code.
const DANGEROUS_FUNCTIONS: [&str; 4] = ["torch.load", "torch.hub.load", "torch.jit.load", "torch.compile"];

impl PickleError {
    /// For a name that weights have no use for: dangerous, or only unknown.
    pub(crate) fn global(module: &str, name: &str) -> PickleError {
        let full = format!("{module}.{name}");
        let top = module.split('.').next().unwrap_or(module);
        if DANGEROUS.contains(&top) || DANGEROUS_FUNCTIONS.contains(&full.as_str()) {
            PickleError::Dangerous(full)
        } else {
            PickleError::Unknown(full)
        }
    }
}
