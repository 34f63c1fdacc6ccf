//! The routers against mergekit's: on the golden models always, on SmolLM2-135M where it is at hand.
//!
//! mergekit computes in bf16, so its rows are compared by cosine; the same rule computed by transformers in f32 must be
//! met to a few units in the sixth place. Then what is refused, and progress messages.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use moerge_core::{
    ErrorKind, Result,
    model::{
        config::ModelConfig,
        families::{Family, describe},
    },
    plan::moe::represent::moe_families,
    plan::{Prompts, Routing, Slots},
    progress::{Progress, Silent, Stage},
    recipe::{FitSettings, GateMode, Recipe},
};
use moerge_infer::{
    decoder::{CheckpointWeights, WeightRounding},
    tokenizer::Tokenizer,
};
use moerge_lib::routers::{Routers, make_routers, warnings};

/// Smallest cosine to mergekit's bf16 rows.
const MERGEKIT: f64 = 0.999;
/// Largest difference to the rows in f32.
const F32: f32 = 1e-5;

fn check(model: &str, mode: GateMode, recipe: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(model);
    let routers = routers(&dir, &dir.join(recipe), mode, None);
    let expected = open_file(&dir.join("mergekit_routers.safetensors"));
    let name = mode.name();
    compare(
        model,
        &routers.gates,
        &floats(&expected, name).unwrap(),
        &floats(&expected, &format!("f32_{name}")).unwrap(),
    );
    let (shared, shared_f32) =
        (floats(&expected, &format!("{name}_shared")), floats(&expected, &format!("f32_{name}_shared")));
    assert_eq!(routers.shared_gates.is_empty(), shared.is_none());
    if let (Some(shared), Some(shared_f32)) = (shared, shared_f32) {
        compare(&format!("{model}, shared expert"), &routers.shared_gates, &shared, &shared_f32);
    }
}

fn compare(what: &str, ours: &[Vec<f32>], mergekit: &[f32], f32s: &[f32]) {
    let ours = ours.concat();
    let hidden = 32;
    let largest = ours.iter().zip(f32s).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let cosine = smallest_cosine(&ours, mergekit, hidden);
    println!("{what}: largest difference to f32 {largest:.1e}, smallest cosine to mergekit {cosine:.6}");
    assert_eq!(ours.len(), f32s.len());
    assert!(largest <= F32, "{what}: differs by {largest}");
    assert!(cosine >= MERGEKIT, "{what}: cosine {cosine}");
}

/// MOERGE_SMOLLM2 names the model's folder, MOERGE_REFERENCE that with `article.yml` and
/// `mergekit_routers.safetensors`.
#[test]
fn smollm2() {
    let (Some(model), Some(reference)) = (std::env::var_os("MOERGE_SMOLLM2"), std::env::var_os("MOERGE_REFERENCE"))
    else {
        println!("skipped: MOERGE_SMOLLM2 and MOERGE_REFERENCE are not set");
        return;
    };
    let (model, reference) = (PathBuf::from(model), PathBuf::from(reference));
    let recipe = reference.join("article.yml");
    let expected = open_file(&reference.join("mergekit_routers.safetensors"));
    let (hidden, slots) = (576, Slots::all(4, 30));
    for mode in [GateMode::Hidden, GateMode::CheapEmbed] {
        let exact = routers(&model, &recipe, mode, None);
        let cosine = smallest_cosine(&exact.gates.concat(), &floats(&expected, mode.name()).unwrap(), hidden);
        println!("smollm2 {}: smallest cosine to mergekit {cosine:.6}", mode.name());
        assert!(cosine >= MERGEKIT);
        println!("  {}", warnings(&exact, &slots, &["chat", "code", "story", "math"].map(String::from)).join("\n  "));
        assert!(warnings(&exact, &slots, &[]).len() == if mode == GateMode::Hidden { 3 } else { 1 });
        for rounding in [WeightRounding::Q8_0, WeightRounding::Q4_0] {
            let rounded = routers(&model, &recipe, mode, Some(rounding));
            let cosine = smallest_cosine(&exact.gates.concat(), &rounded.gates.concat(), hidden);
            println!("smollm2 {} {rounding:?}: smallest cosine to unrounded {cosine:.6}", mode.name());
        }
    }
}

fn routers(dir: &Path, recipe: &Path, mode: GateMode, rounding: Option<WeightRounding>) -> Routers {
    let recipe = Recipe::parse("moe.yml", &std::fs::read_to_string(recipe).unwrap()).unwrap();
    let config = config(dir);
    let slots = Slots::of(&recipe, config.layers);
    let family = moe_families(&config, Family::of(&config).unwrap()).unwrap()[0];
    make(dir, &Routing { gate_mode: mode, ..Routing::new(&recipe, family, slots, 0) }, rounding, &Silent).unwrap()
}

fn config(dir: &Path) -> ModelConfig {
    let path = dir.join("config.json");
    ModelConfig::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap()
}

fn make(dir: &Path, routing: &Routing, rounding: Option<WeightRounding>, progress: &dyn Progress) -> Result<Routers> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let description = describe(&config(dir)).unwrap();
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
    let tokenizer = Tokenizer::open(storage.as_ref(), dir).unwrap();
    make_routers(routing, &weights, Some(&tokenizer), rounding, progress)
}

fn open_file(path: &Path) -> Checkpoint {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Checkpoint::open_file(&storage, path).unwrap()
}

fn floats(file: &Checkpoint, name: &str) -> Option<Vec<f32>> {
    let view = file.get(name)?;
    let bytes = view.read().unwrap();
    Some(match view.dtype {
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    })
}

/// Row by row.
fn smallest_cosine(a: &[f32], b: &[f32], hidden: usize) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let rows = a.chunks(hidden).zip(b.chunks(hidden));
    rows.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).fold(f64::INFINITY, f64::min)
}

/// An expert whose only prompt is empty has the gate of the bos token alone, as in mergekit-moe.
#[test]
fn fault_recipes_empty_prompts_make_the_gates_that_mergekit_makes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let expected = open_file(&golden.join("empty_prompts.safetensors"));
    for mode in [GateMode::Hidden, GateMode::CheapEmbed] {
        let routers = routers(&golden.join("llama"), &golden.join("empty_prompts.yml"), mode, None);
        let name = mode.name();
        let [mergekit, f32s] = [name.to_owned(), format!("f32_{name}")].map(|name| floats(&expected, &name).unwrap());
        compare(&format!("empty prompts, {name}"), &routers.gates, &mergekit, &f32s);
    }
}

macro_rules! mergekit {
    ($($name:ident: $($argument:expr),*;)*) => { $( #[test] fn $name() { check($($argument),*) } )* };
}

mergekit! {
    llama_hidden: "llama", GateMode::Hidden, "moe.yml";
    llama_hidden_avg: "llama", GateMode::HiddenAvg, "moe_avg.yml";
    llama_cheap_embed: "llama", GateMode::CheapEmbed, "moe.yml";
    mistral_hidden: "mistral", GateMode::Hidden, "moe.yml";
    mistral_hidden_avg: "mistral", GateMode::HiddenAvg, "moe_avg.yml";
    mistral_cheap_embed: "mistral", GateMode::CheapEmbed, "moe.yml";
    qwen2_hidden: "qwen2", GateMode::Hidden, "moe.yml";
    qwen2_hidden_avg: "qwen2", GateMode::HiddenAvg, "moe_avg.yml";
    qwen2_cheap_embed: "qwen2", GateMode::CheapEmbed, "moe.yml";
    qwen3_hidden: "qwen3", GateMode::Hidden, "moe.yml";
    qwen3_hidden_avg: "qwen3", GateMode::HiddenAvg, "moe_avg.yml";
    qwen3_cheap_embed: "qwen3", GateMode::CheapEmbed, "moe.yml";
}

/// Two experts on the golden Llama; the second has these prompts.
fn second_expert(mode: GateMode, positive: &[&str], negative: &[&str], listener: &Listener) -> Result<Routers> {
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    let first = Prompts { positive: texts(&["the king"]), negative: Vec::new() };
    let second = Prompts { positive: texts(positive), negative: texts(negative) };
    let fit = FitSettings::default();
    let routing = Routing {
        gate_mode: mode,
        experts: vec![first, second],
        slots: Slots::all(2, 3),
        shared_expert: None,
        seed: 0,
        fit,
        balance: false,
        validation: Vec::new(),
    };
    make(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama"), &routing, None, listener)
}

#[derive(Default)]
struct Listener {
    total: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
    told: Mutex<Vec<String>>,
    stop: bool,
}

impl Progress for Listener {
    fn start(&self, _: Stage, total: u64, _: u64) {
        self.total.store(total, Ordering::Relaxed);
    }
    fn advance(&self, _: Stage, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }
    fn bytes_read(&self, _: Stage, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn finish(&self, _: Stage, summary: &str) {
        self.note(summary);
    }
    fn note(&self, message: &str) {
        self.told.lock().unwrap().push(message.to_owned());
    }
    fn stop_requested(&self) -> bool {
        self.stop
    }
}

#[test]
fn layers_are_counted_and_equal_prompts_computed_once() {
    let listener = Listener::default();
    second_expert(GateMode::Hidden, &["the king", "sort the list", "sort the list"], &[], &listener).unwrap();
    // The last of the three layers is not needed.
    assert_eq!((listener.total.into_inner(), listener.done.into_inner()), (2, 2));
    let layer = 4 * (2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 56);
    assert_eq!(listener.bytes.into_inner(), 2 * layer, "each weight is read once");
    assert!(listener.told.into_inner().unwrap()[0].starts_with("2 prompts, "));
}

#[test]
fn prompts_that_cancel_out_are_refused_and_never_nan() {
    for mode in [GateMode::Hidden, GateMode::HiddenAvg, GateMode::CheapEmbed] {
        let error = second_expert(mode, &["sort it"], &["sort it"], &Listener::default()).unwrap_err();
        assert!(error.to_string().contains("the prompts of expert 1 give no direction"), "{error}");
    }
    // The same last token: the embeddings cancel out, and nothing else does.
    let listener = Listener::default();
    let routers = second_expert(GateMode::Hidden, &["sort it."], &["the king."], &listener).unwrap();
    assert!(routers.gates[0][32..].iter().all(|x| *x == 0.0));
    assert!(routers.gates.concat().iter().all(|x| x.is_finite()));
    let told = listener.told.into_inner().unwrap();
    assert!(told[1].contains("the gate of expert 1 is all zeros in layer 0"), "{told:?}");
}

#[test]
fn an_expert_without_prompts_is_refused_where_they_are_needed() {
    let error = second_expert(GateMode::Hidden, &[], &[], &Listener::default()).unwrap_err();
    assert!(error.to_string().contains("expert 1 has no positive prompts"), "{error}");
    second_expert(GateMode::UniformRandom, &[], &[], &Listener::default()).unwrap();
}

#[test]
fn the_user_can_stop_it() {
    for mode in [GateMode::Hidden, GateMode::CheapEmbed] {
        let listener = Listener { stop: true, ..Listener::default() };
        let error = second_expert(mode, &["sort"], &[], &listener).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
