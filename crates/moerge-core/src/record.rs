//! `moerge.json`: where every tensor of a written MoE came from, and a fingerprint of its bytes.
//!
//! It is next to the weights. `moerge verify` compares the weights with it; `moerge inspect` shows it. It contains no
//! date and nothing about the machine: the same recipe and sources give the same file.

use std::fmt::Write as _;

use moerge_checkpoint::{Dtype, Fingerprint};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    json_error::json_problem,
};

/// The file's name in the model folder.
pub const MOERGE_JSON: &str = "moerge.json";

/// The version of the format that this moerge writes.
const FORMAT: u32 = 1;

/// The contents of a `moerge.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoergeJson {
    /// Version of the file's format.
    pub format: u32,
    /// The version of moerge that wrote it, such as `0.1.0`.
    pub moerge_version: String,
    /// The identity of the plan: equal for equal recipes and sources.
    pub plan_id: String,
    /// The recipe, as the user wrote it.
    pub recipe: String,
    /// The models and adapters that were read.
    pub sources: Vec<SourceRecord>,
    /// Every tensor of the output, in file order.
    pub tensors: Vec<TensorRecord>,
}

/// A model or adapter that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its reference in the recipe: a path or `org/name@revision`.
    pub reference: String,
    /// Name of the folder that was read.
    pub folder: String,
    /// Its weight files.
    pub files: Vec<FileRecord>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in the folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A tensor of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Its name.
    pub name: String,
    /// Its element type, spelled as in the safetensors header.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// XXH3-128 of its bytes.
    pub fingerprint: Fingerprint,
    /// The source tensors, `source: tensor`: several for a merged adapter, none for a computed router.
    pub from: Vec<String>,
}

impl MoergeJson {
    /// The record of a run of this version of moerge.
    pub fn new(plan_id: impl Into<String>, recipe: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            moerge_version: env!("CARGO_PKG_VERSION").to_owned(),
            plan_id: plan_id.into(),
            recipe: recipe.into(),
            sources: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Parses the text of a `moerge.json`; `name` is only for messages.
    ///
    /// # Errors
    /// It is not a record, or is of a later version.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let parsed: Self = serde_json::from_str(text).map_err(|e| {
            Error::input(format!("{name} is not a record of moerge: {}", json_problem(&e)))
                .hint("delete it if you don't need it; the weights can be checked without it")
        })?;
        if parsed.format > FORMAT {
            return Err(Error::input(format!("{name} has format {}, this moerge reads up to {FORMAT}", parsed.format))
                .hint(format!("it was written by moerge {}; use that version or a later one", parsed.moerge_version)));
        }
        Ok(parsed)
    }

    /// Encodes the file as JSON with one source or tensor per line, so that people can read and compare it.
    pub fn to_text(&self) -> String {
        let mut text = String::from("{\n");
        let _ = writeln!(text, "  \"format\": {},", self.format);
        for (key, value) in
            [("moerge_version", &self.moerge_version), ("plan_id", &self.plan_id), ("recipe", &self.recipe)]
        {
            let _ = writeln!(text, "  \"{key}\": {},", json(value));
        }
        let _ = writeln!(text, "  \"sources\": [{}],", lines(&self.sources));
        let _ = writeln!(text, "  \"tensors\": [{}]", lines(&self.tensors));
        text.push_str("}\n");
        text
    }
}

fn lines<T: Serialize>(items: &[T]) -> String {
    let lines: Vec<String> = items.iter().map(|item| format!("\n    {}", json(item))).collect();
    if lines.is_empty() { String::new() } else { format!("{}\n  ", lines.join(",")) }
}

fn json<T: Serialize>(value: &T) -> String {
    // Only maps with keys that are not strings can fail, and there are none here.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> MoergeJson {
        let mut record = MoergeJson::new("abc", "base_model: \"é\"\n");
        record.sources.push(SourceRecord {
            reference: "org/base@main".into(),
            folder: "base".into(),
            files: vec![FileRecord { name: "model.safetensors".into(), bytes: 12 }],
        });
        for layer in 0..2 {
            record.tensors.push(TensorRecord {
                name: format!("model.layers.{layer}.block_sparse_moe.gate.weight"),
                dtype: Dtype::BF16,
                shape: vec![4, 8],
                fingerprint: Fingerprint::of(b"x"),
                from: vec![],
            });
        }
        record
    }

    #[test]
    fn reads_back_what_it_writes_with_a_tensor_a_line() {
        for record in [example(), MoergeJson::new("", "")] {
            let text = record.to_text();
            assert_eq!(MoergeJson::parse(&text, "moerge.json").unwrap(), record, "{text}");
        }
        assert_eq!(example().to_text().lines().filter(|l| l.contains("fingerprint")).count(), 2);
    }

    #[test]
    fn refuses_what_it_cannot_know() {
        for bad in ["", "[]", "{\"format\": 1}"] {
            assert!(MoergeJson::parse(bad, "moerge.json").is_err(), "{bad}");
        }
        let newer = example().to_text().replace("\"format\": 1", "\"format\": 2");
        let error = MoergeJson::parse(&newer, "moerge.json").unwrap_err();
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}
