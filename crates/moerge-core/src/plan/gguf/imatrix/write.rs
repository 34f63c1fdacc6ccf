//! Writes an importance matrix as llama-imatrix does.

use moerge_checkpoint::{
    Dtype, TensorSpec,
    gguf::{Metadata, Value, layout},
};

use super::ImportanceMatrix;
use crate::{error::Result, plan::gguf::PLAN_ID_KEY};

impl ImportanceMatrix {
    /// The bytes of its file, in GGUF. `id` proves that moerge made it, and tells it from others.
    ///
    /// # Errors
    /// It is larger than a file can be.
    pub fn to_bytes(&self, id: &str) -> Result<Vec<u8>> {
        let metadata: Metadata = vec![
            ("general.type".to_owned(), Value::String("imatrix".to_owned())),
            ("imatrix.datasets".to_owned(), Value::strings(self.datasets.iter().map(String::as_str))),
            ("imatrix.chunk_count".to_owned(), Value::Uint32(self.chunks)),
            ("imatrix.chunk_size".to_owned(), Value::Uint32(self.chunk_size)),
            (PLAN_ID_KEY.to_owned(), Value::String(id.to_owned())),
        ];
        let mut specs = Vec::new();
        let mut all = Vec::new();
        for (name, sums) in &self.entries {
            let matrices = sums.tokens.len();
            let columns = sums.squares.len() / matrices.max(1);
            for (part, values, columns) in [("in_sum2", &sums.squares, columns), ("counts", &sums.tokens, 1)] {
                let shape = vec![matrices, columns];
                specs.push(TensorSpec { name: format!("{name}.{part}"), encoding: Dtype::F32.into(), shape });
                all.push(values);
            }
        }
        let shards = layout("imatrix", &metadata, &[], specs, None)?.shards;
        let mut bytes = Vec::new();
        for shard in shards {
            bytes.extend_from_slice(&shard.header);
            bytes.resize(usize::try_from(shard.file_len).unwrap_or(bytes.len()), 0);
            for (place, values) in shard.tensors.iter().zip(&all) {
                let start = usize::try_from(place.offset).unwrap_or(0);
                for (out, x) in bytes[start..].as_chunks_mut::<4>().0.iter_mut().zip(values.iter()) {
                    *out = x.to_le_bytes();
                }
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use moerge_checkpoint::LocalStorage;

    use super::*;
    use crate::plan::gguf::imatrix::InputSums;

    #[test]
    fn what_is_written_is_read_back() {
        let sums = InputSums { squares: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], tokens: vec![7.0, 0.0] };
        let matrix = ImportanceMatrix {
            entries: [("blk.0.ffn_up_exps.weight".to_owned(), sums)].into(),
            datasets: vec!["self".to_owned()],
            chunk_size: 512,
            chunks: 3,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, matrix.to_bytes("id").unwrap()).unwrap();
        let (read, facts) = ImportanceMatrix::open(&LocalStorage, Path::new(&path)).unwrap();
        assert_eq!(read, matrix);
        assert_eq!((facts.name.as_str(), facts.entries, facts.chunks), ("m.gguf", Some(1), Some(3)));
    }
}
