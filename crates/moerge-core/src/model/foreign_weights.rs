//! Recognizes checkpoints that are not plain transformers models by tensor names and types: quantised weights, or names
//! with a prefix that a training program left.

use moerge_checkpoint::{Checkpoint, Dtype, TensorView};

use crate::error::Error;

/// Suffixes of tensor names that only quantised weights have, with the programs that write them.
const QUANTISED: [(&str, &str); 14] = [
    (".SCB", "bitsandbytes int8"),
    (".quant_state.bitsandbytes__nf4", "bitsandbytes 4-bit"),
    (".quant_state.bitsandbytes__fp4", "bitsandbytes 4-bit"),
    (".weight.absmax", "bitsandbytes 4-bit"),
    (".weight.quant_map", "bitsandbytes 4-bit"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale", "FP8 or int8 with scales"),
    (".weight_scale_inv", "FP8 with scales of blocks"),
    (".W_q", "HQQ"),
    (".codebooks", "AQLM"),
    ("_blocks", "MXFP4"),
];

/// Whether moerge computes with elements of this type.
pub fn is_plain(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64)
}

/// The advice about quantised weights.
pub const UNQUANTISED: &str =
    "the weights must be BF16, F16, F32 or F64; for a quantised model, use the one it was made from";

/// Why the weights seem to be quantised, as a sentence that names a tensor; `None` if they do not.
pub fn quantised(checkpoint: &Checkpoint) -> Option<String> {
    let sign = |tensor: &TensorView| {
        let (end, kind) = QUANTISED.iter().find(|(end, _)| tensor.name.ends_with(end))?;
        Some(format!("its weights are quantised: {} has the ending `{end}` of {kind}", tensor.name))
    };
    let narrow = |tensor: &TensorView| {
        let matrix = tensor.name.ends_with("weight") && tensor.shape.len() > 1 && !is_plain(tensor.dtype);
        matrix.then(|| format!("its weights are quantised: {} is {}", tensor.name, tensor.dtype))
    };
    checkpoint.tensors().find_map(sign).or_else(|| checkpoint.tensors().find_map(narrow))
}

/// The error if a checkpoint has the tensor `wanted` under another prefix, else `None`.
pub fn prefixed(checkpoint: &Checkpoint, wanted: &str) -> Option<Error> {
    let inner = wanted.strip_prefix("model.").unwrap_or(wanted);
    let prefix = |tensor: &TensorView| {
        let prefix = tensor.name.strip_suffix(inner)?;
        (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
    };
    // The shortest of several: a draft model or a copy may be nested deeper.
    let prefix = checkpoint.tensors().filter_map(prefix).min_by_key(String::len)?;
    let stored = format!("{prefix}{inner}");
    let own = &wanted[..wanted.len() - inner.len()];
    let rename = |prefix: &str| {
        let becomes = if own.is_empty() { "nothing".to_owned() } else { format!("`{own}`") };
        format!("save the model inside the wrapper, or rename the tensors: `{prefix}` becomes {becomes}")
    };
    let inner_model = "save the whole model, `AutoModelForCausalLM`, rather than its `.model`";
    let (why, hint) = match prefix.as_str() {
        "" => ("they are those of the model without its head, such as LlamaModel", inner_model.to_owned()),
        p if p.contains("_orig_mod.") => ("a model that torch.compile wraps has these", rename(p)),
        p if p.contains("module.") => ("a model that DistributedDataParallel or DeepSpeed wraps has these", rename(p)),
        p if p.contains("base_model.") => {
            ("a PEFT model has these", "call merge_and_unload() on it and save the result".to_owned())
        }
        p if p.contains("language_model") || p.contains("text_model") => (
            "they are those of a multimodal model, config.json is that of a text model",
            "use the model's own config.json, with its `text_config`".to_owned(),
        ),
        p => ("some program put a prefix before them", rename(p)),
    };
    Some(
        Error::input(format!(
            "{} has other tensor names than its config.json calls for: {why}",
            checkpoint.dir().display()
        ))
        .fact("expected", wanted)
        .fact("found", stored)
        .hint(hint),
    )
}
