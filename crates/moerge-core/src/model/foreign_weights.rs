//! Recognizes checkpoints that are not plain transformers models by tensor names and types: quantised weights, or names
//! with a prefix that a training program left.

use moerge_checkpoint::{Checkpoint, Dtype, TensorView};

use crate::error::Error;

/// Suffixes of tensor names that only quantised weights have, with the programs that write them.
const QUANTISED: [(&str, &str); 17] = [
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
    (".weight_scale_2", "NVFP4"),
    (".weight_scales", "EETQ"),
    (".weight._data", "Quanto"),
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
        let matrix = tensor.name.contains("weight") && tensor.shape.len() > 1 && !is_plain(tensor.dtype);
        matrix.then(|| format!("its weights are quantised: {} is {}", tensor.name, tensor.dtype))
    };
    checkpoint.tensors().find_map(sign).or_else(|| checkpoint.tensors().find_map(narrow))
}

/// The error if a checkpoint has the tensor `wanted` under another name, else `None`: with another prefix, inside a
/// module that a training program wrapped around its own, or as another program calls it.
pub fn renamed(checkpoint: &Checkpoint, wanted: &str) -> Option<Error> {
    prefixed(checkpoint, wanted)
        .or_else(|| wrapped(checkpoint, wanted))
        .or_else(|| of_another_program(checkpoint, wanted))
}

fn other_names(checkpoint: &Checkpoint, why: &str, wanted: &str, found: &str) -> Error {
    let dir = checkpoint.dir().display();
    Error::input(format!("{dir} has other tensor names than its config.json requires: {why}"))
        .fact("expected", wanted)
        .fact("found", found)
}

/// Modules that training programs wrap around each layer or matrix, and what does so.
const WRAPPERS: [(&str, &str); 5] = [
    ("_orig_mod", "a model whose parts torch.compile wraps has these"),
    ("_fsdp_wrapped_module", "a model that FSDP wraps has these"),
    ("_checkpoint_wrapped_module", "a model with activation checkpointing has these"),
    ("_forward_module", "a model that Lightning wraps has these"),
    ("base_layer", "a PEFT model has these"),
];

fn wrapped(checkpoint: &Checkpoint, wanted: &str) -> Option<Error> {
    let wrapper = |part: &str| WRAPPERS.iter().find(|(name, _)| *name == part);
    let unwrapped = |name: &str| name.split('.').filter(|part| wrapper(part).is_none()).collect::<Vec<_>>().join(".");
    let same = |tensor: &&TensorView| {
        let last = wanted.rsplit('.').next().unwrap_or(wanted);
        tensor.name.ends_with(last) && tensor.name != wanted && unwrapped(&tensor.name) == wanted
    };
    let found = checkpoint.tensors().find(same)?;
    let (part, why) = found.name.split('.').find_map(wrapper)?;
    let error = other_names(checkpoint, why, wanted, &found.name);
    Some(match *part {
        "base_layer" => error.hint("call merge_and_unload() on it and save the result"),
        _ => error.hint(format!("save the model without the wrapper, or remove `{part}.` from the tensors' names")),
    })
}

/// Tensors that only the file of another program has, that program, and what to do.
fn of_another_program(checkpoint: &Checkpoint, wanted: &str) -> Option<Error> {
    const SCHEMES: [(&str, &str); 4] = [
        ("token_embd.weight", "llama.cpp names them like this"),
        ("tok_embeddings.weight", "Meta's and Mistral's own programs name them like this"),
        ("transformer.wte.weight", "models like GPT-2 have these"),
        ("gpt_neox.embed_in.weight", "models like GPT-NeoX have these"),
    ];
    let (name, why) = SCHEMES.into_iter().find(|(name, _)| checkpoint.get(name).is_some())?;
    let hint = "use the model's files in the transformers format, with the config.json beside them";
    Some(other_names(checkpoint, why, wanted, name).hint(hint))
}

fn prefixed(checkpoint: &Checkpoint, wanted: &str) -> Option<Error> {
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
        p if p.contains("_fsdp_wrapped_module.") => ("a model that FSDP wraps has these", rename(p)),
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
    Some(other_names(checkpoint, why, wanted, &stored).hint(hint))
}
