//! Golden models blended with themselves in reverse order of layers, compared with the forward pass, finite differences
//! and PyTorch (`tests/golden/phatgoose.py`).

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};

use super::{
    golden::{Golden, Reversed},
    *,
};
use crate::decoder::{Activations, CheckpointWeights, Observer, Pass, forward, token_scores};
use moerge_core::{
    model::{config::ModelConfig, families::describe},
    progress::Silent,
};

const ALL: u64 = u64::MAX;

#[derive(Default)]
struct Streams(Vec<Activations>);

impl Observer for Streams {
    fn entering(&mut self, _: usize, x: &Activations) -> Result<()> {
        self.0.push(x.clone());
        Ok(())
    }
}

/// A gate between a model and itself changes nothing: activations and loss equal those of the forward pass.
#[test]
fn a_layer_gives_what_the_forward_pass_gives() {
    let families = ["llama", "llama3_rope", "llama_yarn", "llama_dynamic", "mistral", "phi3", "qwen2", "qwen3"];
    let texts = Golden::open("llama").texts();
    for family in families {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden").join(family);
        let path = folder.join("config.json");
        let config = ModelConfig::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        let (checkpoint, description) = (Checkpoint::open(&storage, &folder).unwrap(), describe(&config).unwrap());
        let weights = CheckpointWeights::new(&checkpoint, &description).unwrap();
        let options = &description.decoder;

        let sequences: Vec<Vec<u32>> = texts.iter().map(|t| t.tokens.clone()).collect();
        let mut streams = Streams::default();
        let last = forward(&weights, &sequences, Pass::default(), &mut streams, &Silent).unwrap();
        let group = &Group::of(&texts, options).unwrap()[0];
        let mut x = Rows { columns: options.hidden, values: streams.0[0].to_tokens() };
        for (layer, stream) in streams.0[1..].iter().enumerate() {
            let made = Layer::read(&weights, &weights, layer, None).unwrap();
            x = made.forward(&x, group, &vec![0.3; options.hidden]);
            let pairs = x.values.iter().zip(stream.to_tokens());
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 1e-4, "{family}: layer {layer} differs by {largest}");
        }

        let targets = texts.iter().flat_map(|t| t.targets.clone()).enumerate();
        let wanted: Vec<(usize, u32)> = targets.filter_map(|(column, target)| Some((column, target?))).collect();
        let scores = token_scores(&weights, &last, &wanted, &Silent).unwrap();
        let expected = -scores.iter().map(|score| score.log_probability).sum::<f64>() / scores.len() as f64;
        let need = gradient_memory(&description, &description, 100, 40, 2);
        let blend = Blend::new(&weights, &weights, None, &need, ALL, &Silent).unwrap();
        let found = blend.step(&texts, &vec![vec![0.1; options.hidden]; options.layers.len()], &Silent).unwrap();
        assert!((found.loss - expected).abs() < 1e-5, "{family}: {} {expected}", found.loss);
        assert!(found.gates.iter().flatten().all(|g| *g == 0.0), "{family}: nothing to choose between");
    }
}

#[test]
fn gradients_are_pytorchs() {
    for family in ["llama", "mistral", "phi3", "qwen2", "qwen3"] {
        let golden = Golden::open(family);
        let (base, model) = (golden.weights(), Reversed(golden.weights()));
        let gates = golden.floats("gates");
        let step = |memory| golden.blend(&model, &base, memory).step(&golden.texts(), &gates, &Silent).unwrap();
        let found = step(ALL);
        assert_eq!(step(0), found, "the same whether weights are kept or read again");

        let loss = golden.floats("loss")[0][0];
        assert!((found.loss as f32 - loss).abs() < 1e-5 * loss, "{family}: loss {} {loss}", found.loss);
        for (layer, (ours, theirs)) in found.gates.iter().zip(golden.floats("gradient")).enumerate() {
            let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
            let difference: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
            let relative = norm(&difference) / norm(&theirs).max(f32::MIN_POSITIVE);
            println!("{family}: layer {layer}: relative difference {relative:.1e}");
            assert!(relative < 1e-4, "{family}: layer {layer}: {relative}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let golden = Golden::open("llama");
    let (base, model) = (golden.weights(), Reversed(golden.weights()));
    let blend = golden.blend(&model, &base, ALL);
    let (texts, gates) = (golden.texts(), golden.floats("gates"));
    let found = blend.step(&texts, &gates, &Silent).unwrap();
    // Along the gradient of each layer, in both directions.
    for layer in [0, 2] {
        let length = found.gates[layer].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let at = |distance: f64| {
            let mut gates = gates.clone();
            let along = |(v, g): (&mut f32, &f32)| *v += (distance * f64::from(*g) / length) as f32;
            gates[layer].iter_mut().zip(&found.gates[layer]).for_each(along);
            blend.step(&texts, &gates, &Silent).unwrap().loss
        };
        let slope = (at(0.02) - at(-0.02)) / 0.04;
        assert!((slope - length).abs() < 2e-3 * length, "layer {layer}: {slope} {length}");
    }
}

#[test]
fn a_vocabulary_in_tiles_gives_the_same_loss_and_gradient() {
    let golden = Golden::open("llama");
    let weights = golden.weights();
    let options = &golden.description.decoder;
    let texts = golden.texts();
    let groups = Group::of(&texts, options).unwrap();
    let enter = |g: &Group| Rows { columns: options.hidden, values: embeddings(&weights, &g.ids).unwrap().to_tokens() };
    let x: Vec<Rows> = groups.iter().map(enter).collect();
    let values = |(loss, grads): (f64, Vec<Rows>)| (loss, grads[0].values.clone());
    let loss =
        |rows| values(Head::in_tiles(&weights, true, rows).unwrap().loss(options, &x, &groups, &Silent).unwrap());
    let ((whole, by), (tiled, tiled_by)) = (loss(160), loss(7));
    assert!((whole - tiled).abs() < 1e-6, "{whole} {tiled}");
    let largest = by.iter().zip(&tiled_by).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let size = by.iter().map(|g| g.abs()).fold(0.0, f32::max);
    assert!(size > 1e-3 && largest < 1e-5 * size, "{largest} of {size}");
}
