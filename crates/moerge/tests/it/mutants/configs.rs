//! Hostile values of `config.json`, `generation_config.json`, `tokenizer_config.json` and `adapter_config.json`.

use serde_json::{Value, json};

/// A key with what to put there.
type Entry = (&'static str, Value);

/// Of `config.json`.
pub fn model() -> Vec<Entry> {
    let mut all = Vec::new();
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "partial_rotary_factor",
        "sliding_window",
        "max_window_layers",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "decoder_sparse_step",
        "tie_word_embeddings",
        "eos_token_id",
    ] {
        all.extend(numbers().into_iter().map(|value| (key, value)));
    }
    for factor in numbers() {
        for kind in ["linear", "dynamic", "yarn", "llama3", "longrope", "default", "nowhere"] {
            let rope = json!({
                "rope_type": kind, "type": kind, "rope_theta": factor, "factor": factor, "attention_factor": factor,
                "original_max_position_embeddings": factor, "low_freq_factor": factor, "high_freq_factor": factor,
                "beta_fast": factor, "beta_slow": factor, "mscale": factor, "mscale_all_dim": factor,
                "short_factor": [factor], "long_factor": [factor, factor],
            });
            all.extend(["rope_scaling", "rope_parameters"].map(|key| (key, rope.clone())));
        }
    }
    all.extend([
        ("rope_parameters", json!({"full_attention": {"rope_type": "yarn", "factor": 0}, "sliding_attention": null})),
        ("layer_types", json!(["full_attention"])),
        ("layer_types", json!(vec!["sliding_attention"; 100_000])),
        ("layer_types", json!([null, 7, {}])),
        ("mlp_only_layers", json!([-1, 0, 99_999_999, "0"])),
        ("architectures", json!([["LlamaForCausalLM"], null])),
        ("model_type", json!("gemma3")),
        ("model_type", json!("x\u{1b}[31m\n".repeat(10_000))),
        ("text_config", json!({"model_type": "llama", "text_config": {"text_config": {}}})),
        ("quantization_config", json!({"quant_method": "gptq", "bits": -1})),
        ("quantization_config", json!([])),
        ("hidden_act", json!("nowhere")),
        ("dtype", json!("float4")),
        ("torch_dtype", json!(-1)),
    ]);
    all
}

/// Of `generation_config.json`.
pub fn generation() -> Vec<Entry> {
    let keys = ["eos_token_id", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens"];
    let mut all: Vec<Entry> =
        keys.into_iter().flat_map(|key| numbers().into_iter().map(move |value| (key, value))).collect();
    all.push(("eos_token_id", json!([2, -1, "3", null, 4_294_967_296u64, [2]])));
    all.push(("eos_token_id", json!(vec![2; 1_000_000])));
    all
}

/// Of `tokenizer_config.json`.
pub fn tokenizer() -> Vec<Entry> {
    let mut all = Vec::new();
    for key in ["bos_token", "eos_token", "unk_token", "chat_template", "extra_special_tokens", "added_tokens_decoder"]
    {
        all.extend(numbers().into_iter().map(|value| (key, value)));
        all.extend([
            (key, json!("")),
            (key, json!(" ")),
            (key, json!("e")),
            (key, json!("x".repeat(1 << 20))),
            (key, json!({"content": "", "lstrip": true, "normalized": true})),
            (key, json!({"content": "<b>", "single_word": 7, "normalized": "yes"})),
            (key, json!([{"name": "default", "template": 7}, {"name": "default"}, null])),
        ]);
    }
    all
}

/// Of `adapter_config.json`.
pub fn adapter() -> Vec<Entry> {
    let mut all = Vec::new();
    for key in [
        "r",
        "lora_alpha",
        "layers_to_transform",
        "use_rslora",
        "use_dora",
        "fan_in_fan_out",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "modules_to_save",
        "layer_replication",
        "init_lora_weights",
        "peft_type",
        "bias",
        "base_model_name_or_path",
    ] {
        all.extend(numbers().into_iter().map(|value| (key, value)));
    }
    for key in ["rank_pattern", "alpha_pattern"] {
        all.extend(
            ["(", "(a+)+$", "(.*)*(.*)*(.*)*x", "", "(?<=a*)b", "\\p{L}{1,1000}{1,1000}"]
                .map(|pattern| (key, json!({pattern: 3}))),
        );
        all.push((key, json!({"down_proj": -1, "up_proj": 1e308, "gate_proj": null})));
    }
    all.extend([
        ("target_modules", json!("(a+)+$")),
        ("target_modules", json!("(")),
        ("target_modules", json!(vec!["down_proj"; 100_000])),
        ("modules_to_save", json!(["lm_head", "nowhere", 7])),
        ("layer_replication", json!([[0, 4_294_967_295u64], [-1, 2]])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("peft_type", json!("X\u{1b}[31m".repeat(10_000))),
        ("base_model_name_or_path", json!("../adapter+adapter")),
    ]);
    all
}

/// Numbers, and what stands in a number's place.
fn numbers() -> Vec<Value> {
    let mut nested = json!(null);
    for _ in 0..100 {
        nested = json!([nested]);
    }
    vec![
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(0.5),
        json!(1e308),
        json!(1e-320),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(4_294_967_296u64),
        json!("NaN"),
        json!("Infinity"),
        json!(null),
        json!(true),
        json!([]),
        json!({"a": null}),
        nested,
    ]
}
