//! What a plan would have to fetch from the Hub.

use std::{collections::BTreeSet, path::Path};

use moerge_hub::HubStorage;
use moerge_lib::merge::Prepared;
use serde_json::{Value, json};

use super::page::row;
use crate::numbers::{bytes, count};

/// The models that are not on this machine.
pub struct OnHub {
    models: usize,
    of_models: usize,
    /// Bytes of their weight files.
    bytes: u64,
    /// Bytes of the tensors that the plan reads.
    used: u64,
}

impl OnHub {
    /// Counts them.
    pub fn of(prepared: &Prepared, remote: &HubStorage) -> Self {
        let sources = &prepared.models.sources;
        let files = || sources.iter().flat_map(|s| s.checkpoints()).flat_map(|c| c.files());
        let folders: BTreeSet<Option<&Path>> =
            files().filter(|f| remote.is_remote(&f.path)).map(|f| f.path.parent()).collect();
        let views = prepared.plan.output.tensors.iter().flat_map(|t| t.expr.reads());
        let used: BTreeSet<(&Path, u64, u64)> = views
            .filter(|v| remote.is_remote(&v.file.path))
            .map(|v| (v.file.path.as_path(), v.offset, v.len))
            .collect();
        Self {
            models: folders.len(),
            of_models: sources.len(),
            bytes: files().filter(|f| remote.is_remote(&f.path)).map(|f| f.len).sum(),
            used: used.into_iter().map(|(_, _, len)| len).sum(),
        }
    }

    /// `hub  3 of 4 models not downloaded: 43.5 GB, of which 29.0 GB are used (--no-cache reads only these)`
    pub fn line(&self) -> Option<String> {
        let what = format!("{} of {} not downloaded", self.models, count(self.of_models, "model"));
        let size =
            format!("{}, of which {} are used (--no-cache reads only these)", bytes(self.bytes), bytes(self.used));
        (self.models > 0).then(|| format!("{}       {what}: {size}", row("hub")))
    }

    /// The numbers for `--json`.
    pub fn json(&self) -> Value {
        json!({ "models": self.models, "bytes": self.bytes, "used_bytes": self.used })
    }
}
