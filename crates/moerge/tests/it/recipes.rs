//! Recipes as people write them: the shapes of public model cards, several faults at once, prompts of any length.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use moerge_core::recipe::Recipe;
use serde_json::{Value, json};

use crate::common::{command, llama, moerge, moerge_ok, write_family, write_model};

/// A small config of a family.
fn config(family: &str) -> Value {
    let qwen3 = json!({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 8});
    match family {
        "llama" => llama(&json!({})),
        "mistral" => llama(&json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"]})),
        "qwen2" => llama(&json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})),
        "qwen3" => llama(&qwen3),
        other => panic!("no family {other}"),
    }
}

fn stderr(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = moerge(dir, arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn fault_recipes_the_shapes_of_public_recipes_plan() {
    let all = include_str!("../public_recipes.yml");
    let recipes: Vec<&str> = all.split("\n---\n").skip(1).collect();
    assert_eq!(recipes.len(), 20);
    for text in recipes {
        let facts = |key: &str| -> Vec<&str> { text.lines().filter_map(|line| line.strip_prefix(key)).collect() };
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::parse("moe.yml", text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        let experts = recipe.experts.iter().chain(&recipe.shared_experts).map(|e| &e.source_model);
        let models: BTreeSet<&str> =
            std::iter::once(&recipe.base_model).chain(experts).map(|model| model.model.as_str()).collect();
        for (seed, model) in (1..).zip(models) {
            write_model(&dir.path().join(model), &config(facts("# family: ")[0]), seed);
        }
        fs::write(dir.path().join("moe.yml"), text).unwrap();
        let output = moerge_ok(dir.path(), &["plan", "moe.yml"]);
        let plan = String::from_utf8_lossy(&output.stdout);
        for words in facts("# makes: ")[0].split(", ") {
            assert!(plan.contains(words), "{words}\n{text}\n{plan}");
        }
        let warnings = String::from_utf8_lossy(&output.stderr);
        let expected = facts("# warning: ");
        for words in &expected {
            assert!(warnings.contains(words), "{words}\n{text}\n{warnings}");
        }
        let of_recipe = |line: &&str| line.contains("has no effect") || line.contains("prompt");
        assert_eq!(
            warnings.lines().filter(of_recipe).count(),
            expected.len() - usize::from(text.contains("same model")),
            "{text}\n{warnings}"
        );
    }
}

#[test]
fn fault_recipes_all_faults_of_a_recipe_are_printed_with_their_carets() {
    let dir = tempfile::tempdir().unwrap();
    let text = "base_model: a\ngate_mode: hiden\ndtype: int4\nexperts:\n  - source_model: b\n    positve_prompts: [x]\n  \
                - source_model: c\n    noise_scale: -1\n    positive_prompts_file: not-there.txt\n";
    fs::write(dir.path().join("moe.yml"), text).unwrap();
    for job in ["plan", "merge"] {
        let (code, errors) = stderr(dir.path(), &[job, "moe.yml", "out"]);
        assert_eq!(code, Some(1));
        assert_eq!(errors.matches("error:").count(), 5, "{errors}");
        for line in [2, 3, 6, 8, 9] {
            assert!(errors.contains(&format!("--> moe.yml:{line}:")), "{line}\n{errors}");
        }
    }
}

/// Gates of `hidden` for an empty prompt are those of the bos token alone.
#[test]
fn fault_recipes_an_empty_prompt_is_the_bos_token_and_without_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    let recipe = |prompts: &str| {
        let text = format!(
            "base_model: base\ngate_mode: hidden\nexperts:\n  - source_model: a\n    positive_prompts: [{prompts}]\n  - \
             source_model: b\n    positive_prompts: [tell me]\n"
        );
        fs::write(dir.join("moe.yml"), text).unwrap();
    };
    recipe("\"\", one");
    let (code, errors) = stderr(dir, &["merge", "moe.yml", "with", "--quiet"]);
    assert!(code == Some(0) && errors.contains("stands for the bos token alone"), "{errors}");
    recipe("\"<s>\", one");
    // The bos token is written before every prompt, so this one has it twice; the same text without it has it once.
    moerge_ok(dir, &["merge", "moe.yml", "twice", "--quiet"]);
    recipe("one");
    moerge_ok(dir, &["merge", "moe.yml", "one", "--quiet"]);
    let weights = |out: &str| {
        fs::read(dir.join(out).join("model-00001-of-00001.safetensors"))
            .ok()
            .or_else(|| fs::read(dir.join(out).join("model.safetensors")).ok())
            .unwrap()
    };
    assert_ne!(weights("with"), weights("one"), "the empty prompt counts");

    // Without a bos token there is nothing to compute, and the other prompts make the gate.
    let config = dir.join("base/tokenizer_config.json");
    fs::write(&config, "{}").unwrap();
    recipe("one");
    moerge_ok(dir, &["merge", "moe.yml", "plain", "--quiet"]);
    recipe("\"\", one");
    for job in ["plan", "merge"] {
        let (code, errors) = stderr(dir, &[job, "moe.yml", "ignored"]);
        assert!(code == Some(0) && errors.contains("the empty prompts of expert 0 are ignored"), "{job}: {errors}");
    }
    let plan = moerge_ok(dir, &["plan", "moe.yml", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert!(plan["warnings"].to_string().contains("the empty prompts of expert 0 are ignored"), "{plan}");
    assert_eq!(weights("ignored"), weights("plain"));
    recipe("\"\"");
    for job in ["plan", "merge"] {
        let (code, errors) = stderr(dir, &[job, "moe.yml", "none"]);
        assert!(code == Some(1) && errors.contains("the prompts of expert 0 have no tokens"), "{errors}");
    }
}

/// Attack A9: a prompt of 400,000 words was tokenized for minutes, and nobody could stop it.
#[test]
fn attack_09_a_prompt_that_no_model_takes_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let long = "antidisestablishment ".repeat(400_000);
    for mode in ["hidden", "hidden_avg", "cheap_embed", "self_calibrated"] {
        write_family(dir, mode);
        let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
        fs::write(dir.join("moe.yml"), recipe.replace("def f(x):", &long)).unwrap();
        let start = Instant::now();
        for job in ["plan", "merge"] {
            let (code, errors) = stderr(dir, &[job, "moe.yml", "out"]);
            assert_eq!(code, Some(1), "{errors}");
            assert!(
                errors.contains("positive prompt 1 of expert 1 is too long") && errors.contains("moe.yml:6:"),
                "{errors}"
            );
            assert!(errors.contains("hint: ") && errors.len() < 4000, "{}", errors.len());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    // From a file it is the same, and a file of short prompts is fine.
    write_family(dir, "hidden");
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    let recipe = recipe.replace("positive_prompts: [\"def f(x):\"]", "positive_prompts_file: p.txt");
    fs::write(dir.join("moe.yml"), recipe).unwrap();
    fs::write(dir.join("p.txt"), &long).unwrap();
    let (code, errors) = stderr(dir, &["merge", "moe.yml", "out"]);
    assert!(code == Some(1) && errors.contains("positive prompt 1 of expert 1 is too long"), "{errors}");
}

/// Where text is cut into windows any length is fine, and little more is tokenized than is used.
#[test]
fn long_text_for_fitted_routers_is_thinned_out_before_it_is_tokenized() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "calibrated");
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    let recipe = recipe.replace("positive_prompts: [\"def f(x):\"]", "positive_prompts_file: p.txt");
    fs::write(dir.join("moe.yml"), format!("calibration_tokens: 256\n{recipe}")).unwrap();
    fs::write(dir.join("p.txt"), "def f(x): return x + 1\n".repeat(1 << 20)).unwrap();
    let start = Instant::now();
    moerge_ok(dir, &["merge", "moe.yml", "out", "--quiet"]);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
#[cfg(unix)]
fn attack_09_a_run_that_tokenizes_many_prompts_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    let recipe = fs::read_to_string(dir.join("moe.yml")).unwrap();
    let recipe = recipe.replace("positive_prompts: [\"def f(x):\"]", "positive_prompts_file: p.txt");
    fs::write(dir.join("moe.yml"), recipe).unwrap();
    let prompts: String = (0..40_000).map(|i| format!("{i} {}\n", "antidisestablishment ".repeat(60))).collect();
    fs::write(dir.join("p.txt"), prompts).unwrap();
    let mut run =
        command(dir, &["merge", "moe.yml", "out"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(run.try_wait().unwrap().is_none(), "done before it could be stopped");
    let stop = Instant::now();
    assert!(std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(stop.elapsed() < Duration::from_secs(5), "{:?}", stop.elapsed());
}

#[test]
fn a_recipe_on_standard_input_is_relative_to_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = write_family(dir.path(), "random");
    moerge_ok(dir.path(), &["merge", "moe.yml", "out"]);
    for (arguments, result) in [(&["plan", "-"][..], "4 experts"), (&["merge", "-", "out"], "already built")] {
        let stdin = fs::File::open(&recipe).unwrap();
        let output = command(dir.path(), arguments).stdin(stdin).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && text.contains(result), "{arguments:?}: {text}");
    }
}

#[test]
fn with_json_every_fault_of_a_recipe_is_an_event() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("moe.yml"), "base_modle: base\nexperts: []\n").unwrap();
    for arguments in [&["plan", "moe.yml", "--json"][..], &["merge", "moe.yml", "out", "--json"]] {
        let output = moerge(dir.path(), arguments);
        let lines = String::from_utf8(output.stdout).unwrap();
        let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(events.len() > 1 && events.iter().all(|event| event["event"] == "error"), "{arguments:?}: {lines}");
        let typo = events.iter().find(|event| event["message"] == "unknown key `base_modle`").unwrap();
        assert_eq!((&typo["file"], &typo["line"], &typo["column"]), (&json!("moe.yml"), &json!(1), &json!(1)));
        assert_eq!(typo["label"], "did you mean `base_model`?");
    }
}
