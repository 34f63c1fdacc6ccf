//! Recipes over models on the Hub: planned from headers, merged through the cache, merged without it.

use std::{collections::BTreeMap, fs};

use crate::common::{contents, llama, write_model};
use crate::{hub_bench::Bench, hub_server::Fault};
use moerge_checkpoint::Fingerprint;
use serde_json::{Value, json};

/// Three models on the Hub, two of them experts, and a recipe; weights large enough to tell headers from tensors.
fn bench() -> Bench {
    let bench = Bench::new();
    for (seed, name) in (1..).zip(["base", "a", "b"]) {
        let dir = bench.dir.path().join(name);
        write_model(&dir, &llama(&json!({ "hidden_size": 128, "intermediate_size": 512 })), seed);
        bench.hub.add_folder(&format!("org/{name}"), &dir);
    }
    let recipe = "base_model: org/base\ngate_mode: hidden\nexperts:\n  - source_model: org/a\n    positive_prompts: [\"def f(x):\"]\n  - source_model: org/b@main\n    positive_prompts: [\"once upon a time\"]\n";
    fs::write(bench.dir.path().join("moe.yml"), recipe).unwrap();
    fs::write(bench.dir.path().join("local.yml"), recipe.replace("org/b@main", "b").replace("org/", "")).unwrap();
    bench.hub.log();
    bench
}

/// The files of OUT without what tells where the models were.
fn weights(bench: &Bench, out: &str) -> BTreeMap<String, Fingerprint> {
    let mut files = contents(&bench.dir.path().join(out));
    files.retain(|name, _| !["moerge.json", "README.md", "moerge.yml"].contains(&name.as_str()));
    files
}

/// Bytes that came from the host of large files.
fn large_bytes(bench: &Bench) -> u64 {
    bench.hub.log().iter().filter(|l| l.cdn).map(|l| l.sent).sum()
}

#[test]
fn a_plan_reads_headers_and_knows_every_byte() {
    let bench = bench();
    let plan: Value = serde_json::from_str(&bench.ok(&["plan", "--json", "moe.yml", "out"])).unwrap();
    let log = bench.hub.log();
    assert!(log.iter().filter(|l| l.cdn).all(|l| l.sent <= 16 << 10), "{log:?}");
    let sent: u64 = log.iter().map(|l| l.sent).sum();
    assert!(sent < 300_000, "{sent}");
    assert_eq!(plan["on_hub"]["models"], 3);
    let size = |name: &str| fs::metadata(bench.dir.path().join(name).join("model.safetensors")).unwrap().len();
    assert_eq!(plan["on_hub"]["bytes"], size("base") + size("a") + size("b"));
    let text = bench.ok(&["plan", "moe.yml", "out"]);
    assert!(text.contains("3 of 3 models not downloaded:"), "{text}");
    bench.ok(&["merge", "-q", "moe.yml", "out"]);
    let total: u64 = contents(&bench.dir.path().join("out"))
        .keys()
        .map(|name| fs::metadata(bench.dir.path().join("out").join(name)).unwrap().len())
        .sum();
    assert_eq!(plan["output"]["max_bytes"], total);
    assert!(!bench.ok(&["plan", "moe.yml", "out"]).contains("not downloaded"));
}

#[test]
fn a_merge_downloads_what_is_missing_and_nothing_twice() {
    let bench = bench();
    bench.ok(&["merge", "-q", "moe.yml", "out"]);
    bench.ok(&["merge", "-q", "local.yml", "local"]);
    assert_eq!(weights(&bench, "out"), weights(&bench, "local"));
    // Without a network: everything is there.
    let mut again = bench.command(&["merge", "-q", "moe.yml", "again"]);
    assert!(again.env("HF_ENDPOINT", "http://127.0.0.1:9").status().unwrap().success());
    // A model of which Python fetched the config only.
    let snapshots = bench.home().join("hub/models--org--a/snapshots");
    let snapshot = fs::read_dir(&snapshots).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    fs::remove_dir_all(bench.home().join("hub/models--org--a/blobs")).unwrap();
    bench.ok(&["merge", "-q", "moe.yml", "third"]);
    assert_eq!(weights(&bench, "third"), weights(&bench, "local"));
}

#[test]
fn without_the_cache_only_used_tensors_come_and_none_stays() {
    let bench = bench();
    let plan: Value = serde_json::from_str(&bench.ok(&["plan", "--json", "moe.yml"])).unwrap();
    bench.hub.log();
    let recipe = fs::read_to_string(bench.dir.path().join("moe.yml")).unwrap().replace("hidden", "random");
    fs::write(bench.dir.path().join("random.yml"), recipe).unwrap();
    bench.ok(&["merge", "-q", "--no-cache", "random.yml", "out"]);
    let (sent, used) = (large_bytes(&bench), plan["on_hub"]["used_bytes"].as_u64().unwrap());
    assert!(used < plan["on_hub"]["bytes"].as_u64().unwrap() * 9 / 10);
    // The beginnings of three files, and the tensors.
    assert!(sent >= used && sent <= used + 3 * (16 << 10), "{sent} came, {used} are used");
    for model in ["base", "a", "b"] {
        let blobs = bench.home().join(format!("hub/models--org--{model}/blobs"));
        let kept: u64 = fs::read_dir(blobs).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(kept < 100_000, "{kept}");
    }
}

#[test]
fn without_the_cache_a_bad_line_gives_the_same_bytes() {
    let bench = bench();
    bench.ok(&["merge", "-q", "local.yml", "local"]);
    let mut state = 5u64;
    let mut last = false;
    bench.hub.faults(move |request| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        last = request.cdn && !last && state >> 63 == 1;
        last.then_some(Fault::CutAfter((state >> 33) % 60_000))
    });
    bench.ok(&["merge", "-q", "--no-cache", "moe.yml", "out"]);
    assert_eq!(weights(&bench, "out"), weights(&bench, "local"));
}

/// FAULTS 16: the licence of a source that is read from the Hub was lost.
#[test]
fn fault_16_without_the_cache_the_licences_are_read_from_the_cards() {
    let bench = bench();
    for (name, licence) in [("base", "cc-by-nc-4.0"), ("a", "cc-by-nc-4.0"), ("b", "CC-BY-NC-4.0")] {
        let dir = bench.dir.path().join(name);
        fs::write(dir.join("README.md"), format!("---\nlicense: {licence}\n---\n")).unwrap();
        bench.hub.add_folder(&format!("org/{name}"), &dir);
    }
    bench.ok(&["merge", "-q", "--no-cache", "moe.yml", "remote"]);
    bench.ok(&["merge", "-q", "moe.yml", "downloaded"]);
    let card = |out: &str| fs::read_to_string(bench.dir.path().join(out).join("README.md")).unwrap();
    assert!(card("remote").contains("license: \"cc-by-nc-4.0\""), "{}", card("remote"));
    assert_eq!(card("remote"), card("downloaded").replace("downloaded", "remote"));
}

/// `org/model+org/adapter` and verify on an id.
#[test]
fn a_model_is_verified_by_its_name() {
    let bench = bench();
    let verified = bench.ok(&["verify", "org/a"]);
    assert!(verified.starts_with("sound org/a"), "{verified}");
    let inspected = bench.ok(&["inspect", "org/b"]);
    assert!(inspected.starts_with("llama, dense"), "{inspected}");
    assert!(!bench.home().join("hub/models--org--b/blobs").join("x").exists());
}
