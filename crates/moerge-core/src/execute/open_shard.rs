//! A shard that is being written. Each tensor is read once, fingerprinted and written chunk by chunk.

use std::sync::{Mutex, PoisonError};

use moerge_checkpoint::{Dtype, Fingerprint, Fingerprinter, OutputDir, Shard, ShardWriter};

use super::{
    produce::{Buffers, produce},
    run::Run,
};
use crate::{
    error::{Error, Result},
    numeric::non_finite::NonFinite,
    ops::Preparation,
    plan::OutputTensor,
    progress::Stage,
};

/// A shard under construction.
pub(super) struct OpenShard<'a> {
    run: &'a Run<'a>,
    number: usize,
    shard: &'a Shard,
    writer: ShardWriter,
    fingerprints: Mutex<Vec<Option<Fingerprint>>>,
}

impl<'a> OpenShard<'a> {
    /// Creates the file of shard `number` of the plan's layout.
    pub fn create(run: &'a Run<'a>, output: &OutputDir, number: usize) -> Result<OpenShard<'a>> {
        let shard = &run.plan.layout.shards[number];
        let writer = ShardWriter::create(output, shard)?;
        run.progress.advance(Stage::Weights, shard.header.len() as u64);
        let fingerprints = Mutex::new(vec![None; shard.tensors.len()]);
        Ok(OpenShard { run, number, shard, writer, fingerprints })
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.shard.tensors.len()
    }

    /// Writes the tensor with this index.
    pub fn write(&self, index: usize, buffers: &mut Buffers) -> Result<()> {
        let name = self.shard.tensors[index].spec.name.as_str();
        let tensor = self.run.tensors.get(name).ok_or_else(|| Error::input(format!("the plan has no {name}")))?;
        let mut fingerprint = Fingerprinter::new();
        let mut offset = 0;
        let check = || if self.run.is_over() { Err(Error::interrupted()) } else { self.run.progress.check() };
        let preparation = Preparation { seed: self.run.plan.seed, threads: self.run.threads_each, check: &check };
        let non_finite = produce(tensor, &preparation, self.run.computed, buffers, &mut |bytes| {
            check()?;
            fingerprint.update(bytes);
            self.writer.write(index, offset, bytes)?;
            offset += bytes.len() as u64;
            self.run.progress.advance(Stage::Weights, bytes.len() as u64);
            Ok(())
        })?;
        if non_finite.any() {
            self.not_finite(tensor, non_finite)?;
        }
        self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(fingerprint.finish());
        Ok(())
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

    /// NaN and infinities are copied bit for bit with a warning, but a computed tensor with them is an error.
    fn not_finite(&self, tensor: &OutputTensor, found: NonFinite) -> Result<()> {
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
        self.run.warn(warning);
        Ok(())
    }

    /// Checks that no source changed while this shard was made from it.
    fn check_sources(&self) -> Result<()> {
        let tensors = self.shard.tensors.iter().filter_map(|p| self.run.tensors.get(p.spec.name.as_str()));
        let mut files: Vec<_> = tensors.flat_map(|t| t.expr.reads()).map(|view| &view.file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        files.into_iter().try_for_each(|file| file.check_unchanged().map_err(Error::from))
    }
}
