//! Arguments of `eval` and `route`: whether a model runs in memory or is streamed, and how its weights are stored.

use std::path::Path;

use moerge_core::recipe::ModelRef;
use moerge_infer::{decoder::Quantisation, model::Model, runner::Placement};

use super::{
    folder, hub,
    running::{available, quantisations},
    storages::models,
    use_threads,
};
use crate::{progress::Reporter, sizes};

/// Where and how a model runs.
#[derive(Debug, clap::Args)]
pub struct PlacingArgs {
    /// Weight type in memory [default: bf16 if the file has it, else f32]
    #[arg(long, value_name = "TYPE", value_parser = quantisations(), ignore_case = true)]
    quant: Option<Quantisation>,
    /// Memory for a model's weights; larger models are streamed [default: free memory]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory)]
    memory: Option<u64>,
    /// Always stream the weights from disk
    #[arg(long, conflicts_with_all = ["quant", "memory"])]
    stream: bool,
    /// Number of threads [default: one per core]
    #[arg(short = 'j', long, value_name = "N", value_parser = sizes::threads)]
    num_threads: Option<u16>,
}

/// Used if the system does not report its free memory.
const FALLBACK_MEMORY: u64 = 4 << 30;

impl PlacingArgs {
    /// Opens the models before anything is computed. Those on the Hub are downloaded.
    pub fn open(&self, references: &[String], reporter: &Reporter) -> moerge_core::Result<Vec<Model>> {
        use_threads(self.num_threads.map(usize::from));
        let storage = models();
        let hub = hub(reporter)?;
        let open = |reference: &String| {
            let reference = folder(Path::new(reference)).display().to_string();
            if let Ok(parsed) = ModelRef::parse(&reference) {
                hub.ensure_downloaded(storage.as_ref(), &parsed, Path::new("."), reporter)?;
            }
            let model = Model::open(&storage, &reference, Path::new("."), &hub.settings().cache)?;
            model.warnings.iter().for_each(|warning| reporter.warning(warning));
            Ok(model)
        };
        references.iter().map(open).collect()
    }

    /// How to run `model`.
    pub fn placement(&self, model: &Model) -> Placement {
        Placement {
            quantisation: self.quant.unwrap_or_else(|| model.exact_quantisation()),
            memory: self.memory.or_else(available).unwrap_or(FALLBACK_MEMORY),
            stream: self.stream,
        }
    }
}

/// The last part of a model's path or id; with an adapter, the last part of the adapter's.
pub fn short_name(reference: &str) -> &str {
    let reference = reference.trim_end_matches(['/', '\\']);
    let last = reference.rsplit(['/', '\\', '+']).next().unwrap_or(reference);
    if last.is_empty() { reference } else { last }
}
