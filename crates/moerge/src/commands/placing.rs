//! Where and how a model that is measured runs.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{LocalStorage, Storage};
use moerge_core::recipe::ModelRef;
use moerge_infer::{decoder::Quantisation, model::Model, runner::Placement};

use super::{
    folder, hub,
    running::{available, quantisation},
};
use crate::{progress::Reporter, sizes};

/// Flags of running a model over texts.
#[derive(Debug, clap::Args)]
pub struct PlacingArgs {
    /// How weights are kept in memory: f32, bf16, q8_0 or q4_k [default: bf16 where the file is, else f32]
    #[arg(long, value_name = "TYPE", value_parser = quantisation)]
    quant: Option<Quantisation>,
    /// Memory that a model's weights may take; larger models are streamed [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Stream the weights from disk in any case
    #[arg(long, conflicts_with_all = ["quant", "memory"])]
    stream: bool,
    /// Threads that compute [default: one a core]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
}

/// Where the system does not say what is free.
const USUAL_MEMORY: u64 = 4 << 30;

impl PlacingArgs {
    /// Opens the models that a user named, before anything is computed; those on the Hub are downloaded.
    pub fn open(&self, references: &[String], reporter: &Reporter) -> moerge_core::Result<Vec<Model>> {
        if let Some(threads) = self.num_threads {
            // Fails where the pool is there already, which then has a thread a core.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        }
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
        let hub = hub(reporter)?;
        let open = |reference: &String| {
            let reference = folder(Path::new(reference)).display().to_string();
            if let Ok(parsed) = ModelRef::parse(&reference) {
                hub.bring(&parsed, Path::new("."), reporter)?;
            }
            Model::open(&storage, &reference, Path::new("."), &hub.settings().cache)
        };
        references.iter().map(open).collect()
    }

    /// How `model` is to be run.
    pub fn placement(&self, model: &Model) -> Placement {
        Placement {
            quantisation: self.quant.unwrap_or_else(|| model.exact_quantisation()),
            memory: self.memory.or_else(available).unwrap_or(USUAL_MEMORY),
            stream: self.stream,
        }
    }
}

/// A model's name without the folders it lies in; an adapter's, where it has one.
pub fn short_name(reference: &str) -> &str {
    let reference = reference.trim_end_matches(['/', '\\']);
    let last = reference.rsplit(['/', '\\', '+']).next().unwrap_or(reference);
    if last.is_empty() { reference } else { last }
}
