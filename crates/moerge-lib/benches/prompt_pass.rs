//! The prompt pass against its two floors: reading the weights once, and multiplying them in f32.
//!
//!     MOERGE_BASE=folder [MOERGE_TOKENS=64,400] cargo bench -p moerge --bench prompt_pass
//!
//! The base is a model in Mistral's shapes (`benches/make_mistral6.py`). Prompts are 20 sequences of random tokens. A
//! row is one pass as `gate_mode: hidden` makes it: every layer but the last. Cold means that the files were dropped
//! from the page cache just before. `ratio` is the pass over the larger of its floors, which are measured in the same
//! minute: on a shared machine all of them move together. CPU seconds count all threads.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage, TensorView};
use moerge_core::{
    model::{
        config::ModelConfig,
        families::{Description, LayerRole, Role, describe},
    },
    progress::Silent,
};
use moerge_infer::decoder::{CheckpointWeights, Panels, Pass, forward, matmul};

const PROMPTS: usize = 20;
/// Runs of each product, of which the fastest counts.
const RUNS: usize = 4;

fn main() {
    let Some(base) = std::env::var_os("MOERGE_BASE").map(PathBuf::from) else {
        println!("skipped: MOERGE_BASE names no model folder");
        return;
    };
    let tokens = std::env::var("MOERGE_TOKENS").unwrap_or("64,400".to_owned());
    let tokens: Vec<usize> = tokens.split(',').map(|t| t.trim().parse().expect("MOERGE_TOKENS: numbers")).collect();
    let config = base.join("config.json");
    let config = ModelConfig::parse(&std::fs::read_to_string(&config).expect("config.json"), &config).expect("config");
    let description = describe(&config).expect("a model that moerge knows");
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, &base).expect("weights");
    let layers = config.layers - 1;
    let views = layer_views(&checkpoint, &description, layers);
    let bytes: u64 = views.iter().map(|v| v.len).sum();
    println!("{layers} layers, {:.2} GB of weights, {} cores", bytes as f64 / 1e9, cores());

    let pass = |tokens: usize| {
        let weights = CheckpointWeights::new(&checkpoint, &description).expect("weights");
        let sequences: Vec<Vec<u32>> = sequences(tokens, config.vocab_size);
        let sum = forward(&weights, &sequences, Pass { layers: Some(layers), ..Pass::default() }, &mut (), &Silent)
            .expect("forward")
            .token(0);
        black_box(sum);
    };
    println!(
        "{:>6} {:>5} {:>8} {:>8} {:>8} {:>8} {:>6}",
        "tokens", "cache", "pass s", "CPU s", "read s", "GEMM s", "ratio"
    );
    for tokens in tokens {
        for cold in [true, false] {
            let cache = || if cold { drop_cache(&checkpoint) } else { read(&views) };
            cache();
            let (pass, cpu) = timed(|| pass(tokens));
            let peak = peak_mib();
            cache();
            let (read, read_cpu) = timed(|| read(&views));
            let (gemm, gemm_cpu) = gemm_seconds(&description, layers, tokens);
            let name = if cold { "cold" } else { "warm" };
            let ratio = pass / read.max(gemm);
            println!(
                "{tokens:6} {name:>5} {pass:8.2} {cpu:7.2} {read:8.2} {read_cpu:7.2} {gemm:8.2} {gemm_cpu:7.2} \
                 {ratio:7.2}   peak {peak} MiB"
            );
        }
    }
}

fn sequences(tokens: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 7919 % vocabulary) as u32).collect();
    ids.chunks(tokens.div_ceil(PROMPTS)).map(<[u32]>::to_vec).collect()
}

/// The tensors that the pass reads, in its order.
fn layer_views(checkpoint: &Checkpoint, description: &Description, layers: usize) -> Vec<TensorView> {
    let used = |role: &Role| matches!(role, Role::Layer(layer, _) if *layer < layers);
    let tensors = description.tensors.iter().filter(|t| used(&t.role));
    tensors.map(|t| t.find(checkpoint).expect("the tensor")).collect()
}

/// Reads all bytes once, with one thread.
fn read(views: &[TensorView]) {
    let mut buffer = vec![0; 4 << 20];
    for view in views {
        for offset in (0..view.len).step_by(buffer.len()) {
            let length = (view.len - offset).min(buffer.len() as u64) as usize;
            view.read_at(offset, &mut buffer[..length]).expect("read");
        }
    }
    black_box(&buffer);
}

/// What the products alone need, wall and CPU: `W x` for every matrix of a layer, times the layers.
fn gemm_seconds(description: &Description, layers: usize, tokens: usize) -> (f64, f64) {
    let linear = |role: &Role| matches!(role, Role::Layer(0, LayerRole::Attention(_) | LayerRole::Ffn(_)));
    let numbers = |count: usize| (0..count).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
    let mut sum = (0.0, 0.0);
    for tensor in description.tensors.iter().filter(|t| linear(&t.role)) {
        let weights = numbers(tensor.shape[0] * tensor.shape[1]);
        let x = numbers(tensor.shape[1] * tokens);
        let mut fastest = f64::INFINITY;
        let (_, cpu) = timed(|| {
            for _ in 0..RUNS {
                let product = || drop(black_box(matmul(&weights, &Panels::from_rows(&x, tokens))));
                fastest = fastest.min(timed(product).0);
            }
        });
        sum = (sum.0 + fastest * layers as f64, sum.1 + cpu / RUNS as f64 * layers as f64);
    }
    sum
}

/// Wall and CPU seconds.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    work();
    (start.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

/// Of this process with its ended threads, by Linux; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Largest resident size so far, by Linux; 0 elsewhere.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn drop_cache(checkpoint: &Checkpoint) {
    for file in checkpoint.files() {
        let drop = |path: &Path| {
            let input = format!("if={}", path.display());
            Command::new("dd").args([&input, "iflag=nocache", "count=0", "status=none"]).status()
        };
        drop(&file.path).expect("dd, to drop files from the page cache");
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
