//! What is said when the Hub, the network or this machine says no.

use std::{fs, process::Command};

use crate::hub_server::bench::{Bench, TOKEN, stderr};

/// The command fails, and what it says has all of `words` and no token.
#[track_caller]
fn says(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in:\n{told}");
    }
    assert!(!told.contains(TOKEN) && !told.contains("X-Amz-Signature"), "{told}");
}

#[test]
fn gated_models_say_how_to_get_in() {
    let bench = Bench::new();
    bench.hub.change("org/model", |repo| repo.gated = true);
    let page = format!("open {}/org/model in a browser, log in and accept", bench.hub.endpoint());
    says(
        &mut bench.command(&["pull", "org/model"]),
        &["org/model is gated", &page, "`hf auth login`, or set HF_TOKEN"],
    );
    bench.hub.faults(|r| r.target.contains("/resolve/").then_some(crate::hub_server::Fault::Gated));
    let mut command = bench.command(&["pull", "org/model"]);
    says(command.env("HF_TOKEN", TOKEN), &["org/model is gated", "the token from HF_TOKEN must be of that account"]);
}

#[test]
fn missing_and_private_models_look_alike() {
    let bench = Bench::new();
    let missing =
        ["there is no model org/modle on the Hub, or it is private", "is it spelt as at", "log in: `hf auth login`"];
    says(&mut bench.command(&["pull", "org/modle"]), &missing);
    bench.hub.change("org/model", |repo| repo.private = true);
    says(&mut bench.command(&["inspect", "org/model"]), &["there is no model org/model on the Hub, or it is private"]);
    let mut command = bench.command(&["pull", "org/modle"]);
    says(command.env("HF_TOKEN", TOKEN), &["the token from HF_TOKEN must be allowed to read org/modle"]);
}

#[test]
fn a_token_that_the_hub_does_not_know() {
    let bench = Bench::new();
    let words = ["the Hub does not know this token", "from HF_TOKEN", "/settings/tokens", "401 Invalid credentials"];
    says(bench.command(&["pull", "org/model"]).env("HF_TOKEN", "hf_wrong"), &words);
    fs::create_dir_all(bench.home()).unwrap();
    fs::write(bench.home().join("token"), "hf_wrong").unwrap();
    let output = bench.run(&["pull", "org/model"]);
    assert!(stderr(&output).contains("home/token") && !stderr(&output).contains("hf_wrong"), "{}", stderr(&output));
}

#[test]
fn a_revision_that_is_not_there() {
    let bench = Bench::new();
    let words = ["org/model has no branch, tag or commit `v9`", "/org/model/tree/main", "404 Invalid rev id: v9"];
    says(&mut bench.command(&["pull", "org/model@v9"]), &words);
}

#[test]
fn no_network() {
    let bench = Bench::new();
    let words = ["cannot download org/model: the Hub cannot be reached", "http://127.0.0.1:9", "HF_HUB_OFFLINE=1"];
    says(bench.command(&["pull", "org/model"]).env("HF_ENDPOINT", "http://127.0.0.1:9"), &words);
    let named = ["cannot be reached", "its name is not known"];
    says(bench.command(&["pull", "org/model"]).env("HF_ENDPOINT", "http://no-such-host.invalid"), &named);
    let offline = ["org/model is not on this machine, and HF_HUB_OFFLINE says not to ask"];
    says(bench.command(&["pull", "org/model"]).env("HF_HUB_OFFLINE", "1"), &offline);
}

#[test]
fn something_that_is_no_hub() {
    let bench = Bench::new();
    bench.hub.faults(|_| Some(crate::hub_server::Fault::LoginPage));
    says(&mut bench.command(&["pull", "org/model"]), &["cannot download org/model", "is that a Hub?", "login page"]);
}

#[test]
fn a_hub_in_trouble_or_in_a_hurry() {
    let bench = Bench::new();
    bench.hub.faults(|_| Some(crate::hub_server::Fault::Status(403)));
    says(&mut bench.command(&["pull", "org/model"]), &["the Hub does not allow it"]);
    // With `Retry-After: 0` the tries are over at once.
    bench.hub.faults(|_| Some(crate::hub_server::Fault::Slow(0)));
    let waits = "the Hub answers 429; trying again at once (2 of 7)";
    says(&mut bench.command(&["pull", "org/model"]), &[waits, "the Hub asks to slow down", "wait some minutes"]);
    let told = stderr(&bench.run(&["pull", "--quiet", "org/model"]));
    assert!(!told.contains("hf auth login") && !told.contains("trying again"), "{told}");
}

#[test]
fn not_enough_room() {
    let bench = Bench::new();
    bench.hub.faults(|r| r.target.contains("/tree/").then_some(crate::hub_server::Fault::Huge));
    let words = ["not enough room for downloads in", "needed", "free", "HF_HOME", "--no-cache"];
    says(&mut bench.command(&["pull", "org/model"]), &words);
    assert!(!bench.snapshot().join("model.safetensors").exists());
}

/// The disk says no in the middle of a file. What is there stays, and the same command goes on.
#[test]
#[cfg(unix)]
fn a_file_that_cannot_be_written() {
    let bench = Bench::new().with_weights(900_000);
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=400000", env!("CARGO_BIN_EXE_moerge"), "pull", "org/model"]);
    for (name, value) in bench.command(&[]).get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    says(&mut limited, &["cannot write", ".incomplete", "File too large", "a limit on the size of files was hit"]);
    bench.nothing_wrong_is_published();
    bench.hub.log();
    bench.ok(&["pull", "org/model"]);
    bench.is_whole();
    assert_eq!(bench.hub.log().iter().find(|l| l.cdn).unwrap().from, 400_000);
}

#[test]
fn a_repository_without_weights() {
    let bench = Bench::new();
    bench.hub.add("org/gguf", vec![("model.Q4.gguf".into(), vec![1]), ("config.json".into(), b"{}".to_vec())]);
    says(
        &mut bench.command(&["pull", "org/gguf"]),
        &["org/gguf holds no weights that moerge reads", "GGUF is an end format"],
    );
    let wrong = bench.run(&["pull", "no spaces"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("not a model on the Hub"), "{}", stderr(&wrong));
}

/// In a recipe, the error has the place of the model.
#[test]
fn a_recipe_that_names_a_model_that_is_not_there() {
    let bench = Bench::new();
    let recipe = "base_model: org/model\ngate_mode: random\nexperts:\n  - source_model: org/model\n  - source_model: org/modle\n";
    fs::write(bench.dir.path().join("moe.yml"), recipe).unwrap();
    for args in [&["merge", "moe.yml", "out"][..], &["plan", "moe.yml"], &["merge", "--no-cache", "moe.yml", "out"]] {
        says(&mut bench.command(args), &["there is no model org/modle on the Hub", "moe.yml:5:19"]);
    }
}
