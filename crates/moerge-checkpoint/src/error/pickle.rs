//! Errors of pickled weights.

use std::io;

use crate::shown::shown;

/// Why a `pytorch_model.bin` is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages show what the fields mean.
pub enum PickleError {
    /// An I/O error.
    #[error("it cannot be read: {0}")]
    Read(String, io::ErrorKind),
    /// Neither a zip nor the format before PyTorch 1.6.
    #[error("it was not written by torch.save")]
    NotATorchFile,
    /// The format before PyTorch 1.6.
    #[error("it is in the format of PyTorch before 1.6, which is not a zip")]
    Legacy,
    /// The zip is damaged.
    #[error("its zip is damaged: {0}")]
    Zip(String),
    /// Written on a big-endian machine.
    #[error("its numbers are {0}-endian, only little-endian ones are read")]
    ByteOrder(String),
    /// The pickle refers to something that runs code or accesses the system.
    #[error("it calls `{}`, which weights do not need", shown(.0))]
    Dangerous(String),
    /// The pickle refers to an unknown class or function.
    #[error("it needs `{}`, which moerge does not know as part of weights", shown(.0))]
    Unknown(String),
    /// The pickle does something that is not needed to rebuild tensors.
    #[error("its pickle does something that weights do not need: {what} (byte {at} of data.pkl)")]
    Opcode { what: String, at: usize },
    /// The pickle is damaged.
    #[error("its pickle is damaged: {what} (byte {at} of data.pkl)")]
    Damaged { what: String, at: usize },
    /// A value that is not a tensor.
    #[error("`{}` in it is {found}, expected a tensor", shown(name))]
    NotATensor { name: String, found: &'static str },
    /// The root is not a dict of tensors by name.
    #[error("it holds {0}, expected tensors by name")]
    NotADict(&'static str),
    /// Two tensors have the same name.
    #[error("tensor `{}` occurs twice", shown(.0))]
    DuplicateName(String),
    /// The elements of a tensor are not contiguous.
    #[error(
        "tensor `{}` of shape {shape:?} has the strides {stride:?}: its bytes do not follow each other",
        shown(name)
    )]
    Strides { name: String, shape: Vec<usize>, stride: Vec<i64> },
    /// A tensor exceeds its storage, or the storage is missing.
    #[error("tensor `{}` is not inside the file: {what}", shown(name))]
    Place { name: String, what: String },
}

/// Modules that run code or access files or the network; weights need none of them.
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
    /// The error for a global that weights do not need: dangerous or merely unknown.
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
