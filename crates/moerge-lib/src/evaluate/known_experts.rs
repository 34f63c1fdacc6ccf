//! What experts do on mixed documents without routers is measured once for all MoEs that differ in their routers alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use xxhash_rust::xxh3::Xxh3;

use super::scores::Estimate;
use moerge_core::{
    error::{Error, Result},
    plan::Slots,
};
use moerge_infer::model::Model;

/// What experts do on mixed documents without a router.
#[derive(Debug, Clone)]
pub(super) struct WithoutRouters {
    /// The expert of each text.
    pub of_texts: Vec<usize>,
    /// Every token goes to the expert of its text.
    pub forced: Estimate,
    /// Every document goes to the expert that predicts it best.
    pub best_single: Estimate,
}

/// What the experts of earlier MoEs did, by a hash of everything but the routers.
#[derive(Debug, Clone, Default)]
pub struct KnownExperts(Arc<Mutex<HashMap<u128, WithoutRouters>>>);

/// An MoE that reads mixed documents.
pub struct MixedMoe<'a> {
    pub(super) slots: &'a Slots,
    /// Where its experts are known, if another MoE had the same, and by what key.
    known: Option<(&'a KnownExperts, u128)>,
}

impl<'a> MixedMoe<'a> {
    /// `documents` is a hash of the documents; `precision` names how weights are kept. With `known`, all weights are read
    /// once to find MoEs with the same experts.
    ///
    /// # Errors
    /// The weights cannot be read.
    pub fn new(
        documents: u128,
        model: &Model,
        slots: &'a Slots,
        precision: &str,
        known: Option<&'a KnownExperts>,
    ) -> Result<Self> {
        let layers = model.description().decoder.layers.len();
        // Where a layer lacks an expert, its router still decides.
        let is_whole = (0..layers).all(|layer| (0..slots.experts()).all(|e| slots.slot(layer, e).is_some()));
        let with_key = |known| -> Result<_> { Ok((known, key(documents, model, precision)?)) };
        Ok(Self { slots, known: known.filter(|_| is_whole).map(with_key).transpose()? })
    }

    /// What its experts do, if an earlier MoE had the same.
    pub(super) fn known(&self) -> Option<WithoutRouters> {
        let (known, key) = self.known?;
        known.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn remember(&self, result: &WithoutRouters) {
        if let Some((known, key)) = self.known {
            known.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, result.clone());
        }
    }
}

fn key(documents: u128, model: &Model, precision: &str) -> Result<u128> {
    let config = serde_json::to_string(&model.config.raw).map_err(|e| Error::input(e.to_string()))?;
    let mut hash = Xxh3::new();
    hash.update(format!("{documents} {precision} {config}").as_bytes());
    for tensor in model.tensors_without_routers() {
        hash.update(format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape).as_bytes());
        hash.update(&tensor.content_hash()?.to_le_bytes());
    }
    Ok(hash.digest128())
}
