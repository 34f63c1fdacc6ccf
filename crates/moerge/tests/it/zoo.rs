//! Merges by name of architectures that no table here knows, against formulas written out in torch (`golden/zoo.py`):
//! encoders, vision towers, Whisper, Mamba, GPT-2, T5, a Mixture of Experts, a network of convolutions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    common::{golden, moerge_ok, write_tensors},
    dense::refusal,
};

#[derive(Deserialize)]
struct Zoo {
    recipes: BTreeMap<String, String>,
    /// Model, method, tensor: the sum and the sum of squares.
    models: BTreeMap<String, BTreeMap<String, BTreeMap<String, [f64; 2]>>>,
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(dir: &Path) -> Tensors {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    checkpoint.tensors().map(|t| (t.name.clone(), (t.dtype, t.shape.clone(), t.read().unwrap()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The models `base`, `a` and `b` of a case.
fn write_models(dir: &Path, model: &str) {
    let from = golden("zoo").join(model);
    for (name, own, other) in [("base", 1.0f32, 0.0f32), ("a", 0.75, 0.25), ("b", 1.25, -0.5)] {
        let to = dir.join(name);
        fs::create_dir_all(&to).unwrap();
        fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
        let mut tensors = read(&from);
        let mixable = |(dtype, shape, _): &&mut (Dtype, Vec<usize>, Vec<u8>)| *dtype == Dtype::F32 && !shape.is_empty();
        for (_, shape, bytes) in tensors.values_mut().filter(mixable).filter(|_| name != "base") {
            let values = floats(bytes);
            let mut moved = values.clone();
            moved.rotate_right(values.len() / shape[0]);
            *bytes = values.iter().zip(moved).flat_map(|(x, m)| (x * own + m * other).to_le_bytes()).collect();
        }
        write_tensors(&to.join("model.safetensors"), &tensors);
    }
}

#[test]
fn every_architecture_merges_by_name_as_the_formulas_say() {
    let zoo: Zoo = serde_json::from_slice(&fs::read(golden("zoo.json")).unwrap()).unwrap();
    assert_eq!((zoo.models.len(), zoo.recipes.len()), (10, 3));
    for (model, methods) in &zoo.models {
        let dir = tempfile::tempdir().unwrap();
        write_models(dir.path(), model);
        for (method, expected) in methods {
            fs::write(dir.path().join("recipe.yml"), &zoo.recipes[method]).unwrap();
            moerge_ok(dir.path(), &["merge", "recipe.yml", method]);
            let ours = read(&dir.path().join(method));
            assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{model} {method}");
            for (name, (dtype, _, bytes)) in &ours {
                if *dtype != Dtype::F32 {
                    continue;
                }
                let values = floats(bytes);
                let sum = |f: fn(f64) -> f64| values.iter().map(|x| f(f64::from(*x))).sum::<f64>();
                let found = [sum(|x| x), sum(|x| x * x)];
                for (found, expected) in found.iter().zip(&expected[name]) {
                    let allowed = 1e-5 * (expected.abs() + 1.0);
                    assert!((found - expected).abs() <= allowed, "{model} {method} {name}: {found}, torch {expected}");
                }
            }
        }
    }
}

#[test]
fn layers_of_any_architecture_stack() {
    let zoo: Zoo = serde_json::from_slice(&fs::read(golden("zoo.json")).unwrap()).unwrap();
    for model in zoo.models.keys().filter(|model| !["resnet", "t5", "whisper"].contains(&model.as_str())) {
        let dir = tempfile::tempdir().unwrap();
        write_models(dir.path(), model);
        let recipe = "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 2]}]\n\
                      - sources: [{model: a, layer_range: [1, 3]}]\n";
        fs::write(dir.path().join("recipe.yml"), recipe).unwrap();
        moerge_ok(dir.path(), &["merge", "recipe.yml", "out"]);
        let (ours, base, a) = ["out", "base", "a"].map(|name| read(&dir.path().join(name))).into();
        let stack = stack_of_3(&base);
        let in_layer = |layer: usize| format!("{stack}.{layer}.");
        let rest = |tensors: &Tensors, layer: usize| -> BTreeMap<String, Vec<u8>> {
            let prefix = in_layer(layer);
            let of_layer = tensors.iter().filter(|(name, _)| name.starts_with(&prefix));
            of_layer.map(|(name, (_, _, bytes))| (name[prefix.len()..].to_owned(), bytes.clone())).collect()
        };
        for (layer, (source, from)) in [(&base, 0), (&base, 1), (&a, 1), (&a, 2)].into_iter().enumerate() {
            assert_eq!(rest(&ours, layer), rest(source, from), "{model} layer {layer}");
            assert!(!rest(&ours, layer).is_empty(), "{model}");
        }
        assert!(rest(&ours, 4).is_empty(), "{model}");
        let config: Value = serde_json::from_slice(&fs::read(dir.path().join("out/config.json")).unwrap()).unwrap();
        let keys = ["/num_hidden_layers", "/n_layer", "/text_config/num_hidden_layers"];
        let counts: BTreeSet<u64> = keys.iter().filter_map(|key| config.pointer(key)?.as_u64()).collect();
        assert_eq!(counts, [4].into(), "{model}: {config}");
    }
}

/// The stack of three layers.
fn stack_of_3(tensors: &Tensors) -> String {
    let third = |name: &String| name.split_once(".2.").map(|(stack, _)| stack.to_owned());
    let plain = |stack: &String| !stack.contains(|c: char| c.is_ascii_digit());
    tensors
        .keys()
        .filter_map(third)
        .find(|stack| plain(stack) && (stack.contains("layer") || stack == "transformer.h"))
        .unwrap()
}

#[test]
fn slices_of_encoders_with_decoders_are_refused_by_name() {
    for model in ["t5", "whisper"] {
        let dir = tempfile::tempdir().unwrap();
        write_models(dir.path(), model);
        let recipe = "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 1]}]\n";
        let printed = refusal(dir.path(), recipe);
        assert!(printed.contains("an encoder and a decoder"), "{model}: {printed}");
    }
}
