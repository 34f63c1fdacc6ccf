//! What a dense merge says of recipes that are valid but hardly meant, and of values and ranges that are not.

use std::fs;

use serde_json::Value;

use crate::{
    common::{moerge, moerge_ok},
    dense::{merge, refusal, tensors, write_models},
    vocabularies,
};

fn warnings(dir: &std::path::Path, recipe: &str) -> String {
    fs::write(dir.join("recipe.yml"), recipe).unwrap();
    let output = moerge_ok(dir, &["merge", "recipe.yml", "out", "--force"]);
    let planned = moerge_ok(dir, &["plan", "recipe.yml"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    for line in printed.lines().filter(|line| line.starts_with("warning:")) {
        assert!(String::from_utf8_lossy(&planned.stderr).contains(line), "plan does not say: {line}");
    }
    printed
}

#[test]
fn filters_that_pick_nothing_are_said_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let printed = warnings(
        dir.path(),
        "merge_method: linear\nmodels:\n- model: base\n  parameters:\n    weight:\n    - {filter: mlpp, value: 1}\n\
         \x20   - {filter: mlp, value: 0.3}\n    - {filter: up_proj, value: 0.4}\n    - value: 0.5\n\
         - {model: a, parameters: {weight: 0.5}}\n",
    );
    assert!(printed.contains("line 6: `filter: mlpp` of `weight` has no effect: no tensor has it"), "{printed}");
    assert!(printed.contains("line 8: `filter: up_proj` of `weight` has no effect: earlier filters"), "{printed}");
    assert!(!printed.contains("line 7"), "{printed}");
    let printed = warnings(
        dir.path(),
        "merge_method: linear\nmodels: [{model: base}, {model: a}]\nparameters:\n  weight:\n  - value: 0.5\n\
         \x20 - {filter: mlp, value: 0.3}\n",
    );
    assert!(printed.contains("line 6: this value of `weight` has no effect"), "{printed}");
}

#[test]
fn values_out_of_range_are_refused_at_their_own_line() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let of = |method: &str, parameters: &str| {
        format!(
            "merge_method: {method}\nbase_model: base\nmodels:\n- model: a\n- model: b\nparameters:\n  weight: 0.5\n  {parameters}\n"
        )
    };
    for (method, parameters, at, expected) in [
        ("ties", "density: 1.5", "8:12", "`density` is \"1.5\", expected a number from 0 to 1"),
        ("ties", "density: [0.5, -0.1]", "8:18", "`density` is \"-0.1\""),
        ("ties", "density: [{filter: mlp, value: 2}, {value: 0.5}]", "8:34", "`density` is \"2\""),
        ("breadcrumbs", "gamma: 7", "8:10", "`gamma` is \"7\""),
        ("sce", "select_topk: 3", "8:16", "`select_topk` is \"3\""),
        ("multislerp", "eps: -1", "8:8", "`eps` is \"-1\", expected 0 or more"),
        ("della", "{density: 0.1}", "", ""),
        ("della", "epsilon: 0.5\n  density: 0.5", "8:12", "must lie between 0 and 1"),
        ("linear", "normalize: maybe", "8:14", "`normalize` is \"maybe\", expected true or false"),
    ] {
        if at.is_empty() {
            continue;
        }
        let printed = refusal(dir.path(), &of(method, parameters));
        assert!(printed.contains(expected) && printed.contains(&format!("recipe.yml:{at}")), "{parameters}: {printed}");
    }
    // Weights that cancel, at the weights.
    let cancel = "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 0.5}}\n- {model: b, parameters: {weight: -0.5}}\n";
    let printed = refusal(dir.path(), cancel);
    assert!(printed.contains("the sum of the weights, which is 0") && printed.contains("recipe.yml:3:35"), "{printed}");
    // Beyond both models is allowed, and said.
    let slerp = "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: 2}\n";
    let printed = warnings(dir.path(), slerp);
    assert!(printed.contains("line 4: `t` is 2: outside of 0 to 1"), "{printed}");
}

#[test]
fn weights_that_nearly_cancel_are_said() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let recipe = |a: f64, b: f64| {
        format!(
            "merge_method: ties\nbase_model: base\nmodels:\n- {{model: a, parameters: {{weight: {a}}}}}\n\
             - {{model: b, parameters: {{weight: {b}}}}}\n"
        )
    };
    let printed = warnings(dir.path(), &recipe(0.5, -0.4999));
    assert!(printed.contains("nearly cancel out (0.5, -0.4999)"), "{printed}");
    assert!(!warnings(dir.path(), &recipe(0.5, -0.3)).contains("cancel"));
}

#[test]
fn a_wrong_number_of_models_counts_the_base_apart() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let of = |method: &str, base: &str, models: &str, more: &str| {
        format!("merge_method: {method}\n{base}models: [{models}]\n{more}")
    };
    let (base, t) = ("base_model: base\n", "parameters: {t: 0.5}\n");
    for (recipe, expected, found) in [
        (of("slerp", base, "{model: a}, {model: b}", t), "the base and 1 other model", "the base and 2 other models"),
        (of("slerp", base, "{model: base}", t), "the base and 1 other model", "only the base"),
        (
            of("model_stock", base, "{model: a}", ""),
            "the base and at least 2 other models",
            "the base and 1 other model",
        ),
        (of("nuslerp", "", "{model: a}", "parameters: {weight: 1}\n"), "2 models", "1 model"),
        (of("passthrough", "", "{model: a}, {model: b}", ""), "1 model", "2 models"),
    ] {
        let printed = refusal(dir.path(), &recipe);
        assert!(printed.contains(expected) && printed.contains(found), "{recipe}: {printed}");
    }
}

#[test]
fn ranges_of_layers_are_refused_for_what_is_wrong_with_them() {
    let dir = tempfile::tempdir().unwrap();
    write_models(dir.path(), "llama");
    let of = |range: &str| {
        format!("merge_method: passthrough\nslices:\n- sources:\n  - model: base\n    layer_range: {range}\n")
    };
    for (range, expected) in [
        ("[0, 4]", "base has 3 layers, the slice ends before layer 4"),
        ("[3, 5]", "`layer_range: [0, 3]`"),
        ("[2, 0]", "begins at 2, after its end"),
        ("[1, 1]", "has no layer in it"),
        ("[0]", "expected two layers"),
        ("[-1, 2]", "expected two layers"),
        ("0-2", "`layer_range` is \"0-2\""),
        ("[0, 1000000000000]", "base has 3 layers"),
    ] {
        let printed = refusal(dir.path(), &of(range));
        assert!(printed.contains(expected) && printed.contains("recipe.yml:5"), "{range}: {printed}");
    }
    // The same layers twice are how models are made deeper.
    let twice = "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 2]}]\n\
                 - sources: [{model: base, layer_range: [1, 3]}]\n";
    assert_eq!(tensors(&merge(dir.path(), twice, "twice")).len(), 3 + 4 * 9);
    // A slice without a base where the other has one.
    let printed = refusal(
        dir.path(),
        "merge_method: slerp\nparameters: {t: 0.5}\nslices:\n- base_model: a\n  sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]\n\
         - sources: [{model: a, layer_range: [2, 3]}, {model: b, layer_range: [2, 3]}]\n",
    );
    assert!(
        printed.contains("needs a `base_model` in this slice, too") && printed.contains("recipe.yml:6"),
        "{printed}"
    );
}

#[test]
fn a_recipe_that_is_a_list_hears_of_both_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let printed = refusal(dir.path(), "- model: a\n- model: b\n");
    for part in ["a list, expected keys", "`merge_method` and `models` or `slices`", "`base_model` and `experts`"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    write_models(dir.path(), "llama");
    let printed = refusal(
        dir.path(),
        "merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\nout_dtype: float64\n",
    );
    assert!(
        printed.contains("`float32` is the widest type of weights") && printed.contains("recipe.yml:4"),
        "{printed}"
    );
    let printed = refusal(dir.path(), "merge_method: linear\nmodules: {text_decoder: {models: [{model: a}]}}\n");
    assert!(printed.contains("`modules` is not supported") && printed.contains("recipe.yml:2"), "{printed}");
}

/// Tokens of `a` with ids that a tokenizer should not have.
fn with_odd_tokens(dir: &std::path::Path, added: &[(u64, &str)], vocabulary: &[(u64, &str)]) {
    vocabularies::write_models(dir);
    let path = dir.join("a/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (id, token) in added {
        let entry = serde_json::json!({"id": id, "content": token, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true});
        json["added_tokens"].as_array_mut().unwrap().push(entry);
    }
    for (id, token) in vocabulary {
        json["model"]["vocab"][token] = (*id).into();
    }
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn tokens_without_a_row_huge_ids_and_doubled_ids_are_said() {
    let union =
        "merge_method: linear\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\ntokenizer_source: union\n";
    let dir = tempfile::tempdir().unwrap();
    with_odd_tokens(dir.path(), &[(170, "<far>"), (4_000_000_000, "<huge>")], &[]);
    let printed = warnings(dir.path(), union);
    assert!(printed.contains("a: 2 of its tokens have no row among the 163") && printed.contains("<far>"), "{printed}");
    with_odd_tokens(dir.path(), &[], &[(12, "twelve")]);
    let printed = warnings(dir.path(), union);
    assert!(printed.contains("a: its tokenizer has two tokens with id 12") && printed.contains("twelve"), "{printed}");
    with_odd_tokens(dir.path(), &[(162, "the")], &[]);
    let printed = warnings(dir.path(), union);
    assert!(printed.contains("adds \"the\" with id 162, but its vocabulary has it"), "{printed}");
    // Such a vocabulary as the output's own would need billions of rows.
    with_odd_tokens(dir.path(), &[(4_000_000_000, "<huge>")], &[]);
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    let printed = refusal(dir.path(), &union.replace("union", "a"));
    assert!(printed.contains("token \"<huge>\" has id 4000000000") && printed.contains("hint:"), "{printed}");
}

#[test]
fn token_ids_in_the_config_follow_the_tokenizer_of_another_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    vocabularies::write_models(dir);
    // `a` has the ids of "<s>" and "</s>" the other way round.
    let path = dir.join("a/tokenizer.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let ids = vocabularies::ids(&dir.join("a"));
    let (bos, eos) = (ids["<s>"], ids["</s>"]);
    for entry in json["added_tokens"].as_array_mut().unwrap() {
        let id = entry["id"].as_u64().unwrap() as usize;
        entry["id"] = (if id == bos {
            eos
        } else if id == eos {
            bos
        } else {
            id
        })
        .into();
    }
    json["model"]["vocab"]["<s>"] = eos.into();
    json["model"]["vocab"]["</s>"] = bos.into();
    fs::write(path, json.to_string()).unwrap();
    let recipe = "merge_method: linear\nbase_model: base\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\ntokenizer_source: a\n";
    let out = merge(dir, recipe, "out");
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap() };
    let of_base: Value = serde_json::from_slice(&fs::read(dir.join("base/config.json")).unwrap()).unwrap();
    assert_eq!((&of_base["bos_token_id"], &of_base["eos_token_id"]), (&bos.into(), &eos.into()));
    assert_eq!(
        (&read("config.json")["bos_token_id"], &read("config.json")["eos_token_id"]),
        (&eos.into(), &bos.into())
    );
}

#[test]
fn a_tokenizer_that_no_reader_takes_is_said_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    let recipe = "merge_method: linear\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\n";
    for broken in ["{\"model\": ", "{}", "[]"] {
        fs::write(dir.join("base/tokenizer.json"), broken).unwrap();
        let printed = warnings(dir, recipe);
        let warning = printed.find("readers will refuse it").unwrap_or_else(|| panic!("{broken}: {printed}"));
        assert!(printed.find("weights ").is_none_or(|weights| warning < weights), "{broken}: {printed}");
        let union = format!("{recipe}tokenizer_source: union\n");
        fs::write(dir.join("recipe.yml"), union).unwrap();
        let output = moerge(dir, &["merge", "recipe.yml", "refused"]);
        assert_eq!(output.status.code(), Some(1), "{broken}");
        assert!(!dir.join(".refused.moerge-build").exists());
    }
}

#[test]
fn a_run_that_fails_on_its_input_leaves_no_work_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_models(dir, "llama");
    let mut broken = tensors(&dir.join("a"));
    broken.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().2[5] = f32::NAN;
    crate::dense::write(&dir.join("a/model.safetensors"), &broken);
    let linear = "merge_method: linear\nmodels: [{model: base}, {model: a}]\nparameters: {weight: 1}\n";
    let printed = refusal(dir, linear);
    assert!(printed.contains("model.layers.0.mlp.up_proj.weight"), "{printed}");
    assert!(!dir.join(".out.moerge-build").exists());
    // Finished shards are what a later run resumes: they stay, and go once the model is mended and the run done.
    fs::write(dir.join("recipe.yml"), linear).unwrap();
    let sharded = ["merge", "recipe.yml", "out", "--out-shard-size", "20000", "-j1"];
    assert_eq!(moerge(dir, &sharded).status.code(), Some(1));
    let work = dir.join(".out.moerge-build");
    let finished = fs::read_dir(work.join("model")).map_or(0, Iterator::count);
    assert_eq!(work.exists(), finished > 0);
    write_models(dir, "llama");
    moerge_ok(dir, &sharded);
    assert!(!work.exists());
}

#[test]
fn errors_as_json_events_have_file_line_and_column_and_all_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = "merge_method: tiess\nmodels:\n- modle: a\nparametres: {weight: 1}\n";
    fs::write(dir.path().join("recipe.yml"), recipe).unwrap();
    let output = moerge(dir.path(), &["merge", "recipe.yml", "out", "--json"]);
    let events: Vec<Value> = output
        .stdout
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let places: Vec<(u64, u64)> = events
        .iter()
        .filter(|event| event["event"] == "error")
        .map(|event| {
            assert_eq!(event["file"], "recipe.yml", "{event}");
            (event["line"].as_u64().unwrap(), event["column"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(places, [(1, 15), (3, 3), (4, 1)], "{events:?}");
}
