//! What the metadata says of the model: its sizes, and how it is computed.

use moerge_checkpoint::gguf::{Metadata, Value};

use super::{FileType, General, GgufModel};
use crate::{
    error::Result,
    model::{
        families::{ExpertsSpec, FfnSpec, GgufArchitecture},
        rope::RopeScaling,
    },
};

/// The metadata without the tokenizer.
pub fn metadata(
    model: &GgufModel,
    architecture: GgufArchitecture,
    general: &General,
    file_type: FileType,
) -> Result<Metadata> {
    let mut metadata = vec![("general.architecture".to_owned(), text(architecture.name()))];
    metadata.extend(general.metadata());
    let mut keys = Keys { metadata, prefix: architecture.name() };
    sizes(&mut keys, model, architecture);
    rope(&mut keys, model);
    if let Some(experts) = model.description.decoder.experts() {
        experts_of(&mut keys, model, architecture, experts);
    }
    let mut metadata = keys.metadata;
    metadata.push(("general.file_type".to_owned(), Value::Uint32(file_type.number())));
    metadata.push(("general.quantization_version".to_owned(), Value::Uint32(2)));
    Ok(metadata)
}

/// Metadata under an architecture's prefix.
struct Keys {
    metadata: Metadata,
    prefix: &'static str,
}

impl Keys {
    fn put(&mut self, key: &str, value: Value) {
        self.metadata.push((format!("{}.{key}", self.prefix), value));
    }

    fn count(&mut self, key: &str, count: usize) {
        self.put(key, Value::Uint32(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    fn float(&mut self, key: &str, x: f64) {
        self.put(key, Value::Float32(x as f32));
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn sizes(keys: &mut Keys, model: &GgufModel, architecture: GgufArchitecture) {
    let config = &model.config;
    keys.count("block_count", model.layers());
    keys.count("context_length", config.max_positions);
    keys.count("embedding_length", config.hidden_size);
    keys.count("feed_forward_length", dense_width(model));
    keys.count("attention.head_count", config.heads);
    keys.count("attention.head_count_kv", config.kv_heads);
    keys.float("attention.layer_norm_rms_epsilon", config.norm_eps);
    keys.count("attention.key_length", config.head_dim);
    keys.count("attention.value_length", config.head_dim);
    keys.count("rope.dimension_count", config.head_dim);
    keys.count("vocab_size", config.vocab_size);
    if architecture == GgufArchitecture::Phi3 {
        // 0 says that it has none; without the key readers take a default.
        keys.count("attention.sliding_window", model.description.decoder.windows().flatten().min().unwrap_or(0));
    }
}

/// The width of the dense FFN; of an MoE, as its config has it.
fn dense_width(model: &GgufModel) -> usize {
    let mut layers = model.description.decoder.layers.iter();
    let dense = layers.find_map(|layer| match &layer.ffn {
        FfnSpec::Dense { intermediate, .. } => Some(*intermediate),
        FfnSpec::Experts(_) => None,
    });
    dense.unwrap_or(model.config.intermediate_size)
}

fn experts_of(keys: &mut Keys, model: &GgufModel, architecture: GgufArchitecture, experts: &ExpertsSpec) {
    keys.count("expert_count", experts.experts);
    keys.count("expert_used_count", experts.top_k);
    let wide = experts.intermediate != model.config.intermediate_size;
    if architecture != GgufArchitecture::Llama || wide {
        keys.count("expert_feed_forward_length", experts.intermediate);
    }
    match (architecture, experts.shared) {
        // Without a shared expert the file has one of zeros.
        (GgufArchitecture::Deepseek, shared) => {
            let count = shared.map_or(1, |shared| shared.intermediate / experts.intermediate.max(1));
            keys.count("expert_shared_count", count);
        }
        (GgufArchitecture::Qwen2Moe, Some(shared)) => {
            keys.count("expert_shared_feed_forward_length", shared.intermediate);
        }
        _ => {}
    }
    if architecture == GgufArchitecture::Deepseek {
        let is_dense = |layer: &crate::model::families::LayerSpec| matches!(layer.ffn, FfnSpec::Dense { .. });
        let leading = model.description.decoder.layers.iter().take_while(|layer| is_dense(layer)).count();
        keys.count("leading_dense_block_count", leading);
        keys.float("expert_weights_scale", 1.0);
    }
}

fn rope(keys: &mut Keys, model: &GgufModel) {
    let rope = &model.config.rope;
    keys.float("rope.freq_base", rope.theta);
    match &rope.scaling {
        RopeScaling::Linear { factor } => {
            keys.put("rope.scaling.type", text("linear"));
            keys.float("rope.scaling.factor", *factor);
        }
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention_factor, .. } => {
            keys.put("rope.scaling.type", text("yarn"));
            keys.float("rope.scaling.factor", *factor);
            keys.count("rope.scaling.original_context_length", *original);
            keys.float("rope.scaling.yarn_beta_fast", *beta_fast);
            keys.float("rope.scaling.yarn_beta_slow", *beta_slow);
            // llama.cpp multiplies by its own 1 + 0.1 ln(factor), and by this.
            let own = 1.0 + 0.1 * factor.max(1.0).ln();
            if (attention_factor / own - 1.0).abs() > 1e-6 {
                keys.float("rope.scaling.yarn_attn_factor", attention_factor / own);
            }
        }
        RopeScaling::LongRope { original, attention_factor, .. } => {
            keys.put("rope.scaling.type", text("longrope"));
            keys.count("rope.scaling.original_context_length", *original);
            keys.float("rope.scaling.attn_factor", *attention_factor);
        }
        RopeScaling::Default | RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } => {}
    }
}
