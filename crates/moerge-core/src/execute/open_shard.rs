//! A shard that is being written. Each tensor is fingerprinted and written chunk by chunk.

use std::sync::{Mutex, PoisonError};

use moerge_checkpoint::{Dtype, Fingerprint, Fingerprinter, Shard, ShardWriter};

use super::run::{Run, ShardNumber};
use crate::{
    error::{Error, Result},
    numeric::non_finite::NonFinite,
    plan::OutputTensor,
    progress::Stage,
};

/// A shard under construction.
pub(super) struct OpenShard<'a> {
    run: &'a Run<'a>,
    number: ShardNumber,
    shard: &'a Shard,
    writer: ShardWriter,
    fingerprints: Mutex<Vec<Option<Fingerprint>>>,
}

/// A tensor of an open shard that is being written, from its first byte to its last.
pub(super) struct TensorWriter<'a> {
    shard: &'a OpenShard<'a>,
    index: usize,
    /// The tensor.
    pub tensor: &'a OutputTensor,
    fingerprint: Fingerprinter,
    offset: u64,
    /// What of its elements is not finite.
    pub non_finite: NonFinite,
}

impl<'a> OpenShard<'a> {
    /// Creates the file of a shard.
    pub fn create(run: &'a Run<'a>, number: ShardNumber) -> Result<OpenShard<'a>> {
        let shard = run.shard(number);
        let writer = ShardWriter::create(run.output(number), shard)?;
        run.progress.advance(Stage::Weights, shard.header.len() as u64);
        let fingerprints = Mutex::new(vec![None; shard.tensors.len()]);
        Ok(OpenShard { run, number, shard, writer, fingerprints })
    }

    /// Begins the tensor with this index.
    pub fn tensor(&self, index: usize) -> Result<TensorWriter<'_>> {
        let tensor = self.run.tensor(self.number, &self.shard.tensors[index].spec.name)?;
        let (fingerprint, non_finite) = (Fingerprinter::new(), NonFinite::default());
        Ok(TensorWriter { shard: self, index, tensor, fingerprint, offset: 0, non_finite })
    }

    /// Makes the shard durable under its final name.
    pub fn finish(self) -> Result<()> {
        self.check_sources()?;
        let fingerprints = self.fingerprints.into_inner().unwrap_or_else(PoisonError::into_inner);
        let names = self.shard.tensors.iter().map(|p| p.spec.name.clone());
        let fingerprints: Vec<_> = names.zip(fingerprints.into_iter().flatten()).collect();
        self.writer.finish(&fingerprints)?;
        self.run.finished(self.number, fingerprints);
        Ok(())
    }

    /// Checks that no source changed while this shard was made from it.
    fn check_sources(&self) -> Result<()> {
        let tensors = self.shard.tensors.iter().filter_map(|p| self.run.tensor(self.number, &p.spec.name).ok());
        let mut files: Vec<_> = tensors.flat_map(|t| t.expr.reads()).map(|view| &view.file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        files.into_iter().try_for_each(|file| file.check_unchanged().map_err(Error::from))
    }
}

impl TensorWriter<'_> {
    /// Writes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let OpenShard { run, writer, .. } = self.shard;
        run.check()?;
        self.fingerprint.update(bytes);
        writer.write(self.index, self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        run.progress.advance(Stage::Weights, bytes.len() as u64);
        Ok(())
    }

    /// Ends the tensor.
    pub fn finish(self) -> Result<()> {
        if self.non_finite.any() {
            self.not_finite()?;
        }
        let mut fingerprints = self.shard.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        fingerprints[self.index] = Some(self.fingerprint.finish());
        Ok(())
    }

    /// NaN and infinities are copied bit for bit with a warning, but a computed tensor with them is an error.
    fn not_finite(&self) -> Result<()> {
        let (tensor, found) = (self.tensor, self.non_finite);
        let mut files: Vec<String> = tensor.expr.reads().iter().map(|v| v.file.path.display().to_string()).collect();
        files.dedup();
        let from = files.join(", ");
        if !tensor.is_copy() {
            let error = Error::input(format!("{} came out with {found}", tensor.name)).fact("made from", from);
            return Err(if tensor.encoding == Dtype::F16 && found.nan == 0 {
                error.hint("float16 ends at 65,504: `dtype: bfloat16` has the range of float32")
            } else {
                error.hint("the sources' weights or adapters hold NaN, or a weight or scale of the recipe is too large")
            });
        }
        let warning = format!("{} has {found}, as in {from}: what goes through it is lost", tensor.name);
        self.shard.run.warn(warning);
        Ok(())
    }
}
