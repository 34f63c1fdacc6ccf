//! Dense merges of models with different vocabularies, against mergekit-yaml (`golden/vocabularies.py`).

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{golden, moerge, moerge_ok, write_changed, write_tensors};

const OF_TOKENS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The models `base` and `a` of `golden/vocabularies.py`.
pub fn write_models(dir: &Path) {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    write_changed(&golden("llama"), &dir.join("base"), &BTreeMap::new(), false);
    let a = dir.join("a");
    write_changed(&golden("llama"), &a, &[("vocab_size".to_owned(), Some(json!(163)))].into(), false);
    let mut tensors = BTreeMap::new();
    for tensor in Checkpoint::open(&storage, &golden("llama")).unwrap().tensors() {
        let mut values: Vec<f32> = floats(&tensor.read().unwrap()).iter().map(|x| x * 0.75).collect();
        let mut shape = tensor.shape.clone();
        if OF_TOKENS.contains(&tensor.name.as_str()) {
            let more: Vec<f32> = values[..3 * shape[1]].iter().map(|x| x * 2.0).collect();
            values.extend(more);
            shape[0] += 3;
        }
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.insert(tensor.name.clone(), (Dtype::F32, shape, bytes));
    }
    write_tensors(&a.join("model.safetensors"), &tensors);
    let mut tokenizer = read_json(&a.join("tokenizer.json"));
    for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        let old = id.as_u64().unwrap();
        *id = json!(if (10..=20).contains(&old) { 30 - old } else { old });
    }
    for (id, token) in [(160, "<|im_start|>"), (161, "<|im_end|>")] {
        let entry = json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(entry);
    }
    fs::write(a.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// Tokens by id in a folder's tokenizer.json.
pub fn ids(dir: &Path) -> BTreeMap<String, usize> {
    let tokenizer = read_json(&dir.join("tokenizer.json"));
    let of_model = tokenizer["model"]["vocab"].as_object().unwrap().iter();
    let mut ids: BTreeMap<String, usize> =
        of_model.map(|(token, id)| (token.clone(), id.as_u64().unwrap() as usize)).collect();
    for entry in tokenizer["added_tokens"].as_array().unwrap() {
        ids.insert(entry["content"].as_str().unwrap().into(), entry["id"].as_u64().unwrap() as usize);
    }
    ids
}

#[derive(Deserialize)]
struct Case {
    recipe: String,
    rows: usize,
    /// Sum and first element of a token's row, in the embeddings and in the head.
    tokens: BTreeMap<String, [f64; 4]>,
    padding: Option<[f64; 4]>,
}

#[test]
fn merged_vocabularies_have_the_tokens_and_rows_that_mergekit_gives_them() {
    let cases: BTreeMap<String, Case> =
        serde_json::from_str(&fs::read_to_string(golden("vocabularies.json")).unwrap()).unwrap();
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path());
    for (name, case) in cases {
        fs::write(dir.path().join("recipe.yml"), &case.recipe).unwrap();
        let to = format!("out_{name}");
        moerge_ok(dir.path(), &["merge", "recipe.yml", &to]);
        let out = dir.path().join(&to);
        assert_eq!(read_json(&out.join("config.json"))["vocab_size"], case.rows, "{name}");
        let ids = ids(&out);
        assert_eq!(ids.keys().collect::<Vec<_>>(), case.tokens.keys().collect::<Vec<_>>(), "{name}");
        let checkpoint = Checkpoint::open(&storage, &out).unwrap();
        let tensors = OF_TOKENS.map(|tensor| {
            let view = checkpoint.get(tensor).unwrap();
            assert_eq!(view.shape, [case.rows, 32], "{name}");
            floats(&view.read().unwrap())
        });
        let check = |what: &str, row: usize, expected: &[f64; 4]| {
            for (values, expected) in tensors.iter().zip(expected.as_chunks::<2>().0) {
                let row = &values[row * 32..(row + 1) * 32];
                let found = [row.iter().map(|x| f64::from(*x)).sum::<f64>(), f64::from(row[0])];
                let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(close, "{name}: {what:?}: {found:?}, mergekit {expected:?}");
            }
        };
        for (token, expected) in &case.tokens {
            check(token, ids[token], expected);
        }
        if let Some(padding) = &case.padding {
            check("padding", case.rows - 1, padding);
        }
        moerge_ok(dir.path(), &["verify", &to]);
        moerge_ok(dir.path(), &["generate", &to, "-p", "the day", "-n", "3"]);
    }
}

#[test]
fn rows_that_no_model_has_are_refused_at_their_line() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path());
    let refusal = |tokenizer: &str| {
        let recipe = format!(
            "merge_method: linear\nmodels: [{{model: base}}, {{model: a}}]\nparameters: {{weight: 1}}\n{tokenizer}\n"
        );
        fs::write(dir.path().join("recipe.yml"), recipe).unwrap();
        let output = moerge(dir.path(), &["merge", "recipe.yml", "out"]);
        assert_eq!(output.status.code(), Some(1), "{tokenizer}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (tokenizer, expected) in [
        ("tokenizer: {tokens: {xyzzy: {source: base}}}", "base has no token \"xyzzy\""),
        (
            "tokenizer: {tokens: {xyzzy: {source: {kind: model_token, model: a, token: nowhere}}}}",
            "no token \"nowhere\"",
        ),
        ("tokenizer: {tokens: {xyzzy: {source: {kind: model_token, model: a, token_id: 163}}}}", "163 rows"),
        ("tokenizer: {tokens: {xyzzy: {source: {kind: model_token, model: a}}}}", "a `token` or a `token_id`"),
        ("tokenizer: {tokens: {xyzzy: {source: b}}}", "a model that the recipe does not merge"),
        ("tokenizer_source: b", "a model that the recipe does not merge"),
        ("tokenizer: {pad_to_multiple_of: 0}", "expected a number of rows"),
    ] {
        let printed = refusal(tokenizer);
        assert!(printed.contains(expected) && printed.contains("recipe.yml:4"), "{tokenizer}: {printed}");
    }
    fs::remove_file(dir.path().join("a/tokenizer.json")).unwrap();
    let printed = refusal("tokenizer_source: union");
    assert!(printed.contains("tokenizer.json") && printed.contains("hint:"), "{printed}");
}
