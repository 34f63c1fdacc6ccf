//! Data sets of tasks from the Hub: the Parquet files of one split, into the cache that Python shares.

use std::{fs, path::Path};

use serde_json::Value;

use crate::common::example;
use crate::hub_bench::{Bench, stderr};
use crate::hub_server::Fault;

/// A Hub with one data set in its branch of Parquet files, the test split in two of them.
fn bench() -> Bench {
    let bench = Bench::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evaluate/data/allenai/ai2_arc/ARC-Easy");
    let read = |name: &str| fs::read(data.join(name)).unwrap();
    let files = [
        ("ARC-Easy/test/0000.parquet", read("test.parquet")),
        ("ARC-Easy/test/0001.parquet", read("validation.parquet")),
        ("ARC-Easy/train/0000.parquet", read("train.parquet")),
        ("ARC-Challenge/test/0000.parquet", read("test.parquet")),
    ];
    bench.hub.add_data_set("allenai/ai2_arc", files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec());
    bench
}

fn eval<'a>(model: &'a str, task: &'a str) -> [&'a str; 5] {
    ["eval", model, "--tasks", task, "--json"]
}

#[test]
fn a_split_is_downloaded_once_and_used_without_a_network() {
    let bench = bench();
    let model = example("tiny/base").display().to_string();
    let first = bench.ok(&eval(&model, "arc_easy"));
    let questions = |json: &str| {
        let json: Value = serde_json::from_str(json).unwrap();
        json["models"][0]["tasks"][0]["items"].as_array().unwrap().len()
    };
    assert_eq!(questions(&first), 8 + 4, "both files");
    let repo = bench.home().join("hub/datasets--allenai--ai2_arc");
    let commit = fs::read_to_string(repo.join("refs/refs/convert/parquet")).unwrap();
    let split = repo.join("snapshots").join(commit).join("ARC-Easy/test");
    assert!(fs::read_link(split.join("0000.parquet")).unwrap().starts_with("../../../../blobs"));
    assert!(!split.with_file_name("train").exists(), "nothing asked for it");
    let mut offline = bench.command(&eval(&model, "arc_easy"));
    let again = offline.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), first);
}

/// The first file comes last: a download that ends between the two is not taken for whole.
#[test]
fn a_split_that_is_half_there_is_downloaded_again() {
    let bench = bench();
    let model = example("tiny/base").display().to_string();
    bench.hub.faults(|request| request.target.contains("0000.parquet").then_some(Fault::Status(404)));
    assert!(!bench.run(&eval(&model, "arc_easy")).status.success());
    bench.hub.faults(|_| None);
    bench.ok(&eval(&model, "arc_easy"));
}

#[test]
fn what_the_hub_does_not_have_is_named() {
    let bench = bench();
    let model = example("tiny/base").display().to_string();
    let error = stderr(&bench.run(&["eval", &model, "--tasks", "arc_challenge", "--shots", "2"]));
    assert!(error.contains("no split ARC-Challenge/train on the Hub") && error.contains("ARC-Easy/test"), "{error}");
    assert!(stderr(&bench.run(&eval(&model, "piqa"))).contains("baber/piqa"));
}
