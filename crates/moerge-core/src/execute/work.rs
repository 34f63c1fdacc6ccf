//! The work on a tensor: its rows are read and computed once, and written to every place that it has.

use std::sync::Arc;

use super::{
    open_shard::{OpenShard, TensorWriter},
    produce::{Buffers, produce},
    run::Run,
};
use crate::{error::Result, ops::Preparation};

/// A tensor that is to be written.
pub(super) struct Work<'a> {
    /// The shards that it is in, and its index in each.
    pub places: Vec<(Arc<OpenShard<'a>>, usize)>,
}

impl Work<'_> {
    /// Writes the tensor.
    pub fn write(&self, run: &Run<'_>, buffers: &mut Buffers) -> Result<()> {
        let check = || run.check();
        let preparation = Preparation { seed: run.seed, threads: run.threads_each, check: &check };
        let writers = self.places.iter().map(|(shard, index)| shard.tensor(*index));
        let mut writers = writers.collect::<Result<Vec<TensorWriter<'_>>>>()?;
        produce(&mut writers, &preparation, run.computed, buffers)?;
        writers.into_iter().try_for_each(TensorWriter::finish)
    }
}
