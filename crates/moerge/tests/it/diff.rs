//! `moerge diff`: what two models differ in, as a user sees it.

use std::{collections::BTreeMap, fs, path::Path};

use half::bf16;
use moerge_checkpoint::Dtype;
use serde_json::Value;

use crate::common::{example, golden, moerge, moerge_ok, write_changed, write_tensors};

fn json(dir: &Path, a: &str, b: &str, more: &[&str]) -> Value {
    let arguments = [&["diff", a, b, "--json"], more].concat();
    serde_json::from_slice(&moerge_ok(dir, &arguments).stdout).unwrap()
}

fn page(dir: &Path, a: &str, b: &str) -> String {
    let page = String::from_utf8(moerge_ok(dir, &["diff", "-q", a, b]).stdout).unwrap();
    // The first line names the models, whatever the length of their paths.
    assert!(page.lines().skip(1).all(|line| line.chars().count() <= 80), "{page}");
    page
}

type Tensors<'a> = &'a [(&'a str, Dtype, &'a [usize], &'a [f32])];

fn write(dir: &Path, tensors: Tensors<'_>) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), r#"{"model_type": "nothing_known"}"#).unwrap();
    let bytes = |dtype: Dtype, values: &[f32]| -> Vec<u8> {
        match dtype {
            Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Dtype::I32 => values.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    };
    let tensor = |(name, dtype, shape, values): &(&str, Dtype, &[usize], &[f32])| {
        ((*name).to_owned(), (*dtype, shape.to_vec(), bytes(*dtype, values)))
    };
    write_tensors(&dir.join("model.safetensors"), &tensors.iter().map(tensor).collect::<BTreeMap<_, _>>());
}

#[test]
fn a_model_equals_itself() {
    let dir = tempfile::tempdir().unwrap();
    let base = example("tiny/base").display().to_string();
    let page = page(dir.path(), &base, &base);
    assert!(page.contains("equal: all"), "{page}");
    let report = json(dir.path(), &base, &base, &[]);
    assert_eq!((&report["total"]["relative"], &report["total"]["equal"]), (&0.0.into(), &1.0.into()));
}

#[test]
fn differences_are_those_of_the_formulas_and_every_kind_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let a: Tensors<'_> = &[
        ("model.layers.0.self_attn.q_proj.weight", Dtype::F32, &[2, 2], &[3.0, 4.0, 0.0, 0.0]),
        ("model.layers.1.self_attn.q_proj.weight", Dtype::F32, &[2, 2], &[1.0, 0.0, 0.0, 1.0]),
        ("model.layers.0.mlp.up_proj.weight", Dtype::F32, &[2], &[0.0, 0.0]),
        ("ids", Dtype::I32, &[2], &[1.0, 2.0]),
        ("shape", Dtype::F32, &[2], &[1.0, 2.0]),
        ("lonely.a", Dtype::F32, &[1], &[1.0]),
        ("kind", Dtype::I32, &[1], &[1.0]),
    ];
    let b: Tensors<'_> = &[
        ("model.layers.0.self_attn.q_proj.weight", Dtype::BF16, &[2, 2], &[3.0, 0.0, 0.0, 0.0]),
        ("model.layers.1.self_attn.q_proj.weight", Dtype::BF16, &[2, 2], &[1.0, 0.0, 0.0, 1.0]),
        ("model.layers.0.mlp.up_proj.weight", Dtype::F32, &[2], &[0.0, 2.0]),
        ("ids", Dtype::I32, &[2], &[1.0, 3.0]),
        ("shape", Dtype::F32, &[1, 2], &[1.0, 2.0]),
        ("lonely.b", Dtype::F32, &[1], &[1.0]),
        ("kind", Dtype::F32, &[1], &[1.0]),
    ];
    write(&dir.path().join("a"), a);
    write(&dir.path().join("b"), b);
    let report = json(dir.path(), "a", "b", &[]);
    let tensor = |name: &str| report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap().clone();
    let q = tensor("model.layers.0.self_attn.q_proj.weight");
    let d = &q["distance"];
    assert_eq!((&d["relative"], &d["cosine"], &d["equal"]), (&0.8.into(), &0.6.into(), &0.75.into()));
    assert_eq!((&q["module"], &q["layer"], &q["b"]["dtype"]), (&"attention q".into(), &0.into(), &"BF16".into()));
    assert_eq!(tensor("model.layers.0.mlp.up_proj.weight")["distance"]["relative"], Value::Null);
    let ids = tensor("ids");
    assert_eq!((&ids["distance"]["equal"], &ids["distance"]["relative"]), (&0.5.into(), &Value::Null));
    assert_eq!((&tensor("shape")["distance"], &tensor("kind")["distance"]), (&Value::Null, &Value::Null));
    assert_eq!(report["only_in_a"][0]["name"], "lonely.a");
    assert_eq!(report["only_in_b"][0]["name"], "lonely.b");
    // All queries together: |(4)| / |(3, 4, 1, 1)|.
    let queries = report["modules"].as_array().unwrap().iter().find(|m| m["module"] == "attention q").unwrap();
    let relative = queries["distance"]["relative"].as_f64().unwrap();
    assert!((relative - (16.0f64 / 27.0).sqrt()).abs() < 1e-12, "{relative}");
    let page = page(dir.path(), "a", "b");
    for part in [
        "only in A 1 tensor",
        "lonely.b F32 [1]",
        "shape A [2], B [1, 2]",
        "kind A I32, B F32",
        "other type 2 tensors: A F32, B BF16",
        "from zero",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let [base, code] = ["tiny/base", "tiny/code"].map(|name| example(name).display().to_string());
    let one = json(dir.path(), &base, &code, &["-j", "1"]);
    assert_eq!(one, json(dir.path(), &base, &code, &["-j", "7"]));
    assert!(one["total"]["relative"].as_f64().unwrap() > 0.0);
    page(dir.path(), &base, &code);
}

#[test]
fn an_adapter_is_compared_with_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let llama = golden("llama").display().to_string();
    let adapter = dir.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    fs::write(adapter.join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#).unwrap();
    let bytes = |n: usize| vec![0.5f32; n].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let name = |half: &str| format!("base_model.model.model.layers.1.mlp.down_proj.lora_{half}.weight");
    let tensors = [("A", vec![1, 56]), ("B", vec![32, 1])]
        .map(|(half, shape)| (name(half), (Dtype::F32, shape.clone(), bytes(shape[0] * shape[1]))));
    write_tensors(&adapter.join("adapter_model.safetensors"), &tensors.into_iter().collect());
    let report = json(dir.path(), &llama, &format!("{llama}+adapter"), &[]);
    for tensor in report["tensors"].as_array().unwrap() {
        let changed = tensor["name"] == "model.layers.1.mlp.down_proj.weight";
        let norm = tensor["distance"]["norm_of_difference"].as_f64().unwrap();
        // Every element gets 0.5 * 0.5.
        let expected = if changed { 0.25 * (32.0f64 * 56.0).sqrt() } else { 0.0 };
        assert!((norm - expected).abs() < 1e-5, "{tensor}");
    }
}

#[test]
fn the_heat_map_is_self_contained_and_names_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a"), &[("h.0.<b>&.x", Dtype::F32, &[1], &[1.0]), ("z", Dtype::F32, &[1], &[f32::NAN])]);
    write(&dir.path().join("b"), &[("h.0.<b>&.x", Dtype::F32, &[1], &[2.0]), ("z", Dtype::F32, &[1], &[1.0])]);
    moerge_ok(dir.path(), &["diff", "a", "b", "--svg", "map.svg"]);
    let svg = fs::read_to_string(dir.path().join("map.svg")).unwrap();
    assert!(svg.contains("&lt;b&gt;&amp;.x: 100 %") && svg.contains("prefers-color-scheme: dark"), "{svg}");
    assert!(!svg.contains("<b>") && !svg.contains("NaN") && svg.matches("http").count() == 1, "{svg}");
}

#[test]
fn models_without_common_tensors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a"), &[("one", Dtype::F32, &[1], &[1.0])]);
    write(&dir.path().join("b"), &[("two", Dtype::F32, &[1], &[1.0])]);
    let output = moerge(dir.path(), &["diff", "a", "b"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && printed.contains("no tensor of the same name"), "{printed}");
    write_changed(&golden("qwen2"), &dir.path().join("c"), &BTreeMap::new(), true);
    let page = page(dir.path(), &golden("qwen2").display().to_string(), "c");
    assert!(page.contains("only in B 1 tensor") && page.contains("lm_head.weight"), "{page}");
}
