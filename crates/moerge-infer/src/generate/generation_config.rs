//! `generation_config.json`: stop tokens and the recommended sampling.

use std::{collections::BTreeSet, ops::RangeInclusive, path::Path};

use moerge_checkpoint::ReadStorage;
use serde_json::{Map, Value};

use super::Sampling;
use moerge_core::{
    error::Result,
    model::files::{CONFIG, GENERATION_CONFIG, parse_object, read_text},
    suggest::shorten,
};

/// A model's recommended generation settings.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer.
    pub stop: BTreeSet<u32>,
    /// Sampling; missing values are those of [`Sampling::default`].
    pub sampling: Sampling,
    /// One sentence per value that is invalid and therefore ignored.
    pub ignored: Vec<String>,
}

impl GenerationConfig {
    /// Reads the file in `dir`, if it is there. `eos_token_id` (a number or a list) is looked up in `config`, the
    /// model's `config.json`, as well.
    ///
    /// # Errors
    /// It is there, but is not a JSON object.
    pub fn open(storage: &dyn ReadStorage, dir: &Path, config: &Map<String, Value>) -> Result<Self> {
        let path = dir.join(GENERATION_CONFIG);
        let generation: Map<String, Value> = match storage.facts(&path) {
            Ok(_) => parse_object(read_text(storage, &path)?.as_bytes(), &path)
                .map_err(|e| e.hint("copy it again from where the model came from, or remove it"))?,
            Err(_) => Map::new(),
        };
        Ok(Self::new(&generation, config))
    }

    /// Adds the tokenizer's end-of-text token to the stop tokens. Chat models are trained with the one that their tokenizer
    /// names, and their configs often name another.
    pub fn with_eos(mut self, eos: Option<u32>) -> Self {
        self.stop.extend(eos);
        self
    }

    fn new(generation: &Map<String, Value>, config: &Map<String, Value>) -> Self {
        let default = Sampling::default();
        let mut values = Values { generation, ignored: Vec::new() };
        let mut stop = BTreeSet::new();
        for (file, ids) in [(GENERATION_CONFIG, generation), (CONFIG, config)] {
            let ids = match ids.get("eos_token_id") {
                None | Some(Value::Null) => continue,
                Some(Value::Array(ids)) => ids.as_slice(),
                Some(id) => std::slice::from_ref(id),
            };
            for id in ids {
                match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                    Some(id) => drop(stop.insert(id)),
                    None => values.ignore(file, "eos_token_id", id, "the number of a token"),
                }
            }
        }
        let sampling = Sampling {
            temperature: values.number("temperature", default.temperature, 0.0..=100.0),
            top_k: values.top_k(default.top_k),
            top_p: values.number("top_p", default.top_p, 0.0..=1.0),
            min_p: values.number("min_p", default.min_p, 0.0..=1.0),
            repetition_penalty: values.number("repetition_penalty", default.repetition_penalty, 0.01..=100.0),
            seed: default.seed,
        };
        Self { stop, sampling, ignored: values.ignored }
    }
}

/// The values of `generation_config.json`; invalid ones are recorded.
struct Values<'a> {
    generation: &'a Map<String, Value>,
    ignored: Vec<String>,
}

impl Values<'_> {
    fn ignore(&mut self, file: &str, key: &str, found: &Value, expected: &str) {
        let found = shorten(&found.to_string());
        self.ignored.push(format!("`{key}` in {file} is {found}, expected {expected}; it is ignored"));
    }

    fn number(&mut self, key: &str, default: f32, range: RangeInclusive<f32>) -> f32 {
        let Some(value) = self.generation.get(key).filter(|value| !value.is_null()) else { return default };
        match value.as_f64().map(|x| x as f32).filter(|x| range.contains(x)) {
            Some(x) => x,
            None => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                self.ignore(GENERATION_CONFIG, key, value, &expected);
                default
            }
        }
    }

    fn top_k(&mut self, default: usize) -> usize {
        let Some(value) = self.generation.get("top_k").filter(|value| !value.is_null()) else { return default };
        match value.as_u64().and_then(|k| usize::try_from(k).ok()) {
            Some(k) => k,
            None => {
                self.ignore(GENERATION_CONFIG, "top_k", value, "a whole number, 0 or above");
                default
            }
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
        assert_eq!(both.ignored, [""; 0]);
        assert_eq!(read(r#"{"top_p": null, "eos_token_id": null}"#, "{}").ignored, [""; 0]);
        let nonsense =
            read(r#"{"eos_token_id": "x", "top_p": 7, "temperature": "hot", "top_k": -1}"#, r#"{"eos_token_id": 1.5}"#);
        assert_eq!((&nonsense.stop, nonsense.sampling), (&BTreeSet::new(), Sampling::default()));
        assert_eq!(
            nonsense.ignored,
            [
                "`eos_token_id` in generation_config.json is \"x\", expected the number of a token; it is ignored",
                "`eos_token_id` in config.json is 1.5, expected the number of a token; it is ignored",
                "`temperature` in generation_config.json is \"hot\", expected a number from 0 to 100; it is ignored",
                "`top_k` in generation_config.json is -1, expected a whole number, 0 or above; it is ignored",
                "`top_p` in generation_config.json is 7, expected a number from 0 to 1; it is ignored",
            ]
        );
    }
}
