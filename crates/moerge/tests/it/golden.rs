//! The forward pass against transformers: every family, every layer.
//!
//! Each folder of `golden/` holds a tiny model and what transformers computed with it (`golden/README.md`). One entry
//! point, [`check`], compares all of it; a new family is a new line at the end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use serde_json::Value;

use crate::common::write_changed;
use moerge_core::{
    Result,
    model::{
        config::ModelConfig,
        families::{Description, describe},
        locate::HubCache,
    },
    progress::Silent,
};
use moerge_infer::decoder::{
    Activations, CheckpointWeights, KvCache, Observer, Pass, Quantisation, ResidentModel, forward, logits,
};
use moerge_infer::model::Model;

/// Largest difference that f32 arithmetic in another order may make.
const TOLERANCE: f32 = 1e-4;

fn check(model: &str) {
    check_with_config(model, "config.json");
}

fn check_with_config(model: &str, config: &str) {
    let (checkpoint, description) = open(model, config);
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let expected = Expected::open(model);
    let ids = expected.tokens();
    let layers = description.decoder.layers.len();

    let mut seen = Seen::default();
    let last = forward(&weights, std::slice::from_ref(&ids), Pass::default(), &mut seen, &Silent).unwrap();
    let scores = logits(&weights, &last, &Silent).unwrap();

    assert_eq!((seen.streams.len(), seen.inputs.len()), (layers + 1, layers));
    let differences = [
        ("hidden states", difference(&seen.streams, &expected.floats("hidden_states"))),
        ("router inputs", difference(&seen.inputs, &expected.floats("router_inputs"))),
        ("logits", difference(&[scores], &expected.floats("logits"))),
    ];
    println!("{model} ({config}): largest differences {differences:?}");
    for (what, difference) in differences {
        assert!(difference <= TOLERANCE, "{model}: {what} differ by {difference}");
    }
}

/// A prompt gives the same whatever is packed beside it.
fn check_packing(model: &str) {
    let (checkpoint, description) = open(model, "config.json");
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let ids = Expected::open(model).tokens();
    let sequences = [ids[..3].to_vec(), ids.clone(), ids[5..6].to_vec(), ids[7..20].to_vec()];
    let packed = forward(&weights, &sequences, Pass::default(), &mut (), &Silent).unwrap();
    let mut column = 0;
    for sequence in sequences {
        let alone = forward(&weights, std::slice::from_ref(&sequence), Pass::default(), &mut (), &Silent).unwrap();
        for token in 0..sequence.len() {
            let pairs = alone.token(token).into_iter().zip(packed.token(column));
            let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= TOLERANCE, "{model}: token {token} of {} differs by {difference}", sequence.len());
            column += 1;
        }
    }
}

/// A model in memory, given its tokens in parts, says what transformers says of the whole: some at once, one by one,
/// and some again, beside another sequence.
fn check_resident(model: &str) {
    let (checkpoint, description) = open(model, "config.json");
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let expected = Expected::open(model);
    let ids = expected.tokens();
    let resident = ResidentModel::load(&weights, Quantisation::F32, &Silent).unwrap();
    let mut cache = KvCache::new(resident.options(), 2);
    let mut ours = Vec::new();
    for part in [0..5, 5..6, 6..7, 7..ids.len()] {
        let other: Vec<u32> = ids.iter().rev().take(part.len().min(3)).copied().collect();
        let next = [(1, &ids[part.clone()]), (0, &other[..])];
        let x = resident.forward(&mut cache, &next, &mut (), &Silent).unwrap();
        let scores = resident.logits(&x).unwrap();
        ours.extend((0..part.len()).flat_map(|t| scores.token(t)));
    }
    let theirs = expected.floats("logits");
    assert_eq!(ours.len(), theirs.len());
    let largest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{model}: largest difference of logits {largest}");
    assert!(largest <= TOLERANCE, "{model}: logits differ by {largest}");
}

/// Fewer bits per weight change the logits a little, and the fewer the more.
fn check_quantised(model: &str) {
    let (checkpoint, description) = open(model, "config.json");
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let expected = Expected::open(model);
    let (ids, theirs) = (expected.tokens(), expected.floats("logits"));
    let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let distance = |quantisation| {
        let resident = ResidentModel::load(&weights, quantisation, &Silent).unwrap();
        let mut cache = KvCache::new(resident.options(), 1);
        let x = resident.forward(&mut cache, &[(0, &ids)], &mut (), &Silent).unwrap();
        let ours = resident.logits(&x).unwrap().to_tokens();
        norm(&ours.iter().zip(&theirs).map(|(a, b)| a - b).collect::<Vec<_>>()) / norm(&theirs)
    };
    let distances = [Quantisation::F32, Quantisation::BF16, Quantisation::Q8_0].map(distance);
    println!("{model}: relative distance of logits {distances:?}");
    assert!(distances[0] < 1e-5 && distances[1] < 0.03 && distances[2] < 0.15, "{distances:?}");
    assert!(distances[0] < distances[1] && distances[1] < distances[2], "{distances:?}");
}

/// Golden models under configs that are easy to misread, opened as the commands open a model: windows in some layers, a
/// head beside tied embeddings (`golden/odd_configs.py`).
#[test]
fn fault_03_and_04_odd_configs_mean_what_they_mean_to_transformers() {
    #[derive(serde::Deserialize)]
    struct Case {
        model: String,
        config: BTreeMap<String, Option<Value>>,
        head: bool,
    }
    let text = std::fs::read_to_string(folder("odd_configs.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let expected = Checkpoint::open_file(&storage, &folder("odd_configs.safetensors")).unwrap();
    for (name, case) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_changed(&folder(&case.model), dir.path(), &case.config, case.head);
        let cache = HubCache::from_env();
        let model = Model::open(&storage, ".", dir.path(), &cache).unwrap();
        let weights = model.weights().unwrap();
        let resident = ResidentModel::load(&*weights, Quantisation::F32, &Silent).unwrap();
        let ids = Expected::open(&case.model).tokens();
        let x = resident.forward_whole(&[ids], &mut (), &Silent).unwrap();
        let scores = resident.logits(&x).unwrap();
        let ours: Vec<f32> = (scores.tokens() - 4..scores.tokens()).flat_map(|t| scores.token(t)).collect();
        let bytes = expected.get(&name).unwrap().read().unwrap();
        let theirs: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let largest = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest <= TOLERANCE, "{name}: logits differ by {largest}");
    }
}

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model)
}

fn open(model: &str, config: &str) -> (Checkpoint, Description) {
    let path = folder(model).join(config);
    let config = ModelConfig::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    (Checkpoint::open(&storage, &folder(model)).unwrap(), describe(&config).unwrap())
}

/// Keeps everything.
#[derive(Default)]
struct Seen {
    streams: Vec<Activations>,
    inputs: Vec<Activations>,
}

impl Observer for Seen {
    fn entering(&mut self, _: usize, x: &Activations) -> Result<()> {
        self.streams.push(x.clone());
        Ok(())
    }

    fn router_input(&mut self, _: usize, u: &Activations) -> Result<()> {
        self.inputs.push(u.clone());
        Ok(())
    }
}

struct Expected(Checkpoint);

impl Expected {
    fn open(model: &str) -> Self {
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        Self(Checkpoint::open_file(&storage, &folder(model).join("expected.safetensors")).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.0.get(name).unwrap().read().unwrap();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn tokens(&self) -> Vec<u32> {
        let bytes = self.0.get("input_ids").unwrap().read().unwrap();
        bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect()
    }
}

/// Largest difference; `theirs` is matrix after matrix, token after token.
fn difference(ours: &[Activations], theirs: &[f32]) -> f32 {
    let ours: Vec<f32> = ours.iter().flat_map(|x| (0..x.tokens()).flat_map(|t| x.token(t))).collect();
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| if a.is_nan() { f32::INFINITY } else { (a - b).abs() }).fold(0.0, f32::max)
}

macro_rules! golden {
    ($($name:ident: $check:ident($($argument:literal),*);)*) => { $( #[test] fn $name() { $check($($argument),*) } )* };
}

golden! {
    llama: check("llama");
    llama_v4: check_with_config("llama", "config.v4.json");
    llama_rope_llama3: check("llama3_rope");
    llama_rope_llama3_v4: check_with_config("llama3_rope", "config.v4.json");
    llama_rope_linear: check("llama_linear");
    llama_rope_linear_v4: check_with_config("llama_linear", "config.v4.json");
    llama_rope_dynamic: check("llama_dynamic");
    llama_rope_dynamic_v4: check_with_config("llama_dynamic", "config.v4.json");
    llama_rope_yarn: check("llama_yarn");
    llama_rope_yarn_v4: check_with_config("llama_yarn", "config.v4.json");
    mistral_sliding_window: check("mistral");
    phi3_fused_tensors: check("phi3");
    qwen2_biases_tied: check("qwen2");
    qwen2_biases_tied_v4: check_with_config("qwen2", "config.v4.json");
    qwen3_head_norms: check("qwen3");
    mixtral: check("mixtral");
    qwen2_moe_shared_expert: check("qwen2_moe");
    qwen3_moe: check("qwen3_moe");
    packed_llama: check_packing("llama");
    packed_dynamic_rope: check_packing("llama_dynamic");
    packed_mistral: check_packing("mistral");
    packed_mixtral: check_packing("mixtral");
    packed_qwen2_moe: check_packing("qwen2_moe");
    resident_llama: check_resident("llama");
    resident_llama_rope_linear: check_resident("llama_linear");
    resident_mistral_sliding_window: check_resident("mistral");
    resident_phi3: check_resident("phi3");
    resident_qwen2_biases_tied: check_resident("qwen2");
    resident_qwen3_head_norms: check_resident("qwen3");
    resident_mixtral: check_resident("mixtral");
    resident_qwen2_moe_shared_expert: check_resident("qwen2_moe");
    resident_qwen3_moe: check_resident("qwen3_moe");
    quantised_llama: check_quantised("llama");
    quantised_mixtral: check_quantised("mixtral");
}
