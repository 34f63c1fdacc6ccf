//! The weights of GGUF files as one safetensors file, whose bytes are made when they are read: tensors under Hugging
//! Face's names, experts one by one, rows of q and k in its order, blocks as f32.

use std::{io, ops::Range, sync::Arc};

use moerge_checkpoint::{BlockType, Dtype, Encoding, ReadAt, ShardLayout, TensorSpec};

use super::rows::from_pairs;
use crate::{
    error::Result,
    numeric::blocks::{decode_row, row_bytes},
};

/// A tensor of the safetensors file.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its elements are.
    pub source: Source,
}

/// Where the elements of a tensor are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In one of the GGUF files.
    Stored(Stored),
    /// Nowhere: they are zeros.
    Zeros,
}

/// Elements in a GGUF file.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Index of the file.
    pub file: usize,
    /// The first byte, from the start of the file.
    pub offset: u64,
    /// How they are stored.
    pub encoding: Encoding,
    /// Elements of a row.
    pub columns: usize,
    /// The width of a head if the rows are those of q or k, in llama.cpp's order.
    pub head_dim: Option<usize>,
}

/// The safetensors file.
pub(super) struct Weights {
    files: Vec<Arc<dyn ReadAt>>,
    header: Vec<u8>,
    /// The tensors by their place in the file.
    tensors: Vec<(Range<u64>, Source)>,
    len: u64,
}

impl Source {
    /// How the elements are stored.
    pub fn encoding(&self) -> Option<Encoding> {
        match self {
            Self::Stored(stored) => Some(stored.encoding),
            Self::Zeros => None,
        }
    }

    /// The dtype of the elements as they are read.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Stored(Stored { encoding: Encoding::Plain(dtype), .. }) => *dtype,
            Self::Stored(_) | Self::Zeros => Dtype::F32,
        }
    }
}

impl Weights {
    /// The file of `tensors`, whose elements are in `files`.
    ///
    /// # Errors
    /// Two tensors have one name, or they are larger than a file can be.
    pub fn new(files: Vec<Arc<dyn ReadAt>>, tensors: Vec<Tensor>) -> Result<Self> {
        let spec = |tensor: &Tensor| TensorSpec {
            name: tensor.name.clone(),
            encoding: tensor.source.dtype().into(),
            shape: tensor.shape.clone(),
        };
        let mut sources: std::collections::HashMap<String, Source> =
            tensors.iter().map(|tensor| (tensor.name.clone(), tensor.source.clone())).collect();
        let layout = ShardLayout::new(tensors.iter().map(spec).collect(), u64::MAX)?;
        let shard = layout.shards.into_iter().next();
        let (header, placements, len) =
            shard.map_or_else(Default::default, |shard| (shard.header, shard.tensors, shard.file_len));
        let tensors = placements
            .into_iter()
            .filter_map(|place| Some((place.offset..place.offset + place.len, sources.remove(&place.spec.name)?)));
        Ok(Self { files, header, tensors: tensors.filter(|(bytes, _)| !bytes.is_empty()).collect(), len })
    }
}

impl ReadAt for Weights {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let header = self.header.len() as u64;
        let part = |bytes: &Range<u64>| {
            let (first, last) = (bytes.start.max(offset), bytes.end.min(end));
            (first < last).then_some(first..last)
        };
        let place = |bytes: &Range<u64>| (bytes.start - offset) as usize..(bytes.end - offset) as usize;
        if let Some(bytes) = part(&(0..header)) {
            buffer[place(&bytes)].copy_from_slice(&self.header[bytes.start as usize..bytes.end as usize]);
        }
        let first = self.tensors.partition_point(|(bytes, _)| bytes.end <= offset);
        for (bytes, source) in &self.tensors[first..] {
            let Some(wanted) = part(bytes) else { break };
            let out = &mut buffer[place(&wanted)];
            match source {
                Source::Zeros => out.fill(0),
                Source::Stored(stored) => self.read(stored, wanted.start - bytes.start, out)?,
            }
        }
        Ok(())
    }
}

impl Weights {
    /// Fills `out` with the bytes of a tensor from byte `first` on.
    fn read(&self, stored: &Stored, first: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(head_dim) = stored.head_dim else { return self.read_run(stored, first, out) };
        let width = stored.columns as u64 * width(stored.encoding);
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (row, within) = ((at / width) as usize, at % width);
            let (now, later) = rest.split_at_mut(rest.len().min((width - within) as usize));
            self.read_run(stored, from_pairs(row, head_dim) as u64 * width + within, now)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// The same in the order of the GGUF file.
    fn read_run(&self, stored: &Stored, first: u64, out: &mut [u8]) -> io::Result<()> {
        let file = &self.files[stored.file];
        let block = match stored.encoding {
            Encoding::Plain(_) => return file.read_exact_at(out, stored.offset + first),
            Encoding::Blocks(block) => block,
        };
        let width = width(stored.encoding);
        let each = block.elements() as u64;
        let elements = first / width..(first + out.len() as u64).div_ceil(width);
        let blocks = elements.start / each..elements.end.div_ceil(each);
        let values = decoded(block, file.as_ref(), stored.offset, blocks.clone())?;
        let skip = (first - blocks.start * each * width) as usize;
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).skip(skip);
        out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = byte);
        Ok(())
    }
}

/// The blocks `blocks` of those that begin at `offset`.
fn decoded(block: BlockType, file: &dyn ReadAt, offset: u64, blocks: Range<u64>) -> io::Result<Vec<f32>> {
    let count = (blocks.end - blocks.start) as usize;
    let mut values = vec![0.0; count * block.elements()];
    let mut bytes = vec![0; row_bytes(block, values.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset + blocks.start * block.bytes() as u64)?;
    decode_row(block, &bytes, &mut values).map_err(io::Error::other)?;
    Ok(values)
}

/// Bytes of an element as it is read.
fn width(encoding: Encoding) -> u64 {
    match encoding {
        Encoding::Plain(dtype) => u64::from(dtype.size_bits()) / 8,
        Encoding::Blocks(_) => 4,
    }
}
