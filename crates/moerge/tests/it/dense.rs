//! Dense merges as a user runs them: against mergekit-yaml (`golden/dense.py`), and what it cannot do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::bf16;
use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{contents, example, golden, moerge, moerge_ok, write_changed, write_tensors};

pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<f32>)>;

pub fn tensors(dir: &Path) -> Tensors {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let checkpoint = Checkpoint::open(&storage, dir).unwrap();
    let values = |tensor: &moerge_checkpoint::TensorView| {
        let bytes = tensor.read().unwrap();
        match tensor.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => panic!("{other}"),
        }
    };
    checkpoint.tensors().map(|t| (t.name.clone(), (t.dtype, t.shape.clone(), values(t)))).collect()
}

pub fn write(path: &Path, tensors: &Tensors) {
    let bytes = |x: &Vec<f32>| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let all = tensors.iter().map(|(name, (_, shape, x))| (name.clone(), (Dtype::F32, shape.clone(), bytes(x))));
    write_tensors(path, &all.collect());
}

/// The models `base`, `a` and `b` of `golden/dense.py`.
pub fn write_models(dir: &Path, model: &str) {
    for (name, own, other) in [("base", 1.0, 0.0), ("a", 0.75, 0.25), ("b", 1.25, -0.5f32)] {
        let to = dir.join(name);
        write_changed(&golden(model), &to, &BTreeMap::new(), false);
        if name == "base" {
            continue;
        }
        let mut mixed = tensors(&golden(model));
        for (_, shape, values) in mixed.values_mut() {
            let row = values.len() / shape[0];
            let mut moved = values.clone();
            moved.rotate_right(row);
            values.iter_mut().zip(moved).for_each(|(x, m)| *x = *x * own + m * other);
        }
        write(&to.join("model.safetensors"), &mixed);
    }
}

/// Writes the recipe and merges.
pub fn merge(dir: &Path, recipe: &str, out: &str) -> PathBuf {
    fs::write(dir.join("recipe.yml"), recipe).unwrap();
    moerge_ok(dir, &["merge", "recipe.yml", out]);
    dir.join(out)
}

/// What is printed where the recipe is refused.
pub fn refusal(dir: &Path, recipe: &str) -> String {
    fs::write(dir.join("recipe.yml"), recipe).unwrap();
    let output = moerge(dir, &["merge", "recipe.yml", "out"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(!dir.join("out").exists());
    printed
}

#[derive(Deserialize)]
struct Case {
    golden: String,
    recipe: String,
    layers: u64,
    tensors: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    /// Sum, sum of squares, the first element, that after a third, the last.
    values: [f64; 5],
}

#[test]
fn recipes_give_what_mergekit_gives() {
    let text = fs::read_to_string(golden("dense.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 13);
    for (name, case) in cases {
        let dir = tempfile::tempdir().unwrap();
        write_models(dir.path(), &case.golden);
        let out = merge(dir.path(), &case.recipe, "out");
        let ours = tensors(&out);
        assert_eq!(ours.keys().collect::<Vec<_>>(), case.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, expected) in &case.tensors {
            let (dtype, shape, values) = &ours[tensor];
            assert_eq!(*shape, expected.shape, "{name}: {tensor}");
            let sum = |f: fn(f64) -> f64| values.iter().map(|x| f(f64::from(*x))).sum::<f64>();
            let last = values.len() - 1;
            let at = |index: usize| f64::from(values[index]);
            let found = [sum(|x| x), sum(|x| x * x), at(0), at(values.len() / 3), at(last)];
            // Sums of n elements of size s may differ by n times what one may.
            let size = (expected.values[1] / values.len() as f64).sqrt();
            let one = if *dtype == Dtype::F32 { 2e-5 } else { 1e-2 } * size;
            let n = values.len() as f64;
            let allowed = [n.sqrt() * 4.0 * one + 1e-6, 2.0 * n * size * one + 1e-6, one, one, one];
            for (what, (found, (expected, allowed))) in
                found.iter().zip(expected.values.iter().zip(allowed)).enumerate()
            {
                let allowed = allowed + 1e-5 * expected.abs();
                assert!((found - expected).abs() <= allowed, "{name}: {tensor} [{what}]: {found}, mergekit {expected}");
            }
        }
        let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["num_hidden_layers"], case.layers, "{name}");
        moerge_ok(dir.path(), &["verify", "out"]);
    }
}

#[test]
fn tensors_that_nothing_changes_are_copied_bit_for_bit_and_layer_lists_follow() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "qwen2");
    let recipe = "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 2]}]\n\
                  - sources: [{model: a, layer_range: [1, 3]}]\n";
    let out = merge(dir.path(), recipe, "out");
    let (ours, base, a) = (tensors(&out), tensors(&dir.path().join("base")), tensors(&dir.path().join("a")));
    assert_eq!(ours["model.layers.1.mlp.up_proj.weight"], base["model.layers.1.mlp.up_proj.weight"]);
    assert_eq!(ours["model.layers.3.mlp.up_proj.weight"], a["model.layers.2.mlp.up_proj.weight"]);
    assert_eq!(ours["model.embed_tokens.weight"], base["model.embed_tokens.weight"]);
    // Both models tie the head; the last one's is that of its own embeddings.
    assert_eq!(ours["lm_head.weight"], a["model.embed_tokens.weight"]);
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["num_hidden_layers"], 4);
    assert_eq!(config["layer_types"].as_array().unwrap().len(), 4);
    assert_eq!(config["tie_word_embeddings"], false);
    moerge_ok(dir.path(), &["verify", "out"]);
}

#[test]
fn models_of_no_known_family_and_mixtures_merge_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: [1, 0]}}\n\
                  - {model: b, parameters: {weight: [0, 1]}}\n";
    for (name, value) in [("a", 1.0), ("b", 2.0)] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("config.json"), r#"{"model_type": "mamba", "n_layer": 3}"#).unwrap();
        let names = ["backbone.embeddings.weight", "backbone.layers.0.mixer.A_log", "backbone.layers.1.mixer.A_log"];
        let tensors = names.into_iter().chain(["backbone.layers.2.mixer.A_log"]);
        let tensors = tensors.map(|name| (name.to_owned(), (Dtype::F32, vec![2, 2], vec![value; 4])));
        write(&dir.path().join(name).join("model.safetensors"), &tensors.collect());
    }
    let ours = tensors(&merge(dir.path(), recipe, "out"));
    let first = |name: &str| ours[name].2[0];
    assert_eq!(first("backbone.layers.0.mixer.A_log"), 1.0);
    assert_eq!(first("backbone.layers.1.mixer.A_log"), 1.5);
    assert_eq!(first("backbone.layers.2.mixer.A_log"), 2.0);
    assert_eq!(first("backbone.embeddings.weight"), 1.0);

    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "mixtral");
    let ours = tensors(&merge(dir.path(), recipe, "out"));
    let name = "model.layers.2.block_sparse_moe.experts.3.w2.weight";
    assert_eq!(ours[name], tensors(&dir.path().join("b"))[name]);
    moerge_ok(dir.path(), &["verify", "out"]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let two = |more: &str| format!("merge_method: linear\nmodels:\n- model: base\n- model: a\n{more}");
    let weight = "parameters: {weight: 0.5}\n";
    // A parameter that no level gives.
    let printed = refusal(dir.path(), &two("  parameters: {weight: 0.5}\n"));
    for part in ["`weight` is missing", "recipe.yml:3:10", "base", "lm_head.weight"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // One whose filters leave a tensor out.
    let printed = refusal(dir.path(), &two("parameters: {weight: [{filter: mlp, value: 1}]}\n"));
    assert!(printed.contains("`weight` is missing") && printed.contains("lm_head.weight"), "{printed}");
    // Vocabularies of different sizes.
    let mut longer = tensors(&dir.path().join("a"));
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (_, shape, values) = longer.get_mut(name).unwrap();
        shape[0] += 2;
        values.extend(vec![0.5; 64]);
    }
    write(&dir.path().join("a/model.safetensors"), &longer);
    let printed = refusal(dir.path(), &two(weight));
    for part in ["vocabularies of different sizes", "[160, 32]", "[162, 32]", "--unsafe-truncate-embeddings"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    moerge_ok(dir.path(), &["merge", "recipe.yml", "cut", "--unsafe-truncate-embeddings"]);
    assert_eq!(tensors(&dir.path().join("cut"))["lm_head.weight"].1, [160, 32]);
    // Another depth, and another width.
    let mut deeper = tensors(&dir.path().join("base"));
    let norm = deeper["model.layers.0.input_layernorm.weight"].clone();
    deeper.insert("model.layers.3.input_layernorm.weight".into(), norm);
    write(&dir.path().join("a/model.safetensors"), &deeper);
    let printed = refusal(dir.path(), &two(weight));
    assert!(printed.contains("a has 4 layers in `model.layers`, base has 3"), "{printed}");
    let mut narrower = tensors(&dir.path().join("base"));
    narrower.insert("model.norm.weight".into(), (Dtype::F32, vec![16], vec![1.0; 16]));
    write(&dir.path().join("a/model.safetensors"), &narrower);
    let printed = refusal(dir.path(), &two(weight));
    assert!(printed.contains("model.norm.weight has another shape in a"), "{printed}");
    // A layer that is not there.
    let slices = "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [1, 5]}]\n";
    let printed = refusal(dir.path(), slices);
    assert!(printed.contains("base has 3 layers") && printed.contains("recipe.yml:3"), "{printed}");
    // A number of models that the method does not take.
    let printed =
        refusal(dir.path(), "merge_method: slerp\nbase_model: base\nmodels: [{model: base}]\nparameters: {t: 1}\n");
    assert!(printed.contains("slerp") && printed.contains("recipe.yml:1:15"), "{printed}");
}

#[test]
fn all_faults_of_a_recipe_are_reported_at_once_with_what_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let printed = refusal(
        dir.path(),
        "merge_method: tiess\nmodels:\n- modle: a\n- b\nslices: []\nparametres: {weight: 1}\ndtype: bfloat61\n\
         tokenizer_source: union\ntokenizer: {source: base}\n",
    );
    for part in [
        "did you mean `ties`?",
        "did you mean `model`?",
        "write `- model: b`",
        "one list of models too many",
        "did you mean `parameters`?",
        "did you mean `bfloat16`?",
        "both `tokenizer` and `tokenizer_source`",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let printed = refusal(
        dir.path(),
        "merge_method: ties\nmodels:\n- {model: a, weight: 1, parameters: {wieght: 0.5, t: 1, density: often}}\n",
    );
    for part in [
        "`ties` needs a `base_model`",
        "write it under `parameters:`",
        "did you mean `weight`?",
        "`density` is \"often\", expected a finite number",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn the_example_models_merge_densely_and_again_from_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = example("tiny");
    let recipe = format!(
        "merge_method: dare_ties\nbase_model: {0}/base\nmodels:\n- {{model: {0}/code, parameters: {{weight: 0.5, density: 0.5}}}}\n\
         - {{model: {0}/math, parameters: {{weight: 0.5, density: 0.5}}}}\nchat_template: chatml\n",
        tiny.display()
    );
    let out = merge(dir.path(), &recipe, "out");
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("| code | all | density 0.5, weight 0.5 |") && card.contains("- merge"), "{card}");
    assert!(fs::read_to_string(out.join("chat_template.jinja")).unwrap().contains("<|im_start|>"));
    // The same bytes for another number of threads, and nothing is done twice.
    moerge_ok(dir.path(), &["merge", "recipe.yml", "again", "-j", "1"]);
    let (mut first, mut second) = (contents(&out), contents(&dir.path().join("again")));
    first.remove("README.md");
    second.remove("README.md");
    first.remove("moerge.json");
    second.remove("moerge.json");
    assert_eq!(first, second);
    let output = moerge_ok(dir.path(), &["merge", "recipe.yml", "out"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("already built"));
    let plan = moerge_ok(dir.path(), &["plan", "recipe.yml", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(plan["merge_method"], json!("dare_ties"));
}

#[test]
fn the_shared_weights_of_a_mixture_merge_by_any_method() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let dense = "merge_method: ties\nbase_model: base\nmodels:\n- {model: a, parameters: {weight: 0.5}}\n\
                 - {model: b, parameters: {weight: 0.25}}\nparameters: {density: [0.4, 0.8]}\n";
    let dense = tensors(&merge(dir.path(), dense, "dense"));
    let moe = "base_model: base\ngate_mode: random\nshared_weights: {merge_method: ties, parameters: {weight: 0.5, density: [0.4, 0.8]}}\n\
               experts:\n- source_model: a\n- {source_model: b, shared_weight: 0.25}\n";
    let out = merge(dir.path(), moe, "moe");
    let moe_tensors = tensors(&out);
    for name in ["model.layers.1.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight"] {
        assert_eq!(moe_tensors[name], dense[name], "{name}");
    }
    let a = tensors(&dir.path().join("a"));
    let (expert, own) = ("model.layers.2.block_sparse_moe.experts.0.w1.weight", "model.layers.2.mlp.gate_proj.weight");
    assert_eq!(moe_tensors[expert].2, a[own].2);
    assert!(fs::read_to_string(out.join("README.md")).unwrap().contains("merged by `ties`"));
    for (shared, expected) in [
        ("{merge_method: ties}", "`weight` is missing"),
        ("{merge_method: tees, parameters: {weight: 1}}", "did you mean `ties`?"),
        ("{merge_method: slerp, parameters: {t: 0.5}}", "slerp"),
        ("averge", "did you mean `average`?"),
    ] {
        let recipe = format!(
            "base_model: base\ngate_mode: random\nshared_weights: {shared}\nexperts:\n- source_model: a\n- source_model: b\n"
        );
        let printed = refusal(dir.path(), &recipe);
        assert!(printed.contains(expected) && printed.contains("recipe.yml:3"), "{shared}: {printed}");
    }
}

#[test]
fn later_documents_name_earlier_ones_and_a_mixture_may_be_made_of_merges() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let first =
        "name: first\nmerge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.25}\n";
    let second = |first: &str| {
        format!(
            "merge_method: task_arithmetic\nbase_model: base\nmodels:\n- {{model: {first}, parameters: {{weight: 0.5}}}}\n\
             - {{model: b, parameters: {{weight: 0.25}}}}\n"
        )
    };
    // In two steps, with a folder in between.
    merge(dir.path(), first, "folder");
    let in_steps = tensors(&merge(dir.path(), &second("folder"), "in_steps"));
    let out = merge(dir.path(), &format!("{first}---\n{}", second("first")), "at_once");
    let at_once = tensors(&out);
    assert_eq!(in_steps.keys().collect::<Vec<_>>(), at_once.keys().collect::<Vec<_>>());
    for (name, (_, _, values)) in &at_once {
        let steps = &in_steps[name].2;
        let largest = values.iter().zip(steps).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-6, "{name}: {largest}");
    }
    let record = fs::read_to_string(out.join("moerge.json")).unwrap();
    assert!(record.contains("\"a: model.norm.weight\"") && !record.contains("first: "), "{record}");
    assert!(!dir.path().join("first").exists());
    // An MoE of merges: what it makes is what it makes of folders.
    let moe = |one: &str, two: &str| {
        format!("base_model: base\ngate_mode: random\nexperts:\n- source_model: {one}\n- source_model: {two}\n")
    };
    let other = "name: other\nmerge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: base, parameters: {weight: 3}}\n";
    merge(dir.path(), other, "other_folder");
    let of_folders = tensors(&merge(dir.path(), &moe("folder", "other_folder"), "moe_of_folders"));
    let recipe = format!("{first}---\n{other}---\n{}", moe("first", "other"));
    let of_documents = tensors(&merge(dir.path(), &recipe, "moe_of_documents"));
    assert_eq!(of_folders, of_documents);
    moerge_ok(dir.path(), &["plan", "recipe.yml"]);
    // Names that do not hold.
    for (recipe, expected) in [
        (format!("{}---\n{}", first.replace("name: first\n", ""), second("a")), "has no `name`"),
        (format!("{first}---\n{first}---\n{}", second("first")), "two documents are called first"),
        (format!("{}---\n{}", moe("a", "b"), second("a")), "only the output of a file"),
        (format!("{first}---\n{}", second("frist")), "frist"),
    ] {
        let printed = refusal(dir.path(), &recipe);
        assert!(printed.contains(expected), "{recipe}: {printed}");
    }
}

#[test]
fn a_tensor_that_any_model_lacks_is_an_error_whoever_it_is_and_stacked_layers_fit() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let mut lacking = tensors(&dir.path().join("a"));
    lacking.remove("model.layers.1.mlp.up_proj.weight");
    write(&dir.path().join("a/model.safetensors"), &lacking);
    let two = |first: &str, second: &str| {
        format!("merge_method: linear\nmodels: [{{model: {first}}}, {{model: {second}}}]\nparameters: {{weight: 1}}\n")
    };
    for recipe in [
        two("a", "b"),
        two("b", "a"),
        "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 3]}]\n".into(),
        "merge_method: slerp\nbase_model: a\nparameters: {t: 0.5}\nslices:\n\
         - sources: [{model: b, layer_range: [0, 3]}, {model: a, layer_range: [0, 3]}]\n"
            .into(),
    ] {
        let printed = refusal(dir.path(), &recipe);
        assert!(printed.contains("model.layers.1.mlp.up_proj.weight"), "{recipe}: {printed}");
    }
    // Layers of another width, and a vocabulary of another size.
    write_models_of(dir.path(), "wide", "phi3");
    let mut longer = tensors(&dir.path().join("b"));
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (_, shape, values) = longer.get_mut(name).unwrap();
        shape[0] += 1;
        values.extend(vec![0.5; 32]);
    }
    write(&dir.path().join("b/model.safetensors"), &longer);
    for other in ["wide", "b"] {
        let recipe = format!(
            "merge_method: passthrough\nslices:\n- sources: [{{model: base, layer_range: [0, 1]}}]\n\
             - sources: [{{model: {other}, layer_range: [1, 3]}}]\n"
        );
        let printed = refusal(dir.path(), &recipe);
        assert!(printed.contains("config.json") && printed.contains("hint:"), "{other}: {printed}");
    }
    // A parameter of the whole merge under a model says that it does not count.
    let recipe = "merge_method: linear\nmodels:\n- {model: base, parameters: {weight: 1, normalize: false}}\n";
    fs::write(dir.path().join("recipe.yml"), recipe).unwrap();
    let output = moerge_ok(dir.path(), &["merge", "recipe.yml", "one"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("`normalize` has no effect under a model"), "{printed}");
}

fn write_models_of(dir: &Path, name: &str, model: &str) {
    write_changed(&golden(model), &dir.join(name), &BTreeMap::new(), false);
}
