//! A tensor in a source file: name, type, shape, offset and length. It holds no bytes and is cheap to
//! clone; the bytes are read on request.

use std::ops::Range;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::error::{Error, Result, io_at};
use crate::source_file::SourceFile;

/// A tensor, or some of its rows, in a file.
#[derive(Clone, Debug)]
pub struct TensorView {
    /// The tensor's name in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The file that holds it.
    pub file: Arc<SourceFile>,
    /// Its first byte, from the start of the file.
    pub offset: u64,
    /// Its size in bytes.
    pub len: u64,
}

impl TensorView {
    /// A view of the indices `range` of the first dimension, which are contiguous. May be empty.
    ///
    /// # Errors
    /// The tensor is a scalar or has fewer rows, or the rows do not start at whole bytes (for types
    /// narrower than a byte).
    pub fn rows(&self, range: Range<usize>) -> Result<TensorView> {
        self.narrowed(&range).ok_or_else(|| Error::NoSuchRows {
            tensor: self.name.clone(),
            shape: self.shape.clone(),
            start: range.start,
            end: range.end,
        })
    }

    fn narrowed(&self, range: &Range<usize>) -> Option<TensorView> {
        let (&rows, row_shape) = self.shape.split_first()?;
        if range.start > range.end || range.end > rows {
            return None;
        }
        let bytes_of = |rows: usize| {
            let mut shape = vec![rows];
            shape.extend_from_slice(row_shape);
            let len = self.dtype.tensor_bytes(&shape).ok()?;
            Some((shape, len))
        };
        let (_, before) = bytes_of(range.start)?;
        let (shape, len) = bytes_of(range.end - range.start)?;
        Some(TensorView { shape, offset: self.offset + before, len, ..self.clone() })
    }

    /// Fills `buffer` with the tensor's bytes from `offset` on.
    ///
    /// # Errors
    /// They exceed the tensor, or the file cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let len = buffer.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let tensor = self.name.clone();
            return Err(Error::OutOfBounds { tensor, offset, len, tensor_len: self.len });
        }
        let path = &self.file.path;
        self.file.handle()?.read_exact_at(buffer, self.offset + offset).map_err(io_at("read", path))
    }

    /// A hash of all bytes of the tensor.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn content_hash(&self) -> Result<u128> {
        self.file.hash_of(self.offset, self.len)
    }

    /// Reads all bytes of the tensor.
    ///
    /// # Errors
    /// They do not fit into memory, or the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let too_large = || Error::TooLargeForMemory { tensor: self.name.clone(), len: self.len };
        let len = usize::try_from(self.len).map_err(|_| too_large())?;
        // Check whether there is room: `vec!` gets zeroed pages from the system without touching them, but
        // aborts the process if it fails.
        Vec::<u8>::new().try_reserve_exact(len).map_err(|_| too_large())?;
        let mut bytes = vec![0; len];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&dim| dim as u64).product()
    }
}
