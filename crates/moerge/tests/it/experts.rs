//! What an expert's FFN becomes: adapters, narrower experts, casts; and what is refused.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use crate::common::{llama, moerge, moerge_ok, write_model};
use half::bf16;
use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage, ShardLayout, TensorSpec};
use serde_json::{Value, json};

fn open(dir: &Path) -> Checkpoint {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Checkpoint::open(&storage, dir).unwrap()
}

fn bf16_values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let bytes = checkpoint.get(name).unwrap_or_else(|| panic!("{name}")).read().unwrap();
    bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
}

/// Writes f32 tensors as one safetensors file.
fn write_tensors(path: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let spec = |(name, (shape, _)): (&String, &(Vec<usize>, _))| TensorSpec {
        name: name.clone(),
        encoding: Dtype::F32.into(),
        shape: shape.clone(),
    };
    let layout = ShardLayout::new(tensors.iter().map(spec).collect(), u64::MAX).unwrap();
    let mut bytes = layout.shards[0].header.clone();
    for placement in &layout.shards[0].tensors {
        bytes.extend(tensors[&placement.spec.name].1.iter().flat_map(|x| x.to_le_bytes()));
    }
    fs::write(path, bytes).unwrap();
}

/// A LoRA pair for `module` of the given shape, with reproducible values.
pub fn lora_pair(
    tensors: &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    module: &str,
    outputs: usize,
    inputs: usize,
    rank: usize,
) {
    let values = |n: usize, salt: usize| (0..n).map(|i| (((i * 37 + salt * 11) % 101) as f32 - 50.0) / 500.0).collect();
    tensors
        .insert(format!("base_model.model.{module}.lora_A.weight"), (vec![rank, inputs], values(rank * inputs, rank)));
    tensors.insert(
        format!("base_model.model.{module}.lora_B.weight"),
        (vec![outputs, rank], values(outputs * rank, outputs)),
    );
}

pub fn write_adapter(dir: &Path, config: &Value, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    fs::create_dir_all(dir).unwrap();
    let mut whole = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "base"});
    for (key, value) in config.as_object().unwrap() {
        whole[key] = value.clone();
    }
    fs::write(dir.join("adapter_config.json"), whole.to_string()).unwrap();
    write_tensors(&dir.join("adapter_model.safetensors"), tensors);
}

fn write_recipe(dir: &Path, experts: &[&str], more: &str) {
    let experts: String = experts.iter().map(|e| format!("- source_model: {e}\n")).collect();
    fs::write(dir.join("moe.yml"), format!("base_model: base\ngate_mode: random\nexperts:\n{experts}{more}")).unwrap();
}

/// `W + scale B A` in f64, rounded once to bf16.
fn merged(w: &[f32], tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>, module: &str, scale: f64) -> Vec<f32> {
    let (a_shape, a) = &tensors[&format!("base_model.model.{module}.lora_A.weight")];
    let (_, b) = &tensors[&format!("base_model.model.{module}.lora_B.weight")];
    let (rank, inputs) = (a_shape[0], a_shape[1]);
    let delta = |i: usize| {
        let (row, column) = (i / inputs, i % inputs);
        (0..rank).map(|k| f64::from(b[row * rank + k]) * f64::from(a[k * inputs + column])).sum::<f64>()
    };
    w.iter().enumerate().map(|(i, x)| bf16::from_f64(f64::from(*x) + scale * delta(i)).to_f32()).collect()
}

#[test]
fn adapters_are_merged_with_their_own_ranks_and_alphas_and_what_is_left_out_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    let mut tensors = BTreeMap::new();
    lora_pair(&mut tensors, "model.layers.0.mlp.gate_proj", 64, 32, 4);
    lora_pair(&mut tensors, "model.layers.1.mlp.down_proj", 32, 64, 2);
    lora_pair(&mut tensors, "model.layers.2.mlp.up_proj", 64, 32, 4);
    lora_pair(&mut tensors, "model.layers.0.self_attn.q_proj", 32, 32, 4);
    let patterns = json!({"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.2.mlp.up_proj": 1}});
    write_adapter(&dir.join("plain"), &patterns, &tensors);
    let rs = json!({"rank_pattern": {"down_proj": 2}, "use_rslora": true});
    write_adapter(&dir.join("rs"), &rs, &tensors);
    write_recipe(dir, &["base+plain", "base+rs", "base"], "");
    let plan = moerge_ok(dir, &["plan", "moe.yml"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned() + &String::from_utf8_lossy(&plan.stderr);
    assert!(plan.contains("adapter") && plan.contains("outside the FFN"), "{plan}");
    let merged_with = moerge_ok(dir, &["merge", "moe.yml", "out", "-v"]);
    let told = String::from_utf8_lossy(&merged_with.stderr).into_owned();
    let line = "2 of its tensors are outside the FFN and stay unused (self_attn.q_proj)";
    assert!(
        told.contains(&format!("adapter plain: {line}")) && told.contains(&format!("adapter rs: {line}")),
        "{told}"
    );
    for detail in [
        "MixtralForCausalLM: represents llama exactly",
        "adapter of base+rs: 4 weights, rank 2 and 4, alpha 8, rsLoRA",
        "files beside the weights: config.json",
        "weights took ",
    ] {
        assert!(told.contains(detail), "{detail}:\n{told}");
    }

    let (base, out) = (open(&dir.join("base")), open(&dir.join("out")));
    let cases = [
        (0, "gate_proj", "w1", [8.0 / 4.0, 8.0 / 2.0]),
        (1, "down_proj", "w2", [8.0 / 2.0, 8.0 / 2f64.sqrt()]),
        (2, "up_proj", "w3", [1.0 / 4.0, 8.0 / 2.0]),
    ];
    for (layer, matrix, name, scales) in cases {
        let module = format!("model.layers.{layer}.mlp.{matrix}");
        let w = bf16_values(&base, &format!("{module}.weight"));
        for (expert, scale) in scales.into_iter().enumerate() {
            let found =
                bf16_values(&out, &format!("model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight"));
            let expected = merged(&w, &tensors, &module, scale);
            // f32 sums may fall on the other side of a rounding boundary: one unit in bf16's last place.
            let close = |a: &f32, b: &f32| (a - b).abs() <= b.abs() / 100.0 + 1e-6;
            let equal = found.iter().zip(&expected).filter(|(a, b)| a == b).count();
            assert!(found.iter().zip(&expected).all(|(a, b)| close(a, b)), "{module} of expert {expert}");
            assert!(equal * 1000 >= found.len() * 998, "{module} of expert {expert}: {equal} of {}", found.len());
            assert_ne!(found, w, "{module} of expert {expert} was not adapted");
        }
        assert_eq!(bf16_values(&out, &format!("model.layers.{layer}.block_sparse_moe.experts.2.{name}.weight")), w);
    }
    // The base has no adapter: its attention is as it was.
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(bf16_values(&out, q), bf16_values(&base, q));
}

#[test]
fn a_narrower_expert_is_padded_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    write_model(&dir.join("narrow"), &llama(&json!({"intermediate_size": 40})), 2);
    write_recipe(dir, &["base", "narrow"], "");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let (narrow, out) = (open(&dir.join("narrow")), open(&dir.join("out")));
    let expert = "model.layers.1.block_sparse_moe.experts.1";
    let up = bf16_values(&out, &format!("{expert}.w3.weight"));
    assert_eq!(up[..40 * 32], bf16_values(&narrow, "model.layers.1.mlp.up_proj.weight"));
    assert!(up[40 * 32..].iter().all(|x| *x == 0.0) && up.len() == 64 * 32);
    let down = bf16_values(&out, &format!("{expert}.w2.weight"));
    let own = bf16_values(&narrow, "model.layers.1.mlp.down_proj.weight");
    for (row, own) in down.chunks(64).zip(own.chunks(40)) {
        assert_eq!(&row[..40], own);
        assert!(row[40..].iter().all(|x| *x == 0.0));
    }
}

#[test]
fn residual_scale_scales_down_proj_only_and_the_dtype_is_the_recipes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    write_recipe(dir, &["base", "base\n  residual_scale: 0.5"], "dtype: float32\n");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet", "--i-understand-this-is-not-useful-without-training"]);
    let (base, out) = (open(&dir.join("base")), open(&dir.join("out")));
    let f32s = |name: &str| -> Vec<f32> {
        let view = out.get(name).unwrap();
        assert_eq!(view.dtype, Dtype::F32);
        view.read().unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let expert = "model.layers.0.block_sparse_moe.experts.1";
    let halved: Vec<f32> = bf16_values(&base, "model.layers.0.mlp.down_proj.weight").iter().map(|x| x * 0.5).collect();
    assert_eq!(f32s(&format!("{expert}.w2.weight")), halved);
    assert_eq!(f32s(&format!("{expert}.w1.weight")), bf16_values(&base, "model.layers.0.mlp.gate_proj.weight"));
    assert_eq!(f32s("model.norm.weight"), bf16_values(&base, "model.norm.weight"));
}

/// Wants the merge to be refused with all of `words` in the message.
fn refused(dir: &Path, words: &[&str]) {
    let output = moerge(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in:\n{message}");
    }
    assert!(!dir.join("out").exists() && !dir.join(".out.moerge-build").exists());
}

#[test]
fn what_cannot_join_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = |name: &str, changes: Value| write_model(&dir.join(name), &llama(&changes), 2);
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    model("wide", json!({"hidden_size": 64}));
    model("deep", json!({"num_hidden_layers": 4}));
    for (expert, words) in [("wide", ["hidden size", "hint:"]), ("deep", ["4 layers", "hint:"])] {
        write_recipe(dir, &["base", expert], "");
        refused(dir, &words);
        refused(dir, &["expert 1 cannot join this MoE", "moe.yml:5"]);
    }
    for (name, key, words) in [
        ("gemma", json!({"model_type": "gemma2"}), ["gemma2", "softcap"]),
        ("mlp", json!({"mlp_bias": true}), ["mlp_bias", "FFN has biases"]),
        ("quantised", json!({"quantization_config": {"bits": 4}}), ["quantization_config", "quantised"]),
    ] {
        model(name, json!({}));
        fs::write(dir.join(name).join("config.json"), llama(&key).to_string()).unwrap();
        write_recipe(dir, &["base", name], "");
        refused(dir, &words);
    }
}

/// As an expert it gives its FFN only; as a base its attention would lose the biases.
#[test]
fn a_base_with_biases_that_no_moe_has_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("biased"), &llama(&json!({"attention_bias": true})), 1);
    fs::write(
        dir.join("moe.yml"),
        "base_model: biased\ngate_mode: random\nexperts:\n- source_model: biased\n- source_model: biased\n",
    )
    .unwrap();
    refused(dir, &["biased", "MixtralForCausalLM", "biases of q_proj"]);
}

#[test]
fn fault_01_adapters_that_cannot_be_merged_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    let mut fitting = BTreeMap::new();
    lora_pair(&mut fitting, "model.layers.0.mlp.gate_proj", 64, 32, 4);
    let mut misfit = BTreeMap::new();
    lora_pair(&mut misfit, "model.layers.0.mlp.gate_proj", 64, 48, 4);
    let mut half = fitting.clone();
    half.retain(|name, _| name.contains("lora_A"));
    let mut magnitude = fitting.clone();
    magnitude.insert(
        "base_model.model.model.layers.0.mlp.gate_proj.lora_magnitude_vector".into(),
        (vec![64], vec![1.0; 64]),
    );
    let with = |name: &str, shape: Vec<usize>| {
        let mut tensors = fitting.clone();
        tensors.insert(format!("base_model.model.{name}"), (shape.clone(), vec![0.5; shape.iter().product()]));
        tensors
    };
    let biased = with("model.layers.0.mlp.gate_proj.lora_B.bias", vec![64]);
    let whole = with("model.layers.1.mlp.down_proj.weight", vec![32, 64]);
    let empty = BTreeMap::new();
    let mut foreign = BTreeMap::new();
    lora_pair(&mut foreign, "transformer.h.0.mlp.c_fc", 64, 32, 4);
    for (name, config, tensors, words) in [
        ("empty", json!({}), &empty, ["changes no weight: it has no tensors", "save_pretrained"]),
        ("null", json!({"lora_alpha": null}), &fitting, ["`lora_alpha` is not a number", "null"]),
        ("foreign", json!({}), &foreign, ["changes no weight of this model", "transformer.h.0.mlp.c_fc"]),
        ("dora", json!({"use_dora": true}), &fitting, ["use_dora", "merge it into its model first"]),
        ("magnitude", json!({}), &magnitude, ["DoRA", "lora_magnitude_vector"]),
        ("ia3", json!({"peft_type": "IA3"}), &fitting, ["IA3", "only LORA"]),
        ("misfit", json!({}), &misfit, ["does not fit its model", "[64, 32]"]),
        ("half", json!({}), &half, ["only one half", "lora_B"]),
        ("ranks", json!({"r": 8}), &fitting, ["ranks", "rank 8"]),
        ("biased", json!({"lora_bias": true}), &biased, ["gate_proj.lora_B.bias", "merge it into its model first"]),
        ("saved", json!({"modules_to_save": ["mlp"]}), &whole, ["mlp.down_proj.weight", "merge it"]),
        (
            "pissa",
            json!({"init_lora_weights": "pissa_niter_4"}),
            &fitting,
            ["\"pissa_niter_4\"", "merge it into its model first"],
        ),
        ("olora", json!({"init_lora_weights": "olora"}), &fitting, ["\"olora\"", "merge it into its model first"]),
        ("repeated", json!({"layer_replication": [[0, 2], [1, 3]]}), &fitting, ["layer_replication", "merge it"]),
    ] {
        write_adapter(&dir.join(name), &config, tensors);
        write_recipe(dir, &["base", &format!("base+{name}")], "");
        refused(dir, &words);
    }
    // Outside the FFN an expert's adapter is not used, and may hold what it likes; the base's is used there.
    let attention = with("model.layers.0.self_attn.q_proj.lora_B.bias", vec![32]);
    write_adapter(&dir.join("attention"), &json!({"layer_replication": null}), &attention);
    write_recipe(dir, &["base", "base+attention"], "");
    moerge_ok(dir, &["plan", "moe.yml"]);
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    fs::write(dir.join("moe.yml"), recipe.replace("base_model: base", "base_model: base+attention")).unwrap();
    refused(dir, &["q_proj.lora_B.bias", "merge it into its model first"]);
}

/// Fault 2: pairs that match nothing were dropped, and what they change was lost.
#[test]
fn fault_02_an_adapter_pair_that_matches_no_weight_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({})), 1);
    write_model(&dir.join("other"), &llama(&json!({})), 2);
    for module in [
        "model.layers.0.mlp.gate_up_proj",
        "model.layers.3.mlp.up_proj",
        "language_model.model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.qkv_proj",
    ] {
        let mut tensors = BTreeMap::new();
        lora_pair(&mut tensors, "model.layers.0.mlp.gate_proj", 64, 32, 4);
        lora_pair(&mut tensors, module, 64, 32, 4);
        write_adapter(&dir.join("lora"), &json!({}), &tensors);
        write_recipe(dir, &["other", "base+lora"], "");
        refused(dir, &["1 of which this model lacks", module]);
        let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
        let on_base = recipe
            .replace("base_model: base", "base_model: base+lora")
            .replace("source_model: base+lora", "source_model: base");
        fs::write(dir.join("moe.yml"), on_base).unwrap();
        refused(dir, &["1 of which this model lacks", module]);
    }
}

/// Fault 2: an adapter of `gate_proj` on a model that stores gate and up as one was dropped.
#[test]
fn fault_02_an_adapter_of_unfused_names_goes_onto_the_rows_of_a_fused_weight() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let phi3 = json!({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "pad_token_id": 0});
    write_model(&dir.join("base"), &llama(&phi3), 1);
    let (mut parts, mut whole) = (BTreeMap::new(), BTreeMap::new());
    for layer in 0..3 {
        lora_pair(&mut parts, &format!("model.layers.{layer}.mlp.gate_proj"), 64, 32, 4);
        lora_pair(&mut parts, &format!("model.layers.{layer}.mlp.up_proj"), 64, 32, 4);
        // The same A and both Bs below each other: what the fused weight is changed by.
        lora_pair(&mut whole, &format!("model.layers.{layer}.mlp.gate_up_proj"), 128, 32, 4);
        let name = format!("base_model.model.model.layers.{layer}.mlp.gate_up_proj.lora_B.weight");
        let b = &parts[&name.replace("gate_up_proj", "gate_proj")].1;
        whole.get_mut(&name).unwrap().1 = [b.clone(), b.clone()].concat();
    }
    write_adapter(&dir.join("parts"), &json!({}), &parts);
    write_adapter(&dir.join("whole"), &json!({}), &whole);
    write_recipe(dir, &["base+parts", "base+whole"], "");
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    let (out, base) = (open(&dir.join("out")), open(&dir.join("base")));
    for matrix in ["w1", "w3"] {
        let expert = |e: usize| {
            let name = format!("model.layers.1.block_sparse_moe.experts.{e}.{matrix}.weight");
            out.get(&name).unwrap().read().unwrap()
        };
        assert_eq!(expert(0), expert(1), "{matrix}");
        let fused = base.get("model.layers.1.mlp.gate_up_proj.weight").unwrap();
        let rows = if matrix == "w1" { 0..64 } else { 64..128 };
        assert_ne!(expert(0), fused.rows(rows).unwrap().read().unwrap(), "{matrix} is changed");
    }
    let both: BTreeMap<_, _> = parts.into_iter().chain(whole).collect();
    write_adapter(&dir.join("both"), &json!({}), &both);
    fs::remove_dir_all(dir.join("out")).unwrap();
    write_recipe(dir, &["base", "base+both"], "");
    refused(dir, &["changes a part of", "twice"]);
}
