//! Files of several documents: their order, what they may name, and what flows from one to the other besides weights.

use std::{collections::BTreeMap, fs, path::Path};

use moerge_checkpoint::Dtype;
use serde_json::Value;

use crate::{
    common::{golden, moerge_ok},
    dense::{Tensors, merge, refusal, tensors, write, write_models},
    vocabularies,
};

fn first(name: &str) -> String {
    format!(
        "name: {name}\nmerge_method: slerp\nbase_model: a\nmodels: [{{model: a}}, {{model: b}}]\nparameters: {{t: 0.25}}\n"
    )
}

fn linear(name: &str, one: &str, two: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!("name: {name}\n") };
    format!("{name}merge_method: linear\nmodels: [{{model: {one}}}, {{model: {two}}}]\nparameters: {{weight: 0.5}}\n")
}

fn moe(base: &str, one: &str, two: &str, gates: &str) -> String {
    format!("base_model: {base}\ngate_mode: {gates}\nexperts:\n- source_model: {one}\n- source_model: {two}\n")
}

fn equal(a: &Tensors, b: &Tensors) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, (_, shape, values)) in a {
        let (_, other_shape, others) = &b[name];
        assert_eq!(shape, other_shape, "{name}");
        let largest = values.iter().zip(others).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-6, "{name}: {largest}");
    }
}

/// What a run prints to stderr.
fn said(dir: &Path, recipe: &str, out: &str) -> String {
    fs::write(dir.join("recipe.yml"), recipe).unwrap();
    let output = moerge_ok(dir, &["merge", "recipe.yml", out]);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn documents_stand_in_any_order_and_the_one_without_a_name_is_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    let parts = [linear("", "second", "b"), linear("second", "first", "base"), first("first")];
    let sorted = tensors(&merge(dir, &[parts[2].as_str(), &parts[1], &parts[0]].join("---\n"), "sorted"));
    for (number, order) in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 0, 1]].into_iter().enumerate() {
        let recipe = order.map(|part: usize| parts[part].as_str()).join("---\n");
        equal(&tensors(&merge(dir, &recipe, &format!("out{number}"))), &sorted);
    }
    // All have a name: the last is the output.
    let named = format!("{}---\n{}", first("first"), linear("last", "first", "base"));
    merge(dir, &named, "named");
}

#[test]
fn circles_and_revisions_are_named_and_documents_that_nothing_uses_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    for (recipe, expected) in [
        (format!("{}---\n{}", linear("x", "x", "a"), linear("", "x", "b")), "document `x` uses itself"),
        (
            [linear("x", "y", "a"), linear("y", "z", "a"), linear("z", "x", "a"), linear("", "x", "b")].join("---\n"),
            "in a circle: x -> y -> z -> x",
        ),
        (format!("{}---\n{}", first("x"), linear("", "x@main", "a")), "which has no revision `main`"),
        (format!("{}---\n{}", linear("x", "last", "a"), linear("last", "x", "b")), "in a circle: last -> x -> last"),
        (format!("{}---\n{}", first("x"), linear("last", "last", "x")), "document `last` uses itself"),
    ] {
        let printed = refusal(dir, &recipe);
        assert!(printed.contains(expected) && printed.contains("recipe.yml:"), "{recipe}: {printed}");
    }
    let printed = said(dir, &format!("{}---\n{}---\n{}", first("x"), first("idle"), linear("", "x", "a")), "out");
    assert!(printed.contains("line 8: document 2 (`idle`) is not merged"), "{printed}");
    // A document that is called like a folder.
    let printed = said(dir, &format!("{}---\n{}", first("base"), linear("", "base", "a")), "of_document");
    assert!(printed.contains("`base` is a document of the recipe and also a folder"), "{printed}");
}

/// A LoRA of rank 1 on q_proj of layer 1.
fn write_adapter(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let of =
        |shape: Vec<usize>| (Dtype::F32, shape.clone(), (0..shape[0] * shape[1]).map(|i| i as f32 / 64.0).collect());
    let module = "base_model.model.model.layers.1.self_attn.q_proj";
    let pair =
        [(format!("{module}.lora_A.weight"), of(vec![1, 32])), (format!("{module}.lora_B.weight"), of(vec![32, 1]))];
    write(&dir.join("adapter_model.safetensors"), &BTreeMap::from(pair));
    let config = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}"#;
    fs::write(dir.join("adapter_config.json"), config).unwrap();
}

#[test]
fn an_adapter_goes_onto_a_document_as_onto_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    write_adapter(&dir.join("lora"));
    merge(dir, &first("first").replace("name: first\n", ""), "folder");
    let of_folder = tensors(&merge(dir, &linear("", "folder+lora", "base"), "of_folder"));
    let out = merge(dir, &format!("{}---\n{}", first("first"), linear("", "first+lora", "base")), "of_document");
    equal(&tensors(&out), &of_folder);
    let q = "model.layers.1.self_attn.q_proj.weight";
    assert_ne!(of_folder[q], tensors(&merge(dir, &linear("", "folder", "base"), "plain"))[q]);
    let of_folder = tensors(&merge(dir, &moe("base", "folder+lora", "base", "random"), "moe_of_folder"));
    let recipe = format!("{}---\n{}", first("first"), moe("base", "first+lora", "base", "random"));
    equal(&tensors(&merge(dir, &recipe, "moe_of_document")), &of_folder);
    moerge_ok(dir, &["verify", "moe_of_document"]);
    let printed = refusal(dir, &format!("{}---\n{}", first("first"), linear("", "first+missing", "base")));
    assert!(printed.contains("missing") && printed.contains("recipe.yml:"), "{printed}");
}

const UNION: &str = "name: both\nmerge_method: linear\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\n\
                     tokenizer_source: union\nchat_template: chatml\n";

#[test]
fn a_merged_vocabulary_flows_into_later_documents_with_its_chat_template() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    vocabularies::write_models(dir);
    merge(dir, &UNION.replace("name: both\n", ""), "folder");
    assert_eq!(vocabularies::ids(&dir.join("folder")).len(), 162);
    let next = |both: &str| format!("merge_method: linear\nmodels: [{{model: {both}}}]\nparameters: {{weight: 1}}\n");
    // As the model of a merge that keeps its vocabulary, and of one that merges it again.
    for (number, more) in ["", "tokenizer_source: union\n", "chat_template: auto\n"].into_iter().enumerate() {
        let of_folder = merge(dir, &(next("folder") + more), &format!("of_folder{number}"));
        let out = merge(dir, &format!("{UNION}---\n{}{more}", next("both")), &format!("of_document{number}"));
        equal(&tensors(&out), &tensors(&of_folder));
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"] {
            let read = |dir: &Path| fs::read_to_string(dir.join(file)).unwrap();
            assert_eq!(read(&out), read(&of_folder), "{file}, {more}");
        }
        moerge_ok(dir, &["verify", &format!("of_document{number}")]);
    }
    let again = linear("", "both", "base").replace("models", "tokenizer_source: union\nmodels");
    let of_folder = merge(dir, &again.replace("both", "folder"), "again_of_folder");
    let out = merge(dir, &format!("{UNION}---\n{again}"), "again");
    equal(&tensors(&out), &tensors(&of_folder));
    assert_eq!(vocabularies::ids(&out), vocabularies::ids(&of_folder));
}

#[test]
fn a_mixture_takes_the_vocabulary_that_a_document_merges() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    vocabularies::write_models(dir);
    merge(dir, &UNION.replace("name: both\n", ""), "folder");
    // The prompts are tokenized by the merged vocabulary: it alone has <|im_start|>.
    let prompts = |base: &str| {
        format!(
            "base_model: {base}\ngate_mode: hidden\nexperts:\n- {{source_model: {base}, positive_prompts: [\"<|im_start|>the day\"]}}\n\
             - {{source_model: base, positive_prompts: [tell me]}}\n"
        )
    };
    let of_folder = merge(dir, &prompts("folder"), "of_folder");
    let out = merge(dir, &format!("{UNION}---\n{}", prompts("both")), "of_document");
    equal(&tensors(&out), &tensors(&of_folder));
    assert_eq!(vocabularies::ids(&out), vocabularies::ids(&of_folder));
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 162);
    assert!(fs::read_to_string(out.join("chat_template.jinja")).unwrap().contains("<|im_start|>"));
    moerge_ok(dir, &["verify", "of_document"]);
    moerge_ok(dir, &["generate", "of_document", "-p", "the day", "-n", "3"]);
    let plan = moerge_ok(dir, &["plan", "recipe.yml", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let bytes: u64 = fs::read_dir(&out).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(plan["output"]["max_bytes"].as_u64().unwrap() >= bytes, "{plan}");
}

#[test]
fn models_of_tokenizers_that_differ_are_held_against_what_a_document_has() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    assert!(golden("llama").join("tokenizer.json").exists());
    // No vocabulary is merged, so nothing is said.
    let printed = said(dir, &format!("{}---\n{}", first("first"), linear("", "first", "base")), "out");
    assert!(!printed.contains("token"), "{printed}");
}
