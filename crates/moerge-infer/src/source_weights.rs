//! A source as the transformer reads it, its adapter merged in.

use std::{collections::HashMap, ops::Range};

use crate::decoder::Weights;
use moerge_core::model::source::{LoadedDelta, Source, Weight};
use moerge_core::{
    error::{Error, Result},
    model::families::{Description, Role},
    numeric::element::widen,
};

/// The weights of a source. Of an adapter the A matrices are held in memory.
pub struct SourceWeights<'a> {
    source: &'a Source,
    deltas: HashMap<Role, LoadedDelta<'a>>,
}

impl<'a> SourceWeights<'a> {
    /// Reads what has to be in memory.
    pub fn new(source: &'a Source) -> Result<Self> {
        let adapted = source.weights_by_role().filter_map(|(role, weight)| Some((role, weight.lora.as_ref()?)));
        let load = |(role, delta)| Ok((role, LoadedDelta::new(delta)?));
        Ok(Self { source, deltas: adapted.map(load).collect::<Result<_>>()? })
    }

    fn weight(&self, role: Role) -> Result<&Weight> {
        self.source.weight(role).ok_or_else(|| Error::input(format!("{} has no {role:?}", self.source.reference)))
    }
}

impl Weights for SourceWeights<'_> {
    fn description(&self) -> &Description {
        &self.source.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        let rows = self.weight(role)?.view.rows(rows)?;
        // Exactly what a tile takes: a buffer that doubles would break the promise about memory.
        raw.clear();
        raw.reserve_exact(rows.len as usize);
        raw.resize(rows.len as usize, 0);
        Ok(rows.read_at(0, raw)?)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        widen(self.weight(role)?.view.dtype, raw, out);
        self.deltas.get(&role).map_or(Ok(()), |delta| delta.add_to(rows, out))
    }
}
