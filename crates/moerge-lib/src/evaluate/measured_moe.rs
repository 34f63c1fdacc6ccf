//! MoEs that differ in their routers alone: what their experts do without routers is measured once.

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

/// What was measured without routers, by a hash of everything else. MoEs that differ in their routers alone share it.
#[derive(Debug, Clone, Default)]
pub struct Measured(Arc<Mutex<HashMap<u128, WithoutRouters>>>);

/// An MoE whose experts are measured.
pub struct MeasuredMoe<'a> {
    pub(super) slots: &'a Slots,
    measured: &'a Measured,
    /// `None` where routers have a say without being asked: in layers that lack an expert.
    key: Option<u128>,
}

impl<'a> MeasuredMoe<'a> {
    /// It is to read `documents`; `precision` names how its weights are kept.
    ///
    /// # Errors
    /// The weights cannot be read.
    pub fn new(
        documents: &[Vec<u32>],
        model: &Model,
        slots: &'a Slots,
        precision: &str,
        measured: &'a Measured,
    ) -> Result<Self> {
        let layers = model.description().decoder.layers.len();
        let is_whole = (0..layers).all(|layer| (0..slots.experts()).all(|e| slots.slot(layer, e).is_some()));
        let key = is_whole.then(|| key(documents, model, precision)).transpose()?;
        Ok(Self { slots, measured, key })
    }

    /// What an earlier MoE with the same experts did.
    pub(super) fn known(&self) -> Option<WithoutRouters> {
        self.measured.0.lock().unwrap_or_else(PoisonError::into_inner).get(&self.key?).cloned()
    }

    pub(super) fn remember(&self, result: &WithoutRouters) {
        if let Some(key) = self.key {
            self.measured.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, result.clone());
        }
    }
}

fn key(documents: &[Vec<u32>], model: &Model, precision: &str) -> Result<u128> {
    let mut hash = Xxh3::new();
    documents.iter().flatten().for_each(|token| hash.update(&token.to_le_bytes()));
    hash.update(precision.as_bytes());
    let config = serde_json::to_string(&model.config.raw).map_err(|e| Error::input(e.to_string()))?;
    hash.update(config.as_bytes());
    for tensor in model.tensors_without_routers() {
        hash.update(format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape).as_bytes());
        hash.update(&tensor.content_hash()?.to_le_bytes());
    }
    Ok(hash.digest128())
}
