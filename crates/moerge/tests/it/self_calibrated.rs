//! Experts that write the text their routers are fitted to, on the trained models of `examples/tiny`.

use std::{fs, path::Path};

use crate::common::{contents, moerge_ok};
use serde_json::Value;

/// No prompts and no gate_mode.
fn write_recipe(dir: &Path) {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny").canonicalize().unwrap();
    let model = |name| tiny.join(name).display().to_string();
    let mut recipe = format!("base_model: {}\nself_text: {{samples: 10, tokens: 48}}\nexperts:\n", model("base"));
    for expert in ["code", "math", "story"] {
        recipe += &format!("  - source_model: {}\n", model(expert));
    }
    fs::write(dir.join("moe.yml"), recipe).unwrap();
}

fn read(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join("1").join(name)).unwrap()).unwrap()
}

#[test]
fn no_prompts_and_no_data_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_recipe(dir);
    for threads in ["1", "3"] {
        moerge_ok(dir, &["merge", "moe.yml", threads, "-j", threads, "--quiet"]);
    }
    let (one, three) = (contents(&dir.join("1")), contents(&dir.join("3")));
    for (name, bytes) in &one {
        assert!(name == "README.md" || name == "moerge.json" || Some(bytes) == three.get(name), "{name} differs");
    }

    let written: Value = read(dir, "self_text.json");
    let written = written.as_array().unwrap();
    assert_eq!(written.len(), 3);
    for (number, expert) in written.iter().enumerate() {
        let samples = expert["samples"].as_array().unwrap();
        assert_eq!((expert["expert"].as_u64(), samples.len()), (Some(number as u64), 10));
        for sample in samples {
            // bos, which is no text, and what was written: never the end of a text.
            let tokens: Vec<u64> = sample["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap()).collect();
            assert_eq!(tokens.len(), 49);
            assert!(!tokens[1..].contains(&tokens[0]), "{tokens:?}");
        }
    }
    // What the specialists write is theirs to a reader, too.
    let text = |expert: usize| written[expert]["samples"].to_string();
    assert!(text(0).contains('#') && text(1).contains("Problem: ") && text(2).contains("And "));
    assert!(!text(0).contains("Problem: ") && !text(1).contains("LORD") && !text(2).contains("def "));

    let report: Value = read(dir, "routing_report.json");
    let median = report["median_accuracy"].as_f64().unwrap();
    assert!(median > 0.75, "chance is 0.33, the median layer has {median}");
}

#[test]
fn an_expert_that_does_not_fit_into_memory_is_refused_with_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    write_recipe(dir.path());
    let output = crate::common::moerge(dir.path(), &["merge", "moe.yml", "out", "--memory", "1MiB"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("memory") && told.contains("hint: --memory"), "{told}");
}
