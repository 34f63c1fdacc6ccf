//! GGUF files as a user makes them. That llama.cpp computes with them what transformers computes is checked by
//! tests/interop/gguf_files.py.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use moerge_checkpoint::{
    Checkpoint, LocalStorage, ReadStorage,
    gguf::{GgufFile, Value},
};

use crate::common::{example, golden, moerge, moerge_ok, write_copies};

fn open(path: &Path) -> GgufFile {
    GgufFile::open(&LocalStorage, path).unwrap()
}

/// The bytes of every tensor by its name, with its shape.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let (file, bytes) = (open(path), fs::read(path).unwrap());
    let of = |t: moerge_checkpoint::gguf::GgufTensor| {
        (t.name, (t.shape, bytes[t.offset as usize..(t.offset + t.len) as usize].to_vec()))
    };
    file.tensors.into_iter().map(of).collect()
}

fn stored(dir: &Path, name: &str) -> Vec<u8> {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    Checkpoint::open(&storage, dir).unwrap().get(name).unwrap().read().unwrap()
}

fn export(dir: &Path, model: &Path, out: &str, more: &[&str]) -> std::process::Output {
    moerge_ok(dir, &[&["export", model.to_str().unwrap(), out], more].concat())
}

fn refusal(dir: &Path, arguments: &[&str]) -> String {
    let output = moerge(dir, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text<'a>(file: &'a GgufFile, key: &str) -> &'a str {
    file.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no {key}"))
}

fn number(file: &GgufFile, key: &str) -> u64 {
    file.get(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn weights_keep_their_bytes_and_those_with_rotary_pairs_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("llama");
    export(dir.path(), &model, "m.gguf", &["--quant", "f32"]);
    let written = tensors(&dir.path().join("m.gguf"));
    assert_eq!(written["token_embd.weight"].1, stored(&model, "model.embed_tokens.weight"));
    assert_eq!(written["blk.1.ffn_down.weight"].1, stored(&model, "model.layers.1.mlp.down_proj.weight"));
    assert_eq!(written["blk.0.attn_v.weight"].1, stored(&model, "model.layers.0.self_attn.v_proj.weight"));
    // Heads of 8: row 2i is row i of the head, row 2i + 1 row i + 4.
    let (shape, q) = &written["blk.0.attn_q.weight"];
    let own = stored(&model, "model.layers.0.self_attn.q_proj.weight");
    let row = 4 * shape[1];
    for (place, from) in [(0, 0), (1, 4), (2, 1), (7, 7), (8, 8), (9, 12)] {
        assert_eq!(q[place * row..][..row], own[from * row..][..row], "row {place}");
    }
}

#[test]
fn other_families_keep_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("qwen2");
    export(dir.path(), &model, "m.gguf", &["--quant", "f32"]);
    let written = tensors(&dir.path().join("m.gguf"));
    assert_eq!(written["blk.0.attn_q.weight"].1, stored(&model, "model.layers.0.self_attn.q_proj.weight"));
    assert_eq!(written["blk.0.attn_k.bias"].1, stored(&model, "model.layers.0.self_attn.k_proj.bias"));
}

#[test]
fn experts_are_one_tensor_and_routers_stay_f32() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("qwen3_moe");
    export(dir.path(), &model, "m.gguf", &["--quant", "f16"]);
    let file = open(&dir.path().join("m.gguf"));
    let of = |name: &str| file.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
    let experts = number(&file, "qwen3moe.expert_count") as usize;
    assert_eq!(of("blk.0.ffn_up_exps.weight").shape[0], experts);
    assert_eq!(of("blk.0.ffn_gate_inp.weight").ggml_type, 0);
    assert_eq!(of("blk.0.ffn_up_exps.weight").ggml_type, 1);
    assert_eq!(of("blk.0.attn_q_norm.weight").ggml_type, 0);
}

#[test]
fn the_metadata_is_what_readers_need() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &golden("llama3_rope"), "m.gguf", &["--quant", "bf16", "--name", "my model"]);
    let file = open(&dir.path().join("m.gguf"));
    assert_eq!(text(&file, "general.architecture"), "llama");
    assert_eq!(text(&file, "general.name"), "my model");
    assert_eq!(number(&file, "general.file_type"), 32);
    assert_eq!(text(&file, "tokenizer.ggml.model"), "gpt2");
    assert_eq!(text(&file, "tokenizer.ggml.pre"), "qwen2");
    assert_eq!(number(&file, "tokenizer.ggml.bos_token_id"), 1);
    assert_eq!(file.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(true)));
    let Some(Value::Array(_, tokens)) = file.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    assert_eq!(tokens.len() as u64, number(&file, "llama.vocab_size"));
    assert!(file.tensors.iter().any(|t| t.name == "rope_freqs.weight"));
}

/// An MoE with renormalised weights and no shared expert has no exact place in llama.cpp's qwen2moe; llama computes it.
#[test]
fn an_moe_of_qwen2_models_becomes_what_llama_cpp_computes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    write_copies(dir.path(), &golden("qwen2"), "qwen");
    let same = "--i-understand-this-is-not-useful-without-training";
    moerge_ok(dir.path(), &["merge", "moe.yml", "moe", same]);
    moerge_ok(dir.path(), &["merge", "moe.yml", "moe.gguf", "--quant", "f32", same]);
    export(dir.path(), &dir.path().join("moe"), "folder.gguf", &["--quant", "f32"]);
    let file = open(&dir.path().join("moe.gguf"));
    assert_eq!(text(&file, "general.architecture"), "llama");
    assert_eq!(number(&file, "llama.expert_used_count"), 2);
    let merged = tensors(&dir.path().join("moe.gguf"));
    assert!(merged.keys().all(|name| !name.contains("shexp")));
    assert_eq!(merged, tensors(&dir.path().join("folder.gguf")));

    // The golden one does not renormalise, and has a shared expert.
    export(dir.path(), &golden("qwen2_moe"), "own.gguf", &["--quant", "f32"]);
    assert_eq!(text(&open(&dir.path().join("own.gguf")), "general.architecture"), "qwen2moe");
}

/// DeepSeek-MoE without shared experts, which llama.cpp's deepseek does not load, is what its llama computes. Where it does
/// not renormalise, a shared expert of zeros makes it loadable.
#[test]
fn deepseek_moe_without_shared_experts_becomes_what_llama_cpp_loads() {
    let dir = tempfile::tempdir().unwrap();
    write_copies(dir.path(), &golden("llama"), "deepseek");
    moerge_ok(dir.path(), &["merge", "moe.yml", "moe", "--i-understand-this-is-not-useful-without-training"]);
    let moe = dir.path().join("moe");
    export(dir.path(), &moe, "moe.gguf", &["--quant", "f32"]);
    assert_eq!(text(&open(&dir.path().join("moe.gguf")), "general.architecture"), "llama");

    let path = moe.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("\"norm_topk_prob\": true", "\"norm_topk_prob\": false")).unwrap();
    export(dir.path(), &moe, "own.gguf", &["--quant", "f32"]);
    let file = open(&dir.path().join("own.gguf"));
    assert_eq!(text(&file, "general.architecture"), "deepseek");
    assert_eq!(number(&file, "deepseek.expert_shared_count"), 1);
    let written = tensors(&dir.path().join("own.gguf"));
    let one = &written["blk.0.ffn_down_exps.weight"].0[1..];
    let (shape, bytes) = &written["blk.0.ffn_down_shexp.weight"];
    assert_eq!(shape, one);
    assert!(bytes.iter().all(|byte| *byte == 0));
}

/// A GGUF file says of a model what its card says, and so does one that is made of that file.
#[test]
fn the_card_and_the_name_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(example("tiny").join("base")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let card = "---\nlicense: Apache-2.0\nbase_model:\n- org/one\n- org/two\nlanguage: [en, de]\ntags:\n- merge\n---\n";
    fs::write(model.join("README.md"), card).unwrap();
    export(dir.path(), &model, "m.gguf", &["--quant", "q4_0", "--name", "Tiny Model"]);
    let again = export(dir.path(), &dir.path().join("m.gguf"), "again.gguf", &["--quant", "q8_0"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("m.gguf is quantised (q4_0)"), "{said}");
    for name in ["m.gguf", "again.gguf"] {
        let file = open(&dir.path().join(name));
        let list = |key: &str| file.get(key).cloned();
        assert_eq!(text(&file, "general.name"), "Tiny Model", "{name}");
        assert_eq!(text(&file, "general.license"), "apache-2.0", "{name}");
        assert_eq!(number(&file, "general.base_model.count"), 2, "{name}");
        assert_eq!(text(&file, "general.base_model.1.repo_url"), "https://huggingface.co/org/two", "{name}");
        assert_eq!(list("general.tags"), Some(Value::strings(["merge"])), "{name}");
        assert_eq!(list("general.languages"), Some(Value::strings(["en", "de"])), "{name}");
    }
    // By way of a recipe, too.
    let recipe = example("tiny").join("ties.yml");
    moerge_ok(dir.path(), &["export", recipe.to_str().unwrap(), "r.gguf", "--quant", "f16", "--name", "Merged"]);
    assert_eq!(text(&open(&dir.path().join("r.gguf")), "general.name"), "Merged");
}

#[test]
fn a_file_is_the_same_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.gguf", "another.gguf"] {
        export(dir.path(), &golden("llama"), name, &["--quant", "f16"]);
    }
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("a.gguf"), read("another.gguf"));
}

#[test]
fn options_without_effect_are_refused_or_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let model = example("tiny").join("base");
    let with = |more: &[&str]| refusal(dir.path(), &[&["export", model.to_str().unwrap(), "m.gguf"], more].concat());
    let nothing = with(&["--quant", "q8_0", "--tensor-type", "mlp.down_proj=f16"]);
    assert!(nothing.contains("no tensor matches `mlp.down_proj`") && nothing.contains("blk.0.ffn_down"), "{nothing}");
    let unknown = with(&["--quant", "q8_0", "--tensor-type", "ffn_down=q6k"]);
    assert!(unknown.contains("did you mean `q6_k`?"), "{unknown}");
    fs::write(dir.path().join("text.txt"), "Some text.").unwrap();
    let useless = with(&["--quant", "f16", "--quant", "q8_0", "--imatrix-text", "text.txt"]);
    assert!(useless.contains("changes nothing in f16 and q8_0"), "{useless}");
    let pre = with(&["--quant", "f16", "--pre", "llama-bp"]);
    assert!(pre.contains("did you mean `llama-bpe`?"), "{pre}");
    assert!(!dir.path().join("m.gguf").exists());

    let more = ["--quant", "f16", "--tensor-type", "ffn_down=q8_0", "--tensor-type", "norm=f16", "--pre", "my-own"];
    let said = String::from_utf8(export(dir.path(), &model, "m.gguf", &more).stderr).unwrap();
    assert!(said.contains("`norm` has no effect") && said.contains("no pre-tokenizer `my-own`"), "{said}");
    let file = open(&dir.path().join("m.gguf"));
    let of = |name: &str| file.tensors.iter().find(|tensor| tensor.name == name).unwrap().ggml_type;
    assert_eq!((of("blk.0.ffn_down.weight"), of("blk.0.ffn_up.weight")), (8, 1));
}

#[test]
fn plan_shows_what_export_writes() {
    let dir = tempfile::tempdir().unwrap();
    let model = example("tiny").join("base");
    let arguments = ["plan", model.to_str().unwrap(), "m.gguf", "--quant", "q4_k_m"];
    let plan = moerge_ok(dir.path(), &[&arguments[..], &["--json"]].concat());
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert!(!dir.path().join("m.gguf").exists());
    let for_people = String::from_utf8(moerge_ok(dir.path(), &arguments).stdout).unwrap();
    export(dir.path(), &model, "m.gguf", &["--quant", "q4_k_m"]);
    let bytes = fs::metadata(dir.path().join("m.gguf")).unwrap().len();
    assert_eq!(plan["output"]["max_bytes"], bytes);
    assert!(for_people.contains(&format!("({bytes} bytes)")), "{for_people}");
    let no_file = refusal(dir.path(), &["plan", model.to_str().unwrap()]);
    assert!(no_file.contains("is a model and not a recipe") && no_file.contains("out.gguf --quant"), "{no_file}");
}

#[test]
fn verify_reads_a_file_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &example("tiny").join("base"), "m.gguf", &["--quant", "q4_0"]);
    let path = dir.path().join("m.gguf");
    let report = || -> serde_json::Value {
        serde_json::from_slice(&moerge_ok(dir.path(), &["verify", "m.gguf", "--json"]).stdout).unwrap()
    };
    let mut bytes = fs::read(&path).unwrap();
    let sound = report();
    assert_eq!((&sound["bytes"], &sound["files"]), (&bytes.len().into(), &1.into()));
    assert_eq!(sound["findings"], serde_json::json!([]));
    bytes.extend_from_slice(&[7; 100]);
    fs::write(&path, bytes).unwrap();
    let longer = report();
    assert_eq!(longer["findings"][0]["kind"], "excess");
    assert!(longer["findings"][0]["message"].as_str().unwrap().contains("100 trailing bytes after its last tensor"));
}

#[test]
fn a_dense_merge_is_the_same_by_way_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = example("tiny").join("ties.yml");
    let recipe = recipe.to_str().unwrap();
    moerge_ok(dir.path(), &["merge", recipe, "merged"]);
    moerge_ok(dir.path(), &["export", recipe, "merged.gguf", "--quant", "bf16"]);
    export(dir.path(), &dir.path().join("merged"), "folder.gguf", &["--quant", "bf16"]);
    let (merged, folder) = (tensors(&dir.path().join("merged.gguf")), tensors(&dir.path().join("folder.gguf")));
    assert!(merged.keys().eq(folder.keys()));
    // Norms are f32 here and bf16 in the folder, so they are rounded once more there.
    let norms = merged.iter().filter(|(name, tensor)| folder[*name] != **tensor);
    assert!(norms.map(|(name, _)| name).all(|name| name.ends_with("_norm.weight")));
}

#[test]
fn types_are_those_of_llama_quantize() {
    let dir = tempfile::tempdir().unwrap();
    let model = example("tiny").join("base");
    export(dir.path(), &model, "m.gguf", &["--quant", "Q8_0", "--tensor-type", "ffn_down=F16"]);
    let file = open(&dir.path().join("m.gguf"));
    let types: BTreeMap<&str, u32> = file.tensors.iter().map(|t| (t.name.as_str(), t.ggml_type)).collect();
    assert_eq!(types["blk.0.ffn_up.weight"], 8);
    assert_eq!(types["blk.0.ffn_down.weight"], 1);
    assert_eq!(types["output_norm.weight"], 0);
    let unknown = refusal(dir.path(), &["export", model.to_str().unwrap(), "x.gguf", "--quant", "q4_km"]);
    assert!(unknown.contains("did you mean `q4_k_m`?"), "{unknown}");
    let config = model.join("config.json");
    let of_file = refusal(dir.path(), &["export", config.to_str().unwrap(), "x.gguf", "--quant", "f16"]);
    assert!(of_file.contains("a recipe's name ends in .yml"), "{of_file}");
    let missing = refusal(dir.path(), &["export", model.to_str().unwrap(), "x.gguf"]);
    assert!(missing.contains("--quant q4_k_m"), "{missing}");
    let no_gguf = refusal(dir.path(), &["export", model.to_str().unwrap(), "x.bin", "--quant", "f16"]);
    assert!(no_gguf.contains("end the output's name in .gguf"), "{no_gguf}");
}

#[test]
fn a_file_is_replaced_only_if_moerge_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("llama");
    let arguments = ["export", model.to_str().unwrap(), "m.gguf", "--quant", "f32"];
    let out = dir.path().join("m.gguf");
    moerge_ok(dir.path(), &arguments);
    let first = fs::read(&out).unwrap();
    // The same again finds it; another type does not replace it unless it may.
    assert!(String::from_utf8(moerge_ok(dir.path(), &arguments).stdout).unwrap().contains("already there"));
    let other = ["export", model.to_str().unwrap(), "m.gguf", "--quant", "f16"];
    assert!(refusal(dir.path(), &other).contains("--force replaces it"));
    assert_eq!(fs::read(&out).unwrap(), first);
    moerge_ok(dir.path(), &[&other[..], &["--force"]].concat());
    assert!(fs::read(&out).unwrap().len() < first.len());
    fs::write(&out, b"mine").unwrap();
    assert!(refusal(dir.path(), &[&other[..], &["--force"]].concat()).contains("moerge did not make it"));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["m.gguf"], "a work folder was left");
}

#[test]
fn what_differs_in_llama_cpp_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = export(dir.path(), &golden("mistral"), "m.gguf", &["--quant", "f32"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("has no sliding window: beyond 8 tokens"), "{said}");
    // llama.cpp knows Phi-3 by its name and wants its tokens.
    let refused = refusal(dir.path(), &["export", golden("phi3").to_str().unwrap(), "p.gguf", "--quant", "f32"]);
    assert!(refused.contains("<|endoftext|>"), "{refused}");
    export(dir.path(), &golden("phi3"), "p.gguf", &["--quant", "f32", "--name", "tiny"]);
    let written = tensors(&dir.path().join("p.gguf"));
    assert!(written.contains_key("blk.0.attn_qkv.weight") && !written.contains_key("blk.0.ffn_gate.weight"));
}
