//! Layer specs that families share.

use std::sync::Arc;

use super::{Activation, AttentionSpec, ExpertsSpec, FfnSpec, LayerSpec, SharedExpertOptions};
use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        layer_spec::{Mixer, NormKind, NormPlacement, NormSpec},
    },
    suggest::shorten,
};

/// Maximum number of experts in all layers, which bounds allocations: five times that of the largest models.
const MAX_EXPERTS: usize = 1 << 17;

/// The attention options of a family.
#[derive(Debug, Default)]
pub(super) struct AttentionStyle {
    /// Which of q, k, v, o have a bias.
    pub biases: [bool; 4],
    /// Whether q and k heads are normalized.
    pub qk_norm: bool,
}

/// One layer per entry of `windows`; they differ only in their windows.
pub(super) fn layers(
    config: &ModelConfig,
    style: &AttentionStyle,
    windows: &[Option<usize>],
    ffn: &FfnSpec,
) -> Result<Vec<LayerSpec>> {
    check(config)?;
    let rope = Arc::new(config.rope.clone());
    let layer = |window: &Option<usize>| LayerSpec {
        mixer: Mixer::Attention(AttentionSpec {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            qk_norm: style.qk_norm,
            biases: style.biases,
            window: *window,
            rope: Arc::clone(&rope),
        }),
        ffn: ffn.clone(),
        norms: NormSpec { placement: NormPlacement::Before, kind: NormKind::Rms { eps: config.norm_eps } },
    };
    Ok(windows.iter().map(layer).collect())
}

/// The gated FFN of a dense model.
pub(super) fn dense(config: &ModelConfig) -> Result<FfnSpec> {
    Ok(FfnSpec::Dense { intermediate: config.intermediate_size, activation: activation(config)? })
}

/// The experts of an MoE. `keys` are possible names of the number of experts; the first that is present counts.
pub(super) fn experts(
    config: &ModelConfig,
    keys: &[&str],
    renormalise: bool,
    intermediate: usize,
    shared: Option<SharedExpertOptions>,
) -> Result<ExpertsSpec> {
    let mut experts = None;
    for key in keys {
        experts = experts.or(config.size(key)?);
    }
    let missing = || config.missing(keys.first().copied().unwrap_or("num_experts"));
    let experts = experts.ok_or_else(missing)?;
    let top_k = need(config, "num_experts_per_tok")?;
    if top_k > experts {
        return Err(Error::input(format!(
            "{}: num_experts_per_tok is {top_k}, but there are {experts} experts",
            config.path.display()
        )));
    }
    if experts * config.layers > MAX_EXPERTS {
        return Err(Error::input(format!(
            "{}: {} layers of {experts} experts exceed the limit of {MAX_EXPERTS} experts in all",
            config.path.display(),
            config.layers
        ))
        .unsupported());
    }
    Ok(ExpertsSpec { experts, top_k, renormalise, intermediate, shared, activation: activation(config)? })
}

/// A required size of an MoE.
pub(super) fn need(config: &ModelConfig, key: &str) -> Result<usize> {
    config.size(key)?.ok_or_else(|| config.missing(key))
}

/// An error about the key that gives some layers a dense FFN.
pub(super) fn dense_layers(config: &ModelConfig, key: &str) -> Error {
    config.wrong(key, "experts in every layer").unsupported().hint("layers without experts are not supported")
}

/// Refuses options that no family supports.
fn check(config: &ModelConfig) -> Result<()> {
    let refuse = |what: String| Error::input(format!("{}: {what}", config.path.display())).unsupported();
    if config.has("quantization_config") {
        return Err(refuse("its weights are quantised (`quantization_config`)".into())
            .hint("use the model that it was quantised from"));
    }
    if config.rope.partial != 1.0 {
        let share = config.rope.partial;
        return Err(refuse(format!("only {share} of each head is rotated (`partial_rotary_factor`)"))
            .hint("partial rotary embeddings are not supported"));
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return Err(Error::input(format!(
            "{}: num_attention_heads is {}, which is not a multiple of num_key_value_heads ({})",
            config.path.display(),
            config.heads,
            config.kv_heads
        )));
    }
    Ok(())
}

fn activation(config: &ModelConfig) -> Result<Activation> {
    match config.hidden_act.as_str() {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(Error::input(format!(
            "{}: `hidden_act` is \"{}\", which is not supported",
            config.path.display(),
            shorten(other)
        ))
        .hint("supported: silu, gelu_pytorch_tanh")
        .unsupported()),
    }
}
