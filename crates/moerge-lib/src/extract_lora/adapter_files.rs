//! The adapter as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;

use moerge_checkpoint::{Dtype, Fingerprint, OutputDir, ShardLayout, ShardWriter, TensorSpec};
use moerge_core::{
    error::{Error, Result},
    model::files::{ADAPTER_CONFIG, ADAPTER_WEIGHTS},
    numeric::element,
};
use serde_json::{Value, json};

use super::MatrixReport;

/// What the config says besides the ranks.
pub(super) struct ConfigFacts {
    pub base: String,
    pub revision: Option<String>,
    pub target_modules: Vec<String>,
}

/// `adapter_config.json`. The rank that most weights have is `r`; the others are in `rank_pattern`. Alpha equals the
/// rank everywhere, so the scale is 1.
pub(super) fn config(facts: &ConfigFacts, matrices: &[MatrixReport]) -> Value {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for matrix in matrices {
        *counts.entry(matrix.rank).or_default() += 1;
    }
    let rank = counts.iter().max_by_key(|(rank, count)| (**count, **rank)).map_or(1, |(rank, _)| *rank);
    let others: serde_json::Map<String, Value> =
        matrices.iter().filter(|m| m.rank != rank).map(|m| (m.module.clone(), m.rank.into())).collect();
    json!({
        "alpha_pattern": others,
        "auto_mapping": null,
        "base_model_name_or_path": facts.base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": others,
        "revision": facts.revision,
        "target_modules": facts.target_modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
}

/// The names of A and B, and their shapes. Those of embeddings are stored transposed: `lora_embedding_A` is the transpose
/// of B.
fn tensors(matrix: &MatrixReport) -> [(String, [usize; 2]); 2] {
    let ([rows, columns], rank) = (matrix.shape, matrix.rank);
    let name = |end: &str| format!("base_model.model.{}.{end}", matrix.module);
    if matrix.embedding {
        [(name("lora_embedding_B"), [columns, rank]), (name("lora_embedding_A"), [rank, rows])]
    } else {
        [(name("lora_A.weight"), [rank, columns]), (name("lora_B.weight"), [rows, rank])]
    }
}

/// `values`, a matrix of `shape`, transposed.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Writes both files. `factors` gives A and B of a matrix, by its number.
pub(super) fn write(
    output: &OutputDir,
    config: &Value,
    matrices: &[MatrixReport],
    dtype: Dtype,
    factors: impl Fn(usize) -> Result<(Vec<f32>, Vec<f32>)>,
) -> Result<u64> {
    let specs = matrices.iter().flat_map(tensors).map(|(name, shape)| TensorSpec {
        name,
        encoding: dtype.into(),
        shape: shape.to_vec(),
    });
    let mut layout = ShardLayout::new(specs.collect(), u64::MAX)?;
    let mut shard = layout.shards.pop().ok_or_else(|| Error::input("an adapter of no weights"))?;
    shard.file_name = ADAPTER_WEIGHTS[0].to_owned();
    let writer = ShardWriter::create(output, &shard)?;
    let places: BTreeMap<&str, usize> =
        shard.tensors.iter().enumerate().map(|(at, tensor)| (tensor.spec.name.as_str(), at)).collect();
    let mut fingerprints = vec![None; shard.tensors.len()];
    for (number, matrix) in matrices.iter().enumerate() {
        let (a, b) = factors(number)?;
        for ((name, [rows, columns]), values) in tensors(matrix).into_iter().zip([a, b]) {
            let values = if matrix.embedding { transposed(&values, [columns, rows]) } else { values };
            let mut bytes = Vec::new();
            element::narrow(dtype, &values, &mut bytes);
            let Some(place) = places.get(name.as_str()) else { continue };
            writer.write(*place, 0, &bytes)?;
            fingerprints[*place] = Some(Fingerprint::of(&bytes));
        }
    }
    let names = shard.tensors.iter().map(|tensor| tensor.spec.name.clone());
    let fingerprints: Vec<(String, Fingerprint)> =
        names.zip(fingerprints).filter_map(|(name, fingerprint)| Some((name, fingerprint?))).collect();
    writer.finish(&fingerprints)?;
    let mut text = serde_json::to_string_pretty(config).unwrap_or_default();
    text.push('\n');
    output.write_file(ADAPTER_CONFIG, text.as_bytes())?;
    Ok(shard.file_len + text.len() as u64)
}
