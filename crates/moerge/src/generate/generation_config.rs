//! `generation_config.json`: which tokens end an answer, and how the model's makers want it sampled.

use std::{collections::BTreeSet, path::Path};

use checkpoint::Storage;
use serde_json::{Map, Value};

use super::Sampling;
use crate::{
    error::{Error, Result},
    source::read_text,
};

/// What a model's makers say about generating with it.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer.
    pub stop: BTreeSet<u32>,
    /// Sampling; what the file leaves out is [`Sampling::default`]'s.
    pub sampling: Sampling,
}

impl GenerationConfig {
    /// Reads the file in `dir`, if it is there. `eos_token_id` (a number or a list) is looked up in `config`, the
    /// model's `config.json`, as well.
    pub fn open(storage: &dyn Storage, dir: &Path, config: &Map<String, Value>) -> Result<Self> {
        let path = dir.join("generation_config.json");
        let generation: Map<String, Value> = match storage.facts(&path) {
            Ok(_) => serde_json::from_str(&read_text(storage, &path)?)
                .map_err(|e| Error::input(format!("{} is not a JSON object: {e}", path.display())))?,
            Err(_) => Map::new(),
        };
        Ok(Self::new(&generation, config))
    }

    fn new(generation: &Map<String, Value>, config: &Map<String, Value>) -> Self {
        let ids = [generation, config].into_iter().filter_map(|c| c.get("eos_token_id")).flat_map(|ids| match ids {
            Value::Array(ids) => ids.clone(),
            id => vec![id.clone()],
        });
        let number = |key: &str, default: f32, range: std::ops::RangeInclusive<f32>| {
            let given = generation.get(key).and_then(Value::as_f64).map(|x| x as f32);
            given.filter(|x| range.contains(x)).unwrap_or(default)
        };
        let default = Sampling::default();
        let top_k = generation.get("top_k").and_then(Value::as_u64).and_then(|k| usize::try_from(k).ok());
        Self {
            stop: ids.filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect(),
            sampling: Sampling {
                temperature: number("temperature", default.temperature, 0.0..=100.0),
                top_k: top_k.unwrap_or(default.top_k),
                top_p: number("top_p", default.top_p, 0.0..=1.0),
                min_p: number("min_p", default.min_p, 0.0..=1.0),
                repetition_penalty: number("repetition_penalty", default.repetition_penalty, 0.01..=100.0),
                seed: default.seed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_say_what_ends_an_answer() {
        let object = |text| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let read = |generation, config| GenerationConfig::new(&object(generation), &object(config));
        let both = read(r#"{"eos_token_id": [2, 7], "temperature": 0.2, "top_k": 40}"#, r#"{"eos_token_id": 1}"#);
        assert_eq!(both.stop, BTreeSet::from([1, 2, 7]));
        assert_eq!((both.sampling.temperature, both.sampling.top_k), (0.2, 40));
        let nonsense = read(r#"{"eos_token_id": "x", "top_p": 7, "temperature": -1}"#, r#"{"eos_token_id": null}"#);
        assert_eq!(nonsense, GenerationConfig { stop: BTreeSet::new(), sampling: Sampling::default() });
    }
}
