//! The dense families that can join an MoE, and why the others cannot.

use super::{
    Description, FusedPart, RoleTensor, activation,
    decoder::{DecoderOptions, FfnOptions},
    moe::MoeFamily,
    role::{FfnMatrix, LayerRole, Projection, Role},
};
use crate::{
    error::{Error, Result},
    model::config::ModelConfig,
    suggest::shorten,
};

/// One dense family: a row of the table.
#[derive(Debug)]
pub struct DenseFamily {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The MoE families that represent it exactly; the first is the default.
    pub becomes: &'static [&'static MoeFamily],
    /// Whether q, k, v are one tensor `qkv_proj` and gate, up one tensor `gate_up_proj` (Phi-3).
    fused: bool,
    /// Whether q, k, v always have a bias (Qwen2).
    qkv_bias: bool,
    /// Whether q and k heads are normed (Qwen3).
    qk_norm: bool,
    /// Whether the window is used only with `use_sliding_window`, from layer `max_window_layers` on (Qwen).
    window_is_optional: bool,
}

static FAMILIES: [DenseFamily; 5] = [
    DenseFamily {
        model_type: "llama",
        becomes: &[&MoeFamily::MIXTRAL, &MoeFamily::DEEPSEEK, &MoeFamily::QWEN2_MOE],
        fused: false,
        qkv_bias: false,
        qk_norm: false,
        window_is_optional: false,
    },
    DenseFamily {
        model_type: "mistral",
        becomes: &[&MoeFamily::MIXTRAL, &MoeFamily::DEEPSEEK, &MoeFamily::QWEN2_MOE],
        fused: false,
        qkv_bias: false,
        qk_norm: false,
        window_is_optional: false,
    },
    DenseFamily {
        model_type: "phi3",
        becomes: &[&MoeFamily::MIXTRAL],
        fused: true,
        qkv_bias: false,
        qk_norm: false,
        window_is_optional: false,
    },
    DenseFamily {
        model_type: "qwen2",
        becomes: &[&MoeFamily::QWEN2_MOE],
        fused: false,
        qkv_bias: true,
        qk_norm: false,
        window_is_optional: true,
    },
    DenseFamily {
        model_type: "qwen3",
        becomes: &[&MoeFamily::QWEN3_MOE],
        fused: false,
        qkv_bias: false,
        qk_norm: true,
        window_is_optional: true,
    },
];

impl DenseFamily {
    /// The family of a model, or an error that names the feature no MoE family can represent.
    pub fn of(config: &ModelConfig) -> Result<&'static Self> {
        let refuse = |why: String| {
            Err(Error::input(format!(
                "{} ({}) cannot become a Mixture of Experts: {why}",
                config.path.display(),
                shorten(&config.model_type)
            ))
            .hint("families that can: Llama, Mistral, Phi-3, Qwen2, Qwen3 and models that say they are one of these")
            .unsupported())
        };
        let Some(family) = FAMILIES.iter().find(|f| f.model_type == config.model_type) else {
            return refuse(blocker(&config.model_type).to_owned());
        };
        if config.has("quantization_config") {
            return refuse("its weights are quantised (`quantization_config`); use the unquantised model".into());
        }
        if config.flag("attention_bias")? == Some(true) && !family.qkv_bias {
            return refuse("its attention has biases (`attention_bias`), which Mixtral's has not".into());
        }
        if config.flag("mlp_bias")? == Some(true) {
            return refuse("its FFN has biases (`mlp_bias`), which no MoE family has".into());
        }
        if config.rope.partial != 1.0 {
            return refuse(format!("only {} of each head is rotated (`partial_rotary_factor`)", config.rope.partial));
        }
        let windows = family.windows(config)?;
        if windows.iter().any(|w| *w != windows[0]) {
            return refuse("some of its layers use a sliding window and others not (`layer_types`)".into());
        }
        Ok(family)
    }

    /// The names of all families, for messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|f| f.model_type)
    }

    /// Every tensor of a model of this family.
    pub fn describe(&self, config: &ModelConfig) -> Result<Description> {
        let ffn = FfnOptions::Dense { intermediate: config.intermediate_size };
        let decoder = DecoderOptions {
            qk_norm: self.qk_norm,
            attention_bias: [self.qkv_bias, self.qkv_bias, self.qkv_bias, false],
            windows: self.windows(config)?,
            ..decoder(config, ffn)?
        };
        let tensors = tensors(&decoder, |layer| {
            let mut ffn = Vec::new();
            for matrix in FfnMatrix::ALL {
                let name = format!("model.layers.{layer}.mlp.{matrix}.weight");
                ffn.push((
                    LayerRole::Ffn(matrix),
                    name,
                    ffn_shape(matrix, config.intermediate_size, config.hidden_size),
                ));
            }
            ffn
        });
        let tensors = if self.fused { tensors.into_iter().map(|t| fuse(t, config)).collect() } else { tensors };
        Ok(Description { decoder, tensors })
    }

    fn windows(&self, config: &ModelConfig) -> Result<Vec<Option<usize>>> {
        let mut windows = windows(config, self.window_is_optional)?;
        match self.model_type {
            // LlamaConfig has no window; a stray key means nothing.
            "llama" => windows.fill(None),
            // MistralConfig's default, where the file does not say.
            "mistral" if !config.raw.contains_key("sliding_window") => windows.fill(Some(4096)),
            _ => {}
        }
        Ok(windows)
    }
}

/// What a config says of sliding windows, per layer.
pub(super) fn windows(config: &ModelConfig, optional: bool) -> Result<Vec<Option<usize>>> {
    let used = !optional || config.flag("use_sliding_window")? == Some(true);
    // Where it is not used, transformers 5 writes 0.
    let window = if used { config.size("sliding_window")? } else { None };
    // 28 is the default of all of Qwen's config classes.
    let from = if optional { config.count("max_window_layers")?.unwrap_or(28) } else { 0 };
    let types = config.texts("layer_types")?;
    if let Some(types) = &types {
        if types.len() != config.layers {
            return Err(config.wrong("layer_types", &format!("one entry for each of {} layers", config.layers)));
        }
        if types.iter().any(|kind| !matches!(*kind, "full_attention" | "sliding_attention")) {
            return Err(config.wrong("layer_types", "`full_attention` and `sliding_attention` only").unsupported());
        }
    }
    let slides = |layer: usize| match types.as_ref().and_then(|t| t.get(layer)) {
        Some(kind) => *kind == "sliding_attention",
        None => layer >= from,
    };
    Ok((0..config.layers).map(|layer| window.filter(|_| slides(layer))).collect())
}

/// The options that every family takes from the config in the same way.
pub(super) fn decoder(config: &ModelConfig, ffn: FfnOptions) -> Result<DecoderOptions> {
    if !config.heads.is_multiple_of(config.kv_heads) {
        return Err(Error::input(format!(
            "{}: num_attention_heads is {}, which num_key_value_heads ({}) does not divide",
            config.path.display(),
            config.heads,
            config.kv_heads
        )));
    }
    Ok(DecoderOptions {
        hidden: config.hidden_size,
        layers: config.layers,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocabulary: config.vocab_size,
        norm_eps: config.norm_eps,
        rope: config.rope.clone(),
        qk_norm: false,
        attention_bias: [false; 4],
        windows: vec![None; config.layers],
        activation: activation(config)?,
        tied_embeddings: config.tied_embeddings,
        ffn,
    })
}

/// The shape of an FFN matrix of width `intermediate`.
pub(super) fn ffn_shape(matrix: FfnMatrix, intermediate: usize, hidden: usize) -> Vec<usize> {
    match matrix {
        FfnMatrix::Gate | FfnMatrix::Up => vec![intermediate, hidden],
        FfnMatrix::Down => vec![hidden, intermediate],
    }
}

/// All tensors of a model with Llama's names outside of the FFN; `ffn` gives those of one layer's FFN.
pub(super) fn tensors(
    decoder: &DecoderOptions,
    ffn: impl Fn(usize) -> Vec<(LayerRole, String, Vec<usize>)>,
) -> Vec<RoleTensor> {
    let (hidden, vocabulary) = (decoder.hidden, decoder.vocabulary);
    let (q, kv) = (decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim);
    let whole = |role, name: String, shape| RoleTensor { role, name, shape, part_of: None };
    let mut all = vec![whole(Role::Embeddings, "model.embed_tokens.weight".into(), vec![vocabulary, hidden])];
    for layer in 0..decoder.layers {
        let mut push = |role, name: &str, shape| {
            all.push(whole(Role::Layer(layer, role), format!("model.layers.{layer}.{name}"), shape));
        };
        push(LayerRole::InputNorm, "input_layernorm.weight", vec![hidden]);
        for (projection, bias) in Projection::ALL.into_iter().zip(decoder.attention_bias) {
            let (rows, columns) = match projection {
                Projection::Q => (q, hidden),
                Projection::K | Projection::V => (kv, hidden),
                Projection::O => (hidden, q),
            };
            push(LayerRole::Attention(projection), &format!("self_attn.{projection}.weight"), vec![rows, columns]);
            if bias {
                push(LayerRole::AttentionBias(projection), &format!("self_attn.{projection}.bias"), vec![rows]);
            }
        }
        if decoder.qk_norm {
            push(LayerRole::QNorm, "self_attn.q_norm.weight", vec![decoder.head_dim]);
            push(LayerRole::KNorm, "self_attn.k_norm.weight", vec![decoder.head_dim]);
        }
        push(LayerRole::FfnNorm, "post_attention_layernorm.weight", vec![hidden]);
        all.extend(ffn(layer).into_iter().map(|(role, name, shape)| whole(Role::Layer(layer, role), name, shape)));
    }
    all.push(whole(Role::FinalNorm, "model.norm.weight".into(), vec![hidden]));
    if !decoder.tied_embeddings {
        all.push(whole(Role::LmHead, "lm_head.weight".into(), vec![vocabulary, hidden]));
    }
    all
}

/// Where Phi-3 keeps a role: q, k, v are the rows of `qkv_proj`, gate and up those of `gate_up_proj`.
fn fuse(tensor: RoleTensor, config: &ModelConfig) -> RoleTensor {
    let Role::Layer(layer, role) = tensor.role else { return tensor };
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let (name, first_row, of_rows) = match role {
        LayerRole::Attention(Projection::Q) => ("self_attn.qkv_proj", 0, q + 2 * kv),
        LayerRole::Attention(Projection::K) => ("self_attn.qkv_proj", q, q + 2 * kv),
        LayerRole::Attention(Projection::V) => ("self_attn.qkv_proj", q + kv, q + 2 * kv),
        LayerRole::Ffn(FfnMatrix::Gate) => ("mlp.gate_up_proj", 0, 2 * config.intermediate_size),
        LayerRole::Ffn(FfnMatrix::Up) => ("mlp.gate_up_proj", config.intermediate_size, 2 * config.intermediate_size),
        _ => return tensor,
    };
    let name = format!("model.layers.{layer}.{name}.weight");
    RoleTensor { name, part_of: Some(FusedPart { first_row, of_rows, stack: None }), ..tensor }
}

/// Why a family that is not in the table cannot join (FORMATS: the features no MoE family of transformers has).
fn blocker(model_type: &str) -> &'static str {
    match model_type {
        "mixtral" | "qwen2_moe" | "qwen3_moe" | "deepseek" | "deepseek_v2" | "deepseek_v3" | "olmoe" | "phimoe"
        | "granitemoe" => "it already is one; the experts of a frankenMoE are dense models",
        "phi" | "gptj" | "gpt_neox" | "codegen" => {
            "attention and FFN run in parallel, norms are LayerNorm and the FFN is not gated"
        }
        "gpt2" | "opt" | "bloom" | "starcoder2" | "falcon" | "mpt" => {
            "its FFN is not gated and its norms are LayerNorm"
        }
        "gemma2" => "attention softcap and norms after attention and FFN",
        "gemma3" | "gemma3_text" => "norms after attention and FFN, and two ropes",
        "glm4" | "exaone4" => "norms after attention and FFN",
        "olmo3" => "some layers use a sliding window and others not",
        "smollm3" => "some layers have no position embeddings (NoPE)",
        "stablelm" | "nemotron" | "arcee" | "apertus" => "its norms or its FFN's activation",
        "mamba" | "mamba2" | "rwkv" | "jamba" => "it is not a plain transformer",
        "granite" | "olmo" | "olmo2" | "gemma" | "ernie4_5" | "cohere2" => "the family is planned but not built yet",
        _ => "the family is not known to moerge",
    }
}
