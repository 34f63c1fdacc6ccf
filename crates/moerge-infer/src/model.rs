//! A model to run, by its reference: dense or MoE, with or without an adapter.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Dtype, ReadStorage, SourceFile, TensorView};

use crate::{
    decoder::{CheckpointWeights, Quantisation, Weights},
    source_weights::SourceWeights,
    tokenizer::Tokenizer,
};
use moerge_core::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, MoeFamily},
        folder::ModelFolder,
        locate::{HubCache, ModelNotFound, locate},
        role::{LayerRole, Role},
        source::Source,
        tied_head,
    },
    recipe::ModelRef,
};

/// A model folder, opened: headers, config and tokenizer, no weights.
pub struct Model {
    /// As the user wrote it.
    pub reference: String,
    /// The storage that its files are in.
    pub storage: Arc<dyn ReadStorage>,
    /// The model's folder.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What a user should know about its files.
    pub warnings: Vec<String>,
    opened: Opened,
}

enum Opened {
    Dense(Box<Source>),
    Moe(Checkpoint, Box<Description>),
}

impl Opened {
    /// Its tensors with their roles.
    fn parts(&self) -> (&Checkpoint, &Description) {
        match self {
            Self::Dense(source) => (&source.checkpoint, &source.description),
            Self::Moe(checkpoint, description) => (checkpoint, description),
        }
    }
}

impl Model {
    /// Opens `reference`: a folder, a model in the Hub's cache, or either with `+adapter`. Relative paths start at
    /// `here`.
    ///
    /// # Errors
    /// It is found nowhere, is an adapter, is of an unknown family, or its files cannot be read or do not fit each
    /// other.
    pub fn open(storage: &Arc<dyn ReadStorage>, reference: &str, here: &Path, cache: &HubCache) -> Result<Self> {
        let parsed = ModelRef::parse(reference).map_err(|why| Error::input(format!("{reference}: {why}")))?;
        let folders = locate(storage.as_ref(), &parsed, here, cache).map_err(|e: ModelNotFound| Error::from(e))?;
        let folder = ModelFolder::open(storage, &folders.model)?;
        if folder.is_adapter() {
            return Err(Error::input(format!("{} holds a LoRA adapter, not a model", folders.model.display()))
                .hint("write `model+adapter`, with the model it was trained on"));
        }
        let (config, description) = folder.description()?;
        let opened = match (MoeFamily::of(&config.model_type), &folders.adapter) {
            (Some(_), Some(_)) => {
                return Err(Error::input(format!(
                    "{reference}: an adapter applies to a dense model, and this is an MoE"
                )));
            }
            (Some(_), None) => {
                let checkpoint = Checkpoint::open(storage, &folders.model)?;
                let description = description.stored_in(&checkpoint);
                Opened::Moe(checkpoint, Box::new(description))
            }
            (None, adapter) => {
                let source = Source::open(storage, reference, &folders.model, adapter.as_deref())?;
                source.check_adapter_is_whole(|_| true)?;
                Opened::Dense(Box::new(source))
            }
        };
        let (checkpoint, description) = opened.parts();
        let warnings = tied_head::warning(checkpoint, &config, description)?.into_iter().collect();
        let tokenizer = Tokenizer::open(storage.as_ref(), &folders.model)?.with_rows(config.vocab_size);
        Ok(Self {
            reference: reference.to_owned(),
            storage: storage.clone(),
            dir: folders.model,
            config,
            tokenizer,
            warnings,
            opened,
        })
    }

    /// What its `config.json` promises.
    pub fn description(&self) -> &Description {
        self.opened.parts().1
    }

    /// The files of its weights, an adapter's too.
    pub fn weight_files(&self) -> Vec<Arc<SourceFile>> {
        let adapter = match &self.opened {
            Opened::Dense(source) => source.adapter.as_ref().map_or(&[][..], |adapter| adapter.checkpoint.files()),
            Opened::Moe(..) => &[],
        };
        self.opened.parts().0.files().iter().chain(adapter).cloned().collect()
    }

    /// The tensors of its weights, but for routers. An adapter's are not among them.
    pub fn tensors_without_routers(&self) -> impl Iterator<Item = &TensorView> {
        let (checkpoint, description) = self.opened.parts();
        let is_router = |role: Role| matches!(role, Role::Layer(_, LayerRole::Router));
        let routers: HashSet<&str> =
            description.tensors.iter().filter(|tensor| is_router(tensor.role)).map(|tensor| &tensor.name[..]).collect();
        checkpoint.tensors().filter(move |tensor| !routers.contains(&tensor.name[..]))
    }

    /// The smallest way of keeping its weights in memory that loses nothing.
    pub fn exact_quantisation(&self) -> Quantisation {
        let checkpoint = match &self.opened {
            Opened::Dense(source) if source.adapter.is_some() => return Quantisation::F32,
            opened => opened.parts().0,
        };
        let bf16 = checkpoint.tensors().all(|t| t.dtype == Dtype::BF16 || t.shape.len() < 2);
        if bf16 { Quantisation::BF16 } else { Quantisation::F32 }
    }

    /// Its weights, an adapter's merged in.
    ///
    /// # Errors
    /// A weight is missing, or cannot be read.
    pub fn weights(&self) -> Result<Box<dyn Weights + '_>> {
        Ok(match &self.opened {
            Opened::Dense(source) => Box::new(SourceWeights::new(source)?),
            Opened::Moe(checkpoint, description) => Box::new(CheckpointWeights::new(checkpoint, description)?),
        })
    }
}
