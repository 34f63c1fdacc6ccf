//! PEFT adapters: merged as PEFT merges them, on all of their tensors, or refused.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_core::{
    model::{families::Role, source::Source},
    ops::{ComputedValues, Evaluator, Expr},
};
use serde_json::{Value, json};

use crate::{
    common::{golden, llama, moerge, moerge_ok, write_model},
    experts::{lora_pair, write_adapter},
};

fn open(dir: &Path, adapter: &Path) -> moerge_core::Result<Source> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Source::open(&storage, "model", dir, Some(adapter))
}

fn values(expr: &Expr) -> Vec<f32> {
    let evaluator = Evaluator::new(expr, 0).unwrap();
    let (rows, columns) = evaluator.shape();
    let computed: &dyn ComputedValues = &HashMap::new();
    let (mut raw, mut out) = (Vec::new(), vec![f32::NAN; rows * columns]);
    evaluator.fetch(0..rows, &mut raw).unwrap();
    evaluator.compute(0..rows, &raw, computed, &mut out).unwrap();
    out
}

/// The product of a matrix of so many columns with `sin(0), sin(1), ...`, as in `golden/adapters.py`.
fn probed(matrix: &[f32], columns: usize) -> Vec<f64> {
    let row = |row: &[f32]| row.iter().enumerate().map(|(i, x)| f64::from(*x) * (i as f64).sin()).sum();
    matrix.chunks(columns).map(row).collect()
}

/// Fault 1: the values of `merge_and_unload` for every initialisation and setting that is plain LoRA, a converted PiSSA
/// among them.
#[test]
fn fault_01_adapters_are_merged_as_peft_merges_them() {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let mut kinds = 0;
    for entry in fs::read_dir(golden("adapters")).unwrap() {
        let adapter = entry.unwrap().path();
        let base = golden(fs::read_to_string(adapter.join("base.txt")).unwrap().trim());
        let source = open(&base, &adapter).unwrap_or_else(|e| panic!("{}: {e}", adapter.display()));
        source.check_adapter_is_whole(|_| true).unwrap();
        let expected = Checkpoint::open_file(&storage, &adapter.join("expected.safetensors")).unwrap();
        let (mut compared, mut adapted) = (0, 0);
        for tensor in &source.description.tensors {
            let Some(expected) = expected.get(&tensor.name) else { continue };
            let expected = expected.rows(tensor.rows()).unwrap().read().unwrap();
            let expected = expected.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
            let weight = source.weight(tensor.role).unwrap();
            adapted += usize::from(weight.lora.is_some());
            let merged = probed(&values(&weight.expr(None)), tensor.shape[1]);
            assert_eq!(merged.len(), expected.len());
            for (row, (merged, expected)) in merged.iter().zip(expected).enumerate() {
                let what = format!("{}: row {row} of {}", adapter.display(), tensor.name);
                assert!((merged - expected).abs() < 2e-6, "{what}: {merged}, expected {expected}");
                compared += 1;
            }
        }
        assert!(compared > 500 && adapted >= 3, "{}: {compared}, {adapted}", adapter.display());
        kinds += 1;
    }
    assert_eq!(kinds, 14);
}

/// Without its adapter a model is far from what PEFT makes of both, so the test above can fail.
#[test]
fn fault_01_the_golden_adapters_change_their_models() {
    let adapter = golden("adapters/plain");
    let source = open(&golden("llama"), &adapter).unwrap();
    let tensor = source.description.tensors.iter().find(|t| t.name == "model.layers.1.mlp.up_proj.weight").unwrap();
    let weight = source.weight(tensor.role).unwrap();
    let [with, without] = [weight.expr(None), weight.input.clone()].map(|e| probed(&values(&e), tensor.shape[1]));
    assert!(with.iter().zip(without).any(|(a, b)| (a - b).abs() > 0.01));
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A model with an adapter on one matrix and another tensor called `name`.
fn with_another_tensor(dir: &Path, config: &Value, name: &str) -> moerge_core::Result<Source> {
    write_model(&dir.join("base"), config, 1);
    let mut tensors: Tensors = BTreeMap::new();
    lora_pair(&mut tensors, "model.layers.0.mlp.gate_proj", 64, 32, 4);
    tensors.insert(format!("base_model.model.{name}"), (vec![32], vec![0.5; 32]));
    write_adapter(&dir.join("adapter"), &json!({}), &tensors);
    open(&dir.join("base"), &dir.join("adapter"))
}

/// Fault 2: what was neither A nor B was dropped silently, even when the model has no such module.
#[test]
fn fault_02_a_tensor_of_a_module_that_the_model_lacks_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "model.layers.7.self_attn.q_proj.bias",
        "model.layers.0.mlp.gate_up_proj.bias",
        "language_model.model.layers.0.mlp.up_proj.bias",
        "score.weight",
        "score.modules_to_save.default.weight",
        "model.layers.0.mlp.up_proj_2.lora_B.bias",
        "something",
    ] {
        let error = with_another_tensor(dir.path(), &llama(&json!({})), name).unwrap_err().to_string();
        let named = name.replace(".modules_to_save.default", "");
        assert!(error.contains("tensors of modules that this model lacks") && error.contains(&named), "{error}");
    }
}

/// The shared weights are the base's, so an expert's adapter may hold anything for the modules they belong to.
#[test]
fn other_tensors_of_modules_that_the_model_has_matter_where_these_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let ffn = |role| matches!(role, Role::Layer(_, moerge_core::model::families::LayerRole::Ffn(_)));
    for tied in [false, true] {
        for name in [
            "model.layers.0.self_attn.q_proj.lora_B.bias",
            "model.layers.2.self_attn.o_proj.base_layer.bias",
            "model.embed_tokens.weight",
            "model.embed_tokens.token_adapter.trainable_tokens_delta",
            "model.norm.weight",
            "lm_head.weight",
            "lm_head.modules_to_save.default.weight",
        ] {
            let config = llama(&json!({"tie_word_embeddings": tied}));
            let source = with_another_tensor(dir.path(), &config, name).unwrap_or_else(|e| panic!("{name}: {e}"));
            source.check_adapter_is_whole(ffn).unwrap();
            let error = source.check_adapter_is_whole(|_| true).unwrap_err().to_string();
            assert!(error.contains("merge it into its model first"), "{error}");
        }
    }
    for name in ["model.layers.1.mlp.down_proj.bias", "model.layers.1.mlp.modules_to_save.default.down_proj.weight"] {
        let source = with_another_tensor(dir.path(), &llama(&json!({})), name).unwrap();
        let error = source.check_adapter_is_whole(ffn).unwrap_err().to_string();
        assert!(error.contains("model.layers.1.mlp.down_proj."), "{error}");
    }
}

#[test]
fn an_adapter_of_a_tied_head_is_refused_on_the_base_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_model(&dir.join("base"), &llama(&json!({"tie_word_embeddings": true})), 1);
    write_model(&dir.join("other"), &llama(&json!({"tie_word_embeddings": true})), 2);
    let mut tensors: Tensors = BTreeMap::new();
    lora_pair(&mut tensors, "model.layers.0.mlp.gate_proj", 64, 32, 4);
    lora_pair(&mut tensors, "lm_head", 160, 32, 4);
    write_adapter(&dir.join("adapter"), &json!({}), &tensors);
    let recipe = |base: &str, expert: &str| {
        let text = format!(
            "base_model: {base}\ngate_mode: random\nexperts:\n- source_model: {expert}\n- source_model: other\n"
        );
        fs::write(dir.join("moe.yml"), text).unwrap();
        moerge(dir, &["plan", "moe.yml"])
    };
    let output = recipe("base", "base+adapter");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("outside the FFN"));
    let output = recipe("base+adapter", "base");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("lm_head, which is tied to the embeddings"), "{error}");
}

/// Fault 2: pairs of q, k and v on a model that stores them as one matrix.
#[test]
fn fault_02_pairs_of_q_k_and_v_go_onto_the_rows_of_a_fused_weight() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let phi3 = json!({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "pad_token_id": 0});
    write_model(&dir.join("base"), &llama(&phi3), 1);
    let (mut parts, mut whole): (Tensors, Tensors) = (BTreeMap::new(), BTreeMap::new());
    for layer in 0..3 {
        let module = |name: &str| format!("model.layers.{layer}.self_attn.{name}");
        for (part, rows) in [("q_proj", 32), ("k_proj", 16), ("v_proj", 16)] {
            lora_pair(&mut parts, &module(part), rows, 32, 4);
        }
        // The same A and all Bs below each other: what the fused weight is changed by.
        lora_pair(&mut whole, &module("qkv_proj"), 64, 32, 4);
        let b = |name: &str| format!("base_model.model.{}.lora_B.weight", module(name));
        let rows = ["q_proj", "k_proj", "v_proj"].map(|part| parts[&b(part)].1.clone()).concat();
        whole.get_mut(&b("qkv_proj")).unwrap().1 = rows;
    }
    write_adapter(&dir.join("parts"), &json!({}), &parts);
    write_adapter(&dir.join("whole"), &json!({}), &whole);
    // Only the value rows, of one layer.
    parts.retain(|name, _| name.contains("layers.1") && name.contains("v_proj"));
    write_adapter(&dir.join("value"), &json!({}), &parts);
    let merged = |adapter: &str| {
        let text = format!(
            "base_model: base+{adapter}\ngate_mode: random\nexperts:\n- source_model: base\n- source_model: base\n"
        );
        fs::write(dir.join("moe.yml"), text).unwrap();
        let out = format!("out-{adapter}");
        moerge_ok(dir, &["merge", "moe.yml", &out, "--quiet"]);
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        let out = Checkpoint::open(&storage, &dir.join(&out)).unwrap();
        let read = |name: &str| out.get(&format!("model.layers.1.self_attn.{name}.weight")).unwrap().read().unwrap();
        ["q_proj", "k_proj", "v_proj", "o_proj"].map(read)
    };
    let [q, k, v, o] = merged("parts");
    assert_eq!([&q, &k, &v, &o].map(Vec::len), merged("whole").each_ref().map(Vec::len));
    assert!([q.clone(), k.clone(), v.clone(), o.clone()] == merged("whole"));
    let [plain_q, plain_k, plain_v, plain_o] = merged("value");
    assert!(plain_v == v && plain_q != q && plain_k != k && plain_o == o);
}
