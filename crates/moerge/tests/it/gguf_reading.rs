//! GGUF files read as models: run, measured, merged and refused. That their tokenizers split text as llama.cpp does is
//! checked by tests/interop/gguf_reading.py.

use std::{
    fs,
    path::{Path, PathBuf},
};

use moerge_checkpoint::{
    Checkpoint, Encoding, LocalStorage,
    gguf::{GgufFile, GgufTensor},
};
use moerge_core::{
    model::{gguf::local_models, locate::HubCache},
    numeric::blocks::decode_row,
    progress::Silent,
};
use moerge_infer::{
    decoder::{Pass, forward, logits},
    model::Model,
};

use crate::common::{example, golden, moerge, moerge_ok, write_copies, write_short_self_calibrated};

/// Those of Mistral and Mixtral have windows, which llama.cpp does not.
const FAMILIES: [&str; 8] =
    ["llama", "llama3_rope", "llama_linear", "llama_yarn", "qwen2", "qwen3", "qwen3_moe", "phi3"];
/// The golden tokenizers lack most bytes, that of the example has all.
const TEXTS: [&str; 4] = ["", "hello, world", "a  b\n\nc", "<s> x </s>"];
const ANY_TEXTS: [&str; 4] = [" two  spaces\n\n\tand 1234 a tab", "naïve é 日本語 🚀", "I'Ve we'll", "\u{0}\u{7f}"];

fn open(path: &Path) -> Model {
    let cache = HubCache::from_vars(|_| None);
    Model::open(&local_models(), &path.display().to_string(), Path::new("."), &cache).unwrap()
}

fn export(dir: &Path, model: &Path, quant: &str) -> PathBuf {
    let name = format!("{}-{quant}.gguf", model.file_name().unwrap().display());
    moerge_ok(dir, &["export", model.to_str().unwrap(), &name, "--quant", quant, "--name", "m"]);
    dir.join(name)
}

fn scores(model: &Model) -> Vec<f32> {
    let weights = model.weights().unwrap();
    let ids: Vec<u32> = (3..60).collect();
    let x = forward(weights.as_ref(), &[ids], Pass::default(), &mut (), &Silent).unwrap();
    let scores = logits(weights.as_ref(), &x, &Silent).unwrap();
    (0..scores.tokens()).flat_map(|token| scores.token(token)).collect()
}

/// The largest difference of two models' scores.
fn difference(one: &Model, other: &Model) -> f32 {
    let (one, other) = (scores(one), scores(other));
    assert_eq!(one.len(), other.len());
    one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_family_computes_and_splits_text_as_the_folder_does() {
    let dir = tempfile::tempdir().unwrap();
    let models = FAMILIES.map(|family| (golden(family), &TEXTS[..]));
    for (path, texts) in models.into_iter().chain([(example("tiny/base"), &[TEXTS, ANY_TEXTS].concat()[..])]) {
        let family = path.display();
        let folder = open(&path);
        let file = open(&export(dir.path(), &path, "f32"));
        // Llama 3's divisors are stored in f32.
        let most = if family.to_string().ends_with("llama3_rope") { 1e-4 } else { 0.0 };
        assert!(difference(&file, &folder) <= most, "{family}");
        for text in texts {
            let ids = |model: &Model| model.tokenizer.encode(text).unwrap();
            assert_eq!(ids(&file), ids(&folder), "{family}: {text:?}");
            let back = |model: &Model| model.tokenizer.decode(&ids(model)).unwrap();
            assert_eq!(back(&file), back(&folder), "{family}: {text:?}");
        }
        assert_eq!(file.tokenizer.eos(), folder.tokenizer.eos(), "{family}");
    }
}

/// llama.cpp's qwen2moe does not renormalise, and this model does not either.
#[test]
fn a_shared_expert_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("qwen2_moe");
    assert_eq!(difference(&open(&export(dir.path(), &model, "f32")), &open(&model)), 0.0);
}

/// Such an MoE is exported as llama, which has no shared expert: it is read with one of zeros.
#[test]
fn an_moe_of_qwen2_models_computes_the_same_as_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    write_copies(dir.path(), &golden("qwen2"), "qwen");
    let same = "--i-understand-this-is-not-useful-without-training";
    moerge_ok(dir.path(), &["merge", "moe.yml", "moe", same]);
    let file = export(dir.path(), &dir.path().join("moe"), "f32");
    let far = difference(&open(&dir.path().join("moe")), &open(&file));
    assert!(far < 1e-5, "{far}");
}

#[test]
fn blocks_are_decoded_wherever_reading_begins() {
    let dir = tempfile::tempdir().unwrap();
    let path = export(dir.path(), &example("tiny/base"), "q4_0");
    let file = GgufFile::open(&LocalStorage, &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let of = |name: &str| file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let decoded = |tensor: &GgufTensor| {
        let Some(Encoding::Blocks(block)) = tensor.encoding else { panic!("{tensor:?}") };
        let mut values = vec![0.0; tensor.shape.iter().product()];
        decode_row(block, &bytes[tensor.offset as usize..][..tensor.len as usize], &mut values).unwrap();
        values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
    };
    let checkpoint = Checkpoint::open(&local_models(), &path).unwrap();
    let down = checkpoint.get("model.layers.1.mlp.down_proj.weight").unwrap();
    let expected = decoded(of("blk.1.ffn_down.weight"));
    assert_eq!(down.read().unwrap(), expected);
    for (offset, length) in [(0, 1), (3, 130), (1021, 7), (4096, 5000), (down.len - 2, 2)] {
        let mut part = vec![0; length];
        down.read_at(offset, &mut part).unwrap();
        assert_eq!(part, expected[offset as usize..][..length], "{offset}");
    }
    // Rows of q lie in another order.
    let q = checkpoint.get("model.layers.0.self_attn.q_proj.weight").unwrap();
    let (whole, expected) = (q.read().unwrap(), decoded(of("blk.0.attn_q.weight")));
    let row = 4 * q.shape[1];
    let half = open(&path).config.head_dim / 2;
    for (own, stored) in [(0, 0), (1, 2), (half, 1), (half + 1, 3)] {
        assert_eq!(whole[own * row..][..row], expected[stored * row..][..row], "row {own}");
    }
    let mut part = vec![0; 2 * row];
    q.read_at(row as u64 / 2, &mut part).unwrap();
    assert_eq!(part, whole[row / 2..][..2 * row]);
}

#[test]
fn a_recipe_takes_gguf_files_as_base_and_experts() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["base", "code"] {
        export(dir.path(), &example("tiny").join(name), "bf16");
    }
    let recipe = |model: &dyn Fn(&str) -> String| {
        let expert = |name: &str| format!("  - source_model: {}\n    positive_prompts: [{name}]\n", model(name));
        format!("base_model: {}\ngate_mode: hidden\nexperts:\n{}{}", model("base"), expert("base"), expert("code"))
    };
    let tiny = example("tiny");
    fs::write(dir.path().join("folders.yml"), recipe(&|name| tiny.join(name).display().to_string())).unwrap();
    fs::write(dir.path().join("files.yml"), recipe(&|name| format!("{name}-bf16.gguf"))).unwrap();
    moerge_ok(dir.path(), &["merge", "folders.yml", "one"]);
    moerge_ok(dir.path(), &["merge", "files.yml", "other"]);
    let weights = |out: &str| fs::read(dir.path().join(out).join("model.safetensors")).unwrap();
    assert!(weights("one") == weights("other"), "bf16 loses nothing");
    moerge_ok(dir.path(), &["verify", "other"]);
}

#[test]
fn a_file_is_never_replaced_by_what_is_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = export(dir.path(), &example("tiny/base"), "q8_0");
    let before = fs::read(&path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    fs::write(dir.path().join("one.yml"), format!("merge_method: passthrough\nmodels:\n  - model: {name}\n")).unwrap();
    let through_a_link = "link.gguf";
    std::os::unix::fs::symlink(&path, dir.path().join(through_a_link)).unwrap();
    for arguments in [["export", name, name], ["export", through_a_link, name], ["merge", "one.yml", name]] {
        let output = moerge(dir.path(), &[&arguments[..], &["--quant", "q4_0", "--force"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is one of the models that the output is made of"), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_quantised_source_is_named_in_the_card() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["base", "code"] {
        export(dir.path(), &example("tiny").join(name), "q8_0");
    }
    let recipe = "merge_method: linear\nmodels:\n  - model: base-q8_0.gguf\n    parameters: {weight: 0.5}\n  \
                  - model: code-q8_0.gguf\n    parameters: {weight: 0.5}\ndtype: bfloat16\n";
    fs::write(dir.path().join("linear.yml"), recipe).unwrap();
    let output = moerge_ok(dir.path(), &["merge", "linear.yml", "out"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("base-q8_0.gguf is quantised"), "{said}");
    let card = fs::read_to_string(dir.path().join("out/README.md")).unwrap();
    assert!(card.contains(r"base-q8\_0.gguf and code-q8\_0.gguf are quantised"), "{card}");
}

#[test]
fn eval_compares_a_file_with_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let base = example("tiny/base");
    let text = dir.path().join("t.txt");
    fs::write(&text, &fs::read_to_string(example("tiny/valid/story.txt")).unwrap()[..2000]).unwrap();
    let (f32, q4) = (export(dir.path(), &base, "f32"), export(dir.path(), &base, "q4_0"));
    let models = [&base, &f32, &q4].map(|path| path.to_str().unwrap());
    let arguments = [&["eval"], &models[..], &["--text", text.to_str().unwrap(), "--kl", "--json"]].concat();
    let output = moerge_ok(dir.path(), &arguments);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |model: usize, key: &str| json["models"][model]["texts"][0]["divergence"][key]["value"].as_f64();
    assert_eq!((of(0, "kl"), of(1, "same_top")), (None, Some(1.0)));
    assert!(of(1, "kl").unwrap().abs() < 1e-9);
    let (kl, same) = (of(2, "kl").unwrap(), of(2, "same_top").unwrap());
    assert!((1e-4..1.0).contains(&kl) && (0.5..1.0).contains(&same), "{kl} {same}");
}

#[test]
fn files_that_cannot_be_read_are_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = export(dir.path(), &golden("llama"), "f32");
    let bytes = fs::read(&path).unwrap();
    let refusal = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        let output = moerge(dir.path(), &["verify", name]);
        assert!(!output.status.success(), "{name}");
        String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
    };
    // The value has the same length.
    let replaced = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    assert!(refusal("empty.gguf", b"").contains("the file ends before the magic number"));
    assert!(refusal("text.gguf", b"version https").contains("this is not a GGUF file"));
    assert!(refusal("short.gguf", &bytes[..bytes.len() - 7]).contains("but the file has"));
    assert!(refusal("header.gguf", &bytes[..900]).contains("the file ends before"));
    let said = refusal("arch.gguf", &replaced("llama", "gemma"));
    assert!(
        said.contains("arch.gguf: the architecture `gemma` is not supported") && said.contains("qwen3moe"),
        "{said}"
    );
    let said = refusal("key.gguf", &replaced("llama.attention.head_count", "llama.attention.head_cxxxx"));
    assert!(said.contains("no key `llama.attention.head_count`"), "{said}");
    let said = refusal("name.gguf", &replaced("blk.0.attn_v.weight", "blk.0.attn_w.weight"));
    assert!(said.contains("model.layers.0.self_attn.v_proj.weight"), "{said}");
}

#[test]
fn an_importance_matrix_is_measured_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let base = example("tiny/base");
    let base = base.to_str().unwrap();
    let text = example("tiny/valid/story.txt");
    let text = text.to_str().unwrap();
    let export = |out: &str, more: &[&str]| {
        let output = moerge_ok(dir.path(), &[&["export", base, out, "--quant", "q4_0"], more].concat());
        (fs::read(dir.path().join(out)).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (plain, _) = export("plain.gguf", &[]);
    let (measured, said) = export("measured.gguf", &["--imatrix-text", text, "--imatrix-out", "m.imatrix.gguf"]);
    assert!(said.contains("importance of columns"), "{said}");
    assert_ne!(plain, measured);
    let (read, _) = export("read.gguf", &["--imatrix", "m.imatrix.gguf"]);
    let weights = |bytes: &[u8]| {
        let file = GgufFile::open(&LocalStorage, &dir.path().join("read.gguf")).unwrap();
        let down = file.tensors.iter().find(|t| t.name == "blk.2.ffn_down.weight").unwrap();
        bytes[bytes.len() - (read.len() - down.offset as usize)..][..down.len as usize].to_vec()
    };
    assert!(weights(&read) == weights(&measured) && weights(&read) != weights(&plain));
    let (own, said) = export("own.gguf", &["--imatrix", "self"]);
    assert!(said.contains("samples") && own != measured, "{said}");

    let other = example("tiny/valid/code.txt");
    let refused =
        moerge(dir.path(), &["export", base, "x.gguf", "--quant", "q4_0", "--imatrix", other.to_str().unwrap()]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("code.txt is not an importance matrix"), "{said}");
    let refused = moerge(dir.path(), &["export", base, "x.gguf", "--quant", "q2_k_s"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("q2_k_s needs an importance matrix") && said.contains("--imatrix self"), "{said}");
}

#[test]
fn plan_knows_every_byte_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for recipe in ["moe.yml", "ties.yml"] {
        let recipe = example("tiny").join(recipe);
        let arguments = [recipe.to_str().unwrap(), "out.gguf", "--quant", "q4_k_m"];
        let output = moerge_ok(dir.path(), &[&["plan"], &arguments[..], &["--json"]].concat());
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let merged = moerge_ok(dir.path(), &[&["merge"], &arguments[..], &["--force"]].concat());
        // Rows of 128 do not fill blocks of 256.
        let said = String::from_utf8(merged.stderr).unwrap();
        assert!(said.contains("tensors have another type than q4_k_m says"), "{said}");
        let written = fs::metadata(dir.path().join("out.gguf")).unwrap().len();
        assert_eq!(plan["gguf"]["bytes"].as_u64(), Some(written));
        let page = moerge_ok(dir.path(), &[&["plan"], &arguments[..]].concat()).stdout;
        assert!(String::from_utf8(page).unwrap().contains("llama in q4_k_m, "));
    }
}

/// The importance of an MoE's experts is of the tokens that were routed to them.
#[test]
fn an_moe_is_measured_on_what_its_experts_write() {
    let dir = tempfile::tempdir().unwrap();
    write_short_self_calibrated(dir.path());
    let arguments = ["merge", "moe.yml", "moe.gguf", "--quant", "q4_0", "--imatrix", "self"];
    moerge_ok(dir.path(), &[&arguments[..], &["--imatrix-out", "i.gguf"]].concat());
    let file = GgufFile::open(&LocalStorage, &dir.path().join("i.gguf")).unwrap();
    let bytes = fs::read(dir.path().join("i.gguf")).unwrap();
    let numbers = |name: &str| {
        let tensor = file.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
        let bytes = &bytes[tensor.offset as usize..][..tensor.len as usize];
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>()
    };
    let routed: f32 = numbers("blk.0.ffn_up_exps.weight.counts").iter().sum();
    let tokens = numbers("blk.0.attn_q.weight.counts");
    assert_eq!((tokens.len(), routed), (1, 2.0 * tokens[0]), "two experts per token");
    moerge_ok(dir.path(), &["verify", "moe.gguf"]);
    moerge_ok(dir.path(), &["inspect", "moe.gguf"]);
}
