//! `config.json` from a file's metadata.

use moerge_checkpoint::Dtype;
use serde_json::{Map, Value, json};

use super::{
    metadata::Facts,
    rope::{self, Divisors},
};
use crate::{
    error::{Error, Result},
    model::families::GgufArchitecture,
};

/// What the tensors of a file say of its model: the shape of a tensor by its name.
pub(super) type Shapes<'a> = &'a dyn Fn(&str) -> Option<&'a [usize]>;

/// The architecture of a file, if moerge can run it.
///
/// # Errors
/// It cannot; the message names those that it can.
pub(super) fn architecture(facts: Facts<'_>) -> Result<GgufArchitecture> {
    let name = facts.architecture();
    GgufArchitecture::ALL.into_iter().find(|own| own.name() == name).ok_or_else(|| {
        let known = GgufArchitecture::ALL.map(GgufArchitecture::name).join(", ");
        Error::input(format!("{}: the architecture `{name}` is not supported", facts.path().display()))
            .unsupported()
            .hint(format!("moerge reads GGUF files of these architectures: {known}"))
    })
}

/// The config. `dtype` is the type that most weights have or had.
///
/// # Errors
/// A key is missing, or has a value that the family's config class cannot say.
pub(super) fn config(
    facts: Facts<'_>,
    architecture: GgufArchitecture,
    shapes: Shapes<'_>,
    divisors: Divisors<'_>,
    dtype: Dtype,
) -> Result<Map<String, Value>> {
    let embeddings = "token_embd.weight";
    let rows = |name: &str| shapes(name).and_then(|shape| shape.first().copied());
    let vocabulary = rows(embeddings)
        .ok_or_else(|| Error::input(format!("{} has no tensor {embeddings}", facts.path().display())))?;
    let heads = facts.own_size("attention.head_count")?;
    let hidden = facts.own_size("embedding_length")?;
    let head_dim = head_dim(facts, hidden, heads)?;
    let theta = facts.own_number("rope.freq_base")?.unwrap_or(10_000.0);

    let has = |name: &str| shapes(name).is_some();
    let model = Model { architecture, experts: facts.own_count("expert_count")?.unwrap_or(0), has: &has };
    let (model_type, class) = model.class();
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    set("architectures", json!([class]));
    set("model_type", json!(model_type));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(facts.own_size("feed_forward_length")?));
    set("num_hidden_layers", json!(facts.own_size("block_count")?));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(facts.own_count("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("vocab_size", json!(vocabulary));
    set("max_position_embeddings", json!(facts.own_size("context_length")?));
    set("rms_norm_eps", json!(facts.own_number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5)));
    set("hidden_act", json!("silu"));
    set("rope_theta", json!(theta));
    if let Some(scaling) = rope::scaling(facts, theta, head_dim as usize, divisors)? {
        set("rope_scaling", scaling);
    }
    set("tie_word_embeddings", json!(!has("output.weight")));
    set("dtype", json!(dtype.torch_name()));
    for key in ["bos_token_id", "eos_token_id"] {
        if let Some(id) = facts.count(&format!("tokenizer.ggml.{key}"))? {
            set(key, json!(id));
        }
    }
    if architecture == GgufArchitecture::Phi3 {
        let window = facts.own_count("attention.sliding_window")?.filter(|window| *window > 0);
        set("sliding_window", json!(window));
        set("pad_token_id", json!(facts.count("tokenizer.ggml.padding_token_id")?));
    }
    if architecture == GgufArchitecture::Llama && model.has_attention_bias() {
        set("attention_bias", json!(true));
    }
    if model.experts > 0 {
        experts(facts, &model, &rows, &mut config)?;
    }
    Ok(config)
}

/// The width of a head.
fn head_dim(facts: Facts<'_>, hidden: u64, heads: u64) -> Result<u64> {
    let natural = hidden.checked_div(heads).unwrap_or(0);
    let key = facts.own_count("attention.key_length")?.unwrap_or(natural);
    for (own, what) in [("attention.value_length", "values"), ("rope.dimension_count", "rotated parts")] {
        if facts.own_count(own)?.is_some_and(|width| width != key) {
            let expected = format!("{key}, the width of the keys: heads with other {what} are not supported");
            return Err(facts.wrong(&facts.own(own), &expected).unsupported());
        }
    }
    Ok(key)
}

/// Which family of Hugging Face's a file is of.
struct Model<'a> {
    architecture: GgufArchitecture,
    experts: u64,
    has: &'a dyn Fn(&str) -> bool,
}

impl Model<'_> {
    /// `model_type` and the class.
    fn class(&self) -> (&'static str, &'static str) {
        match self.architecture {
            GgufArchitecture::Llama if self.experts == 0 => ("llama", "LlamaForCausalLM"),
            // moerge writes a Qwen2-MoE whose shared experts are zeros as this architecture.
            GgufArchitecture::Llama if self.has_attention_bias() => ("qwen2_moe", "Qwen2MoeForCausalLM"),
            GgufArchitecture::Llama => ("mixtral", "MixtralForCausalLM"),
            GgufArchitecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            GgufArchitecture::Qwen2Moe => ("qwen2_moe", "Qwen2MoeForCausalLM"),
            GgufArchitecture::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
            GgufArchitecture::Qwen3Moe => ("qwen3_moe", "Qwen3MoeForCausalLM"),
            GgufArchitecture::Phi3 => ("phi3", "Phi3ForCausalLM"),
            GgufArchitecture::Deepseek => ("deepseek", "DeepseekForCausalLM"),
        }
    }

    fn has_attention_bias(&self) -> bool {
        (self.has)("blk.0.attn_q.bias")
    }
}

fn experts(
    facts: Facts<'_>,
    model: &Model<'_>,
    rows: &dyn Fn(&str) -> Option<usize>,
    config: &mut Map<String, Value>,
) -> Result<()> {
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    let used = facts.own_size("expert_used_count")?;
    if let Some(scale) = facts.own_number("expert_weights_scale")?.filter(|scale| *scale != 1.0 && *scale != 0.0) {
        let key = facts.own("expert_weights_scale");
        let message = format!("{}: experts' weights are scaled by {scale}", facts.path().display());
        return Err(Error::input(message).fact("key", key).unsupported());
    }
    let width = match facts.own_count("expert_feed_forward_length")? {
        Some(width) => width,
        None => facts.own_size("feed_forward_length")?,
    };
    set("num_experts_per_tok", json!(used));
    match model.architecture {
        GgufArchitecture::Llama if !model.has_attention_bias() => {
            set("num_local_experts", json!(model.experts));
            set("intermediate_size", json!(width));
        }
        GgufArchitecture::Deepseek => {
            set("n_routed_experts", json!(model.experts));
            set("moe_intermediate_size", json!(width));
            set("n_shared_experts", json!(facts.own_count("expert_shared_count")?.unwrap_or(0)));
            set("first_k_dense_replace", json!(facts.own_count("leading_dense_block_count")?.unwrap_or(0)));
            set("moe_layer_freq", json!(1));
            set("scoring_func", json!("softmax"));
            set("norm_topk_prob", json!(false));
        }
        _ => {
            set("num_experts", json!(model.experts));
            set("moe_intermediate_size", json!(width));
            set("norm_topk_prob", json!(model.architecture.renormalises()));
            set("decoder_sparse_step", json!(1));
            set("mlp_only_layers", json!([]));
            if matches!(model.architecture, GgufArchitecture::Qwen2Moe | GgufArchitecture::Llama) {
                // The key is not always there. A file without shared experts gets the narrowest, made of zeros.
                let shared = rows("blk.0.ffn_up_shexp.weight").unwrap_or(1);
                set("shared_expert_intermediate_size", json!(shared));
                set("qkv_bias", json!(model.has_attention_bias()));
            }
        }
    }
    Ok(())
}
