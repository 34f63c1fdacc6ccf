//! Reads llama.cpp's files of importance matrices.

use std::path::Path;

use moerge_checkpoint::{
    Dtype, Encoding, ReadStorage,
    gguf::{GgufFile, GgufTensor, MAGIC, Value},
};

use super::{ImatrixFacts, ImportanceMatrix, InputSums};
use crate::{
    error::{Error, Result},
    model::files::read_bytes,
};

impl ImportanceMatrix {
    /// Reads the file at `path`, in either format.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(storage: &dyn ReadStorage, path: &Path) -> Result<(Self, ImatrixFacts)> {
        let bytes = read_bytes(storage, path)?;
        let broken = |why: String| Error::input(format!("{} is not an importance matrix: {why}", path.display()));
        let matrix = if bytes.starts_with(&MAGIC) {
            let file = GgufFile::open(storage, path)?;
            Self::from_gguf(&file, &bytes).map_err(broken)?
        } else {
            Self::from_dat(&bytes).ok_or_else(|| broken("it is neither GGUF nor llama.cpp's .dat".to_owned()))?
        };
        let all = |sums: &InputSums| sums.squares.iter().chain(&sums.tokens).all(|x| x.is_finite());
        if let Some((name, _)) = matrix.entries.iter().find(|(_, sums)| !all(sums)) {
            return Err(Error::input(format!("{}: the sums of {name} are not finite", path.display())));
        }
        let mut id = crate::ops::Identity::default();
        id.bytes(&bytes);
        let facts = ImatrixFacts {
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            dataset: matrix.datasets.first().cloned(),
            entries: Some(matrix.entries.len()),
            chunks: Some(matrix.chunks).filter(|chunks| *chunks > 0),
            identity: id.finish(),
        };
        Ok((matrix, facts))
    }

    fn from_gguf(file: &GgufFile, bytes: &[u8]) -> Result<Self, String> {
        let mut matrix = Self::default();
        let count = |key: &str| file.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        matrix.chunks = count("imatrix.chunk_count");
        matrix.chunk_size = count("imatrix.chunk_size");
        if let Some(Value::Array(_, names)) = file.get("imatrix.datasets") {
            matrix.datasets = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        for tensor in &file.tensors {
            if let Some(name) = tensor.name.strip_suffix(".in_sum2") {
                matrix.entries.entry(name.to_owned()).or_default().squares = floats(tensor, bytes)?;
            } else if let Some(name) = tensor.name.strip_suffix(".counts") {
                matrix.entries.entry(name.to_owned()).or_default().tokens = floats(tensor, bytes)?;
            }
        }
        let whole = |sums: &InputSums| {
            let matrices = sums.tokens.len();
            matrices > 0 && !sums.squares.is_empty() && sums.squares.len().is_multiple_of(matrices)
        };
        match matrix.entries.iter().find(|(_, sums)| !whole(sums)) {
            Some((name, _)) => Err(format!("sums and counts of {name} do not belong together")),
            None if matrix.entries.is_empty() => Err("it has no tensor NAME.in_sum2".to_owned()),
            None => Ok(matrix),
        }
    }

    /// The older format: numbers are little-endian, sums are divided by tokens and multiplied by calls.
    fn from_dat(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let entries = int(&mut rest)?;
        let mut matrix = Self::default();
        for _ in 0..entries {
            let length = int(&mut rest)?;
            let name = String::from_utf8_lossy(take(&mut rest, length)?).into_owned();
            let calls = int(&mut rest)?;
            let values = int(&mut rest)?;
            let values = take(&mut rest, values.checked_mul(4)?)?.as_chunks::<4>().0;
            let squares: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if squares.is_empty() {
                return None;
            }
            // Without calls the numbers are means.
            matrix.entries.insert(name, InputSums { squares, tokens: vec![calls.max(1) as f32] });
        }
        if let Some(chunks) = int(&mut rest) {
            matrix.chunks = u32::try_from(chunks).ok()?;
            let name = int(&mut rest).and_then(|length| take(&mut rest, length));
            matrix.datasets.extend(name.map(|name| String::from_utf8_lossy(name).into_owned()));
        }
        (entries > 0).then_some(matrix)
    }
}

/// The next 32-bit number from 0 on.
fn int(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?;
    usize::try_from(i32::from_le_bytes(*bytes.first_chunk()?)).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, later) = rest.split_at_checked(length)?;
    *rest = later;
    Some(taken)
}

fn floats(tensor: &GgufTensor, bytes: &[u8]) -> Result<Vec<f32>, String> {
    if tensor.encoding != Some(Encoding::Plain(Dtype::F32)) {
        return Err(format!("{} is not f32", tensor.name));
    }
    let values = usize::try_from(tensor.offset).ok().zip(usize::try_from(tensor.len).ok());
    let values = values.and_then(|(offset, len)| bytes.get(offset..offset.checked_add(len)?));
    let values = values.ok_or_else(|| format!("{} lies outside the file", tensor.name))?;
    Ok(values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_is_read_and_its_ends_are_checked() {
        let int = |n: i32| n.to_le_bytes().to_vec();
        let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        let file = [
            int(1),
            int(1),
            b"a".to_vec(),
            int(2),
            int(3),
            floats(&[1.0, 2.0, 4.0]),
            int(7),
            int(5),
            b"t.txt".to_vec(),
        ]
        .concat();
        let matrix = ImportanceMatrix::from_dat(&file).unwrap();
        assert_eq!(matrix.entries["a"], InputSums { squares: vec![1.0, 2.0, 4.0], tokens: vec![2.0] });
        assert_eq!((matrix.chunks, matrix.datasets), (7, vec!["t.txt".to_owned()]));
        for end in 0..file.len() - 13 {
            assert_eq!(ImportanceMatrix::from_dat(&file[..end]), None, "{end}");
        }
    }
}
