//! The tokens that end an answer.

use std::{collections::BTreeSet, path::Path};

use checkpoint::Storage;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    source::read_text,
};

/// `eos_token_id` of `generation_config.json` and of `config.json` (`config`): a number or a list.
pub fn stop_tokens(storage: &dyn Storage, dir: &Path, config: &Map<String, Value>) -> Result<BTreeSet<u32>> {
    let path = dir.join("generation_config.json");
    let generation: Map<String, Value> = match storage.facts(&path) {
        Ok(_) => serde_json::from_str(&read_text(storage, &path)?)
            .map_err(|e| Error::input(format!("{} is not a JSON object: {e}", path.display())))?,
        Err(_) => Map::new(),
    };
    let ids = [&generation, config].into_iter().filter_map(|c| c.get("eos_token_id")).flat_map(|ids| match ids {
        Value::Array(ids) => ids.clone(),
        id => vec![id.clone()],
    });
    Ok(ids.filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect())
}
