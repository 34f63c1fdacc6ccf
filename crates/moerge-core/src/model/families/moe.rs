//! The MoE families that moerge writes and reads: tensor names, the decoder's options, and `config.json`.

use serde_json::{Map, Value, json};

use super::{
    Description,
    decoder::{DecoderOptions, FfnOptions, SharedExpertOptions},
    dense::{decoder, ffn_shape, tensors, windows},
    role::{FfnMatrix, LayerRole},
};
use crate::{
    error::{Error, Result},
    model::config::ModelConfig,
};

/// One MoE family: a row of the table. Names are those on disk (classic, one tensor per expert).
#[derive(Debug)]
pub struct MoeFamily {
    /// What a recipe's `architecture` calls it (mergekit's names, compared by their beginning).
    pub recipe_name: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// `architectures[0]` in `config.json`.
    pub class: &'static str,
    /// The module of a layer that holds router and experts.
    block: &'static str,
    /// Names of an expert's gate, up and down matrices.
    matrices: [&'static str; 3],
    /// How a shared expert is stored and weighed, if the family has one.
    shared: Option<SharedStyle>,
    /// Which of q, k, v, o have a bias, always.
    attention_bias: [bool; 4],
    /// Whether q and k heads are normed.
    qk_norm: bool,
    /// The key that holds the number of experts.
    experts_key: &'static str,
    /// Keys of `config.json` that are the same for every model of the family.
    constants: fn(&mut Map<String, Value>),
}

/// A family's shared expert.
#[derive(Debug)]
struct SharedStyle {
    /// Module under the block.
    module: &'static str,
    /// Whether it has a gate of its own (`shared_expert_gate`).
    gated: bool,
    /// Whether the family cannot do without one.
    required: bool,
}

/// What an MoE adds to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeShape {
    /// Routed experts.
    pub experts: usize,
    /// Experts per token.
    pub top_k: usize,
    /// Width of the routed experts.
    pub intermediate: usize,
    /// Width of the shared expert, if there is one.
    pub shared: Option<usize>,
}

/// Most experts of all layers together: five times those of the largest models, and a bound on what is allocated.
const MOST_EXPERTS_IN_ALL: usize = 1 << 17;

const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

impl MoeFamily {
    /// Mixtral: softmax, top k, renormalised; Llama's attention.
    pub const MIXTRAL: Self = Self {
        recipe_name: "mixtral",
        model_type: "mixtral",
        class: "MixtralForCausalLM",
        block: "block_sparse_moe",
        matrices: ["w1", "w3", "w2"],
        shared: None,
        attention_bias: [false; 4],
        qk_norm: false,
        experts_key: "num_local_experts",
        constants: |config| {
            config.insert("router_aux_loss_coef".into(), json!(0.001));
            config.insert("router_jitter_noise".into(), json!(0.0));
        },
    };

    /// DeepSeek-MoE (the first; remote code in transformers): an optional shared expert, added as it is.
    pub const DEEPSEEK: Self = Self {
        recipe_name: "deepseek moe",
        model_type: "deepseek",
        class: "DeepseekForCausalLM",
        block: "mlp",
        matrices: PROJECTIONS,
        shared: Some(SharedStyle { module: "shared_experts", gated: false, required: false }),
        attention_bias: [false; 4],
        qk_norm: false,
        experts_key: "n_routed_experts",
        constants: |config| {
            config.insert("first_k_dense_replace".into(), json!(0));
            config.insert("moe_layer_freq".into(), json!(1));
            config.insert("scoring_func".into(), json!("softmax"));
            config.insert("norm_topk_prob".into(), json!(true));
            let remote = "deepseek-ai/deepseek-moe-16b-base--";
            config.insert(
                "auto_map".into(),
                json!({
                    "AutoConfig": format!("{remote}configuration_deepseek.DeepseekConfig"),
                    "AutoModel": format!("{remote}modeling_deepseek.DeepseekModel"),
                    "AutoModelForCausalLM": format!("{remote}modeling_deepseek.DeepseekForCausalLM"),
                }),
            );
        },
    };

    /// Qwen2-MoE: Qwen2's attention, and always a gated shared expert.
    pub const QWEN2_MOE: Self = Self {
        recipe_name: "qwen moe",
        model_type: "qwen2_moe",
        class: "Qwen2MoeForCausalLM",
        block: "mlp",
        matrices: PROJECTIONS,
        shared: Some(SharedStyle { module: "shared_expert", gated: true, required: true }),
        attention_bias: [true, true, true, false],
        qk_norm: false,
        experts_key: "num_experts",
        constants: |config| {
            qwen_constants(config);
            config.insert("qkv_bias".into(), json!(true));
        },
    };

    /// Qwen3-MoE: Qwen3's attention, no shared expert.
    pub const QWEN3_MOE: Self = Self {
        recipe_name: "qwen3 moe",
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        block: "mlp",
        matrices: PROJECTIONS,
        shared: None,
        attention_bias: [false; 4],
        qk_norm: true,
        experts_key: "num_experts",
        constants: |config| {
            qwen_constants(config);
            config.insert("attention_bias".into(), json!(false));
        },
    };

    /// All families, in the order in which mergekit tries them.
    pub const ALL: [&'static Self; 4] = [&Self::MIXTRAL, &Self::DEEPSEEK, &Self::QWEN2_MOE, &Self::QWEN3_MOE];

    /// The family with this `model_type`.
    pub fn of(model_type: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|f| f.model_type == model_type)
    }

    /// Whether the family always has a shared expert.
    pub fn needs_shared_expert(&self) -> bool {
        self.shared.as_ref().is_some_and(|s| s.required)
    }

    /// Whether the family can have a shared expert, and whether that one has a gate of its own.
    pub fn shared_expert_gate(&self) -> Option<bool> {
        self.shared.as_ref().map(|s| s.gated)
    }

    /// The `config.json` of an MoE of this family on `base`: the base's keys verbatim, and what the MoE adds.
    ///
    /// Both spellings of rope and dtype are written, for readers old and new (FORMATS). `dtype` is transformers' name.
    pub fn config(
        &self,
        base: &ModelConfig,
        window: Option<usize>,
        shape: &MoeShape,
        dtype: &str,
    ) -> Map<String, Value> {
        let mut config = base.raw.clone();
        for key in ["_name_or_path", "auto_map", "transformers_version", "layer_types"] {
            config.shift_remove(key);
        }
        let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
        set("architectures", json!([self.class]));
        set("model_type", json!(self.model_type));
        set("head_dim", json!(base.head_dim));
        set("num_key_value_heads", json!(base.kv_heads));
        set("rms_norm_eps", json!(base.norm_eps));
        set("hidden_act", json!(base.hidden_act));
        set("max_position_embeddings", json!(base.max_positions));
        set("sliding_window", json!(window));
        set("tie_word_embeddings", json!(false));
        set("dtype", json!(dtype));
        set("torch_dtype", json!(dtype));
        set(self.experts_key, json!(shape.experts));
        set("num_experts_per_tok", json!(shape.top_k));
        match self.model_type {
            "mixtral" => {
                set("num_experts", json!(shape.experts));
                set("intermediate_size", json!(shape.intermediate));
            }
            "deepseek" => {
                set("moe_intermediate_size", json!(shape.intermediate));
                set("n_shared_experts", json!(shape.shared.map(|width| width.div_ceil(shape.intermediate))));
            }
            _ => {
                set("num_local_experts", json!(shape.experts));
                set("moe_intermediate_size", json!(shape.intermediate));
                set("use_sliding_window", json!(window.is_some()));
                // The first layer with a window. Where the key is absent transformers takes 28; a base that is not a
                // Qwen may have anything there.
                set("max_window_layers", json!(if window.is_some() { 0 } else { base.layers }));
            }
        }
        if let (Some(width), "qwen2_moe") = (shape.shared, self.model_type) {
            set("shared_expert_intermediate_size", json!(width));
        }
        (self.constants)(&mut config);
        write_rope(&mut config, base);
        config
    }

    /// Every tensor of a model of this family.
    pub fn describe(&self, config: &ModelConfig) -> Result<Description> {
        let shape = self.shape(config)?;
        let shared = shape.shared.map(|intermediate| SharedExpertOptions {
            intermediate,
            gated: self.shared.as_ref().is_some_and(|s| s.gated),
        });
        let ffn = FfnOptions::Moe {
            experts: shape.experts,
            top_k: shape.top_k,
            renormalise: self.model_type == "mixtral" || config.flag("norm_topk_prob")?.unwrap_or(false),
            intermediate: shape.intermediate,
            shared,
        };
        let decoder = DecoderOptions {
            qk_norm: self.qk_norm,
            attention_bias: self.attention_bias,
            windows: windows(config, self.model_type.starts_with("qwen"))?,
            ..decoder(config, ffn)?
        };
        let tensors = tensors(&decoder, |layer| self.ffn_tensors(layer, &shape, config.hidden_size));
        Ok(Description { decoder, tensors })
    }

    fn ffn_tensors(&self, layer: usize, shape: &MoeShape, hidden: usize) -> Vec<(LayerRole, String, Vec<usize>)> {
        let block = format!("model.layers.{layer}.{}", self.block);
        let mut all = vec![(LayerRole::Router, format!("{block}.gate.weight"), vec![shape.experts, hidden])];
        for expert in 0..shape.experts {
            for (matrix, name) in FfnMatrix::ALL.into_iter().zip(self.matrices) {
                let name = format!("{block}.experts.{expert}.{name}.weight");
                all.push((LayerRole::Expert(expert, matrix), name, ffn_shape(matrix, shape.intermediate, hidden)));
            }
        }
        if let (Some(width), Some(style)) = (shape.shared, &self.shared) {
            for matrix in FfnMatrix::ALL {
                let name = format!("{block}.{}.{matrix}.weight", style.module);
                all.push((LayerRole::SharedExpert(matrix), name, ffn_shape(matrix, width, hidden)));
            }
            if style.gated {
                let name = format!("{block}.{}_gate.weight", style.module);
                all.push((LayerRole::SharedExpertGate, name, vec![1, hidden]));
            }
        }
        all
    }

    fn shape(&self, config: &ModelConfig) -> Result<MoeShape> {
        let need = |key: &str| {
            config.size(key)?.ok_or_else(|| Error::input(format!("{} has no `{key}`", config.path.display())))
        };
        // transformers 5 writes `num_local_experts` also where the family's own key is `num_experts`.
        let experts = match config.size(self.experts_key)? {
            Some(experts) => experts,
            None => match config.size("num_local_experts")? {
                Some(experts) => experts,
                None => need(self.experts_key)?,
            },
        };
        let top_k = need("num_experts_per_tok")?;
        if top_k > experts {
            return Err(Error::input(format!(
                "{}: num_experts_per_tok is {top_k}, but there are {experts} experts",
                config.path.display()
            )));
        }
        if experts * config.layers > MOST_EXPERTS_IN_ALL {
            return Err(Error::input(format!(
                "{}: {} layers of {experts} experts are more than {MOST_EXPERTS_IN_ALL} experts in all",
                config.path.display(),
                config.layers
            ))
            .unsupported());
        }
        if let Some(key) = self.key_of_dense_layers(config)? {
            let error = config.wrong(key, "experts in every layer").unsupported();
            return Err(error.hint("layers without experts are not supported"));
        }
        let intermediate = match self.model_type {
            "mixtral" => config.intermediate_size,
            _ => need("moe_intermediate_size")?,
        };
        let shared = match self.model_type {
            "qwen2_moe" => Some(need("shared_expert_intermediate_size")?),
            "deepseek" => config.count("n_shared_experts")?.filter(|n| *n > 0).map(|n| n * intermediate),
            _ => None,
        };
        Ok(MoeShape { experts, top_k, intermediate, shared })
    }
}

impl MoeFamily {
    /// The key that gives some layers a dense FFN, if there is one. A stray key of another family means nothing.
    fn key_of_dense_layers(&self, config: &ModelConfig) -> Result<Option<&'static str>> {
        let steps = |key| -> Result<bool> { Ok(config.count(key)?.is_some_and(|step| step != 1)) };
        Ok(match self.model_type {
            "qwen2_moe" | "qwen3_moe" => {
                let layers = config.raw.get("mlp_only_layers").and_then(Value::as_array);
                let some = layers.is_some_and(|layers| !layers.is_empty()).then_some("mlp_only_layers");
                if steps("decoder_sparse_step")? { Some("decoder_sparse_step") } else { some }
            }
            "deepseek" if steps("moe_layer_freq")? => Some("moe_layer_freq"),
            "deepseek" => config.count("first_k_dense_replace")?.filter(|n| *n > 0).map(|_| "first_k_dense_replace"),
            _ => None,
        })
    }
}

fn qwen_constants(config: &mut Map<String, Value>) {
    config.insert("decoder_sparse_step".into(), json!(1));
    config.insert("mlp_only_layers".into(), json!([]));
    config.insert("norm_topk_prob".into(), json!(true));
    config.insert("output_router_logits".into(), json!(false));
    config.insert("router_aux_loss_coef".into(), json!(0.001));
}

/// Both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters`.
fn write_rope(config: &mut Map<String, Value>, base: &ModelConfig) {
    let rope = &base.rope;
    // As it was written, `10000` or `10000.0`, if that is the one that counts.
    let written = base.raw.get("rope_theta").filter(|theta| theta.as_f64() == Some(rope.theta));
    let theta = written.cloned().unwrap_or(json!(rope.theta));
    let mut parameters = Map::new();
    parameters.insert("rope_theta".into(), theta.clone());
    parameters.insert("rope_type".into(), json!("default"));
    // Older files call it `type`.
    parameters.extend(rope.raw.get("type").map(|kind| ("rope_type".to_owned(), kind.clone())));
    parameters.extend(rope.raw.clone());
    let scaling = if rope.raw.is_empty() { Value::Null } else { Value::Object(rope.raw.clone()) };
    config.insert("rope_theta".into(), theta);
    config.insert("rope_scaling".into(), scaling);
    config.insert("rope_parameters".into(), Value::Object(parameters));
}
