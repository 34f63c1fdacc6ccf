//! The model that becomes a GGUF file: its config, and how each of its weights is made.

use std::{collections::HashMap, path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, ReadStorage};

use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, Role, describe},
        files::{CONFIG, read_text},
    },
    ops::{Expr, Identity},
    plan::OutputPlan,
};

/// A model as a GGUF file needs it.
#[derive(Debug)]
pub struct GgufModel {
    /// Its config.
    pub config: ModelConfig,
    /// What the config describes.
    pub description: Description,
    /// Seed of noise and of random values.
    pub seed: u64,
    /// What decides over computed weights besides their expressions: the identity of the merge.
    pub identity: String,
    weights: HashMap<Role, Expr>,
}

impl GgufModel {
    /// The model in a folder.
    ///
    /// # Errors
    /// It cannot be read, is of a family that moerge does not know, or lacks tensors.
    pub fn open(storage: &Arc<dyn ReadStorage>, dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let config = ModelConfig::parse(&read_text(storage.as_ref(), &path)?, &path)?;
        let described = describe(&config)?;
        let checkpoint = Checkpoint::open(storage, dir)?;
        let description = described.stored_in(&checkpoint);
        let weight =
            |tensor: &crate::model::families::RoleTensor| Ok((tensor.role, Expr::View(tensor.find(&checkpoint)?)));
        let weights = description.tensors.iter().map(weight).collect::<Result<_>>()?;
        Ok(Self { config, description, seed: 0, identity: String::new(), weights })
    }

    /// The model that `plan` makes. `identity` is that of the merge.
    ///
    /// # Errors
    /// It is of a family that moerge does not know.
    pub fn planned(plan: &OutputPlan, dir: &Path, identity: String) -> Result<Self> {
        let text = serde_json::to_string(&plan.config).unwrap_or_default();
        let config = ModelConfig::parse(&text, &dir.join(CONFIG))?;
        let mut description = describe(&config)?;
        let by_name: HashMap<&str, _> = plan.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        if let Some(head) = by_name.get("lm_head.weight").filter(|_| description.decoder.tied_embeddings) {
            description.add_head(&head.shape);
        }
        let mut weights = HashMap::new();
        for tensor in &description.tensors {
            let made = by_name
                .get(tensor.name.as_str())
                .ok_or_else(|| Error::input(format!("the merged model has no tensor {}", tensor.name)))?;
            let expr = match tensor.part_of {
                None => made.expr.clone(),
                Some(_) => Expr::RowMap {
                    input: Box::new(made.expr.clone()),
                    map: tensor.rows().map(Some).collect(),
                    shape: tensor.shape.clone(),
                },
            };
            weights.insert(tensor.role, expr);
        }
        Ok(Self { config, description, seed: plan.seed, identity, weights })
    }

    /// How the weight of a role is made.
    ///
    /// # Errors
    /// The model has none.
    pub fn weight(&self, role: Role) -> Result<Expr> {
        self.weights.get(&role).cloned().ok_or_else(|| Error::input(format!("the model has no weight {role:?}")))
    }

    /// Adds what determines the weights to `id`.
    ///
    /// # Errors
    /// A source cannot be read.
    pub fn identify(&self, id: &mut Identity) -> Result<()> {
        id.text(env!("CARGO_PKG_VERSION")).text(&self.identity).number(self.seed);
        self.description.tensors.iter().filter_map(|tensor| self.weights.get(&tensor.role)).try_for_each(|w| id.expr(w))
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.description.decoder.layers.len()
    }
}
