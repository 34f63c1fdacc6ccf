//! What a tensor is for, as far as its name says: `attention q`, `FFN up`, or the last parts of the name where it is of no
//! known kind.

use moerge_core::model::{
    named_model::LayerPlace,
    token_tensors::{is_embeddings, is_head},
};

/// The module of a name's last parts; the first that fits counts.
const KNOWN: [(&str, &[&str]); 12] = [
    ("attention q", &["q_proj", "query"]),
    ("attention k", &["k_proj", "key"]),
    ("attention v", &["v_proj", "value"]),
    ("attention o", &["o_proj", "out_proj", "attention.output.dense"]),
    ("attention qkv", &["qkv_proj", "c_attn", "query_key_value", "Wqkv"]),
    ("experts gate", &["experts.gate_proj", "experts.w1"]),
    ("experts up", &["experts.up_proj", "experts.w3"]),
    ("experts down", &["experts.down_proj", "experts.w2"]),
    ("FFN gate", &["gate_proj", "w1"]),
    ("FFN up", &["up_proj", "w3"]),
    ("FFN down", &["down_proj", "w2"]),
    ("FFN gate+up", &["gate_up_proj"]),
];

/// The order in which modules are listed; others follow.
const ORDER: [&str; 16] = [
    "embeddings",
    "attention q",
    "attention k",
    "attention v",
    "attention qkv",
    "attention o",
    "FFN gate",
    "FFN up",
    "FFN gate+up",
    "FFN down",
    "experts gate",
    "experts up",
    "experts down",
    "norms",
    "biases",
    "head",
];

/// The module that the tensor `name` belongs to.
pub fn module(name: &str) -> String {
    let rest = LayerPlace::of(name).map_or(name, |place| place.rest);
    // Numbers of experts say nothing about what an expert's tensor is for.
    let parts: Vec<&str> = rest.split('.').filter(|part| !part.bytes().all(|b| b.is_ascii_digit())).collect();
    let plain = parts.join(".");
    if plain.ends_with(".bias") || plain == "bias" {
        return "biases".to_owned();
    }
    if is_embeddings(&plain) {
        return "embeddings".to_owned();
    }
    if is_head(&plain) {
        return "head".to_owned();
    }
    let plain = plain.strip_suffix(".weight").unwrap_or(&plain);
    let is = |end: &str| plain.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    if let Some((module, _)) = KNOWN.iter().find(|(_, ends)| ends.iter().any(|end| is(end))) {
        return (*module).to_owned();
    }
    let last = plain.rsplit('.').next().unwrap_or(plain);
    if last.contains("norm") || last.starts_with("ln_") || last.starts_with("ln") && last.len() == 4 {
        return "norms".to_owned();
    }
    let parts: Vec<&str> = plain.split('.').collect();
    parts[parts.len().saturating_sub(2)..].join(".")
}

/// Where a module stands in a list.
pub fn order(module: &str) -> (usize, &str) {
    (ORDER.iter().position(|known| *known == module).unwrap_or(ORDER.len()), module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_families_have_their_modules() {
        for (name, expected) in [
            ("model.embed_tokens.weight", "embeddings"),
            ("model.layers.3.self_attn.q_proj.weight", "attention q"),
            ("model.layers.3.self_attn.q_proj.bias", "biases"),
            ("model.layers.3.self_attn.q_norm.weight", "norms"),
            ("model.layers.3.mlp.experts.7.gate_proj.weight", "experts gate"),
            ("model.layers.3.block_sparse_moe.experts.7.w2.weight", "experts down"),
            ("model.layers.3.mlp.gate_up_proj.weight", "FFN gate+up"),
            ("model.norm.weight", "norms"),
            ("transformer.h.0.ln_1.weight", "norms"),
            ("transformer.h.0.attn.c_attn.weight", "attention qkv"),
            ("backbone.layers.1.mixer.in_proj.weight", "mixer.in_proj"),
            ("backbone.layers.1.mixer.A_log", "mixer.A_log"),
            ("lm_head.weight", "head"),
            ("weird", "weird"),
            ("", ""),
        ] {
            assert_eq!(module(name), expected, "{name}");
        }
        let mut modules = ["z.z", "head", "FFN up", "embeddings"];
        modules.sort_by_key(|m| order(m));
        assert_eq!(modules, ["embeddings", "FFN up", "head", "z.z"]);
    }
}
