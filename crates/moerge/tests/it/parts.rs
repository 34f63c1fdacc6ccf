//! A merge whose shards several processes write, as several machines with a common disk do.

use std::{fs, path::Path, thread::sleep, time::Duration};

use crate::common::{command, contents, moerge, moerge_ok, write_family};

/// Small shards, so that there are enough for all.
const FLAGS: [&str; 3] = ["--out-shard-size", "10KB", "--quiet"];

fn merge<'a>(recipe: &'a str, out: &'a str, step: &[&'a str]) -> Vec<&'a str> {
    [&["merge", recipe, out], &FLAGS[..], step].concat()
}

fn error(dir: &Path, arguments: &[&str]) -> String {
    let output = moerge(dir, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Whether it is the work folder of a build.
fn hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

fn write_dense(dir: &Path) {
    let text = "merge_method: ties\nbase_model: base\nmodels:\n  - {model: a, parameters: {weight: 0.5, density: 0.5}}\n  \
                - {model: b, parameters: {weight: 0.5, density: 0.5}}\ndtype: bfloat16\n";
    fs::write(dir.join("dense.yml"), text).unwrap();
}

#[test]
fn parts_that_are_killed_and_started_again_give_the_bytes_of_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    write_dense(dir);
    for (recipe, fitted) in [("moe.yml", true), ("dense.yml", false)] {
        // The card bears the name of the folder.
        let (one, many) = (format!("one/{recipe}.out"), format!("many/{recipe}.out"));
        moerge_ok(dir, &merge(recipe, &one, &[]));
        let expected = contents(&dir.join(&one));
        let shards = expected.keys().filter(|name| name.starts_with("model-")).count();
        assert!(shards >= 6, "{recipe}: {shards} shards are too few");
        if fitted {
            moerge_ok(dir, &merge(recipe, &many, &["--routers-only"]));
        }
        let (mut state, mut killed) = (88_172_645_u64, 0);
        for round in 0..16 {
            let mut running: Vec<_> = ["1/3", "2/3", "3/3", "2/3"]
                .iter()
                .map(|part| command(dir, &merge(recipe, &many, &["--part", part])).spawn().unwrap())
                .collect();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sleep(Duration::from_millis(5 + (state >> 33) % 60));
            for process in &mut running {
                if round < 15 && process.try_wait().unwrap().is_none() {
                    process.kill().unwrap();
                    killed += 1;
                }
                process.wait().unwrap();
            }
        }
        assert!(killed > 5, "{recipe}: only {killed} were killed");
        assert!(!dir.join(&many).exists());
        moerge_ok(dir, &merge(recipe, &many, &["--finish"]));
        assert_eq!(contents(&dir.join(&many)), expected, "{recipe}");
        assert_eq!(fs::read_dir(dir.join("many")).unwrap().filter(|e| hidden(e.as_ref().unwrap())).count(), 0);
        // All of them are over, so nothing is done again.
        for step in [&["--part", "1/3"][..], &["--finish"], &[]] {
            moerge_ok(dir, &merge(recipe, &many, step));
        }
    }
}

#[test]
fn what_is_missing_is_said_and_a_whole_merge_adds_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "hidden");
    write_dense(dir);
    let early = error(dir, &merge("moe.yml", "out", &["--part", "1/2"]));
    assert!(early.contains("routers are not made yet") && early.contains("--routers-only"), "{early}");
    assert!(error(dir, &merge("moe.yml", "out", &["--finish"])).contains("no parts of this merge"));
    let dense = error(dir, &merge("dense.yml", "dense", &["--routers-only"]));
    assert!(dense.contains("has no routers"), "{dense}");

    moerge_ok(dir, &merge("moe.yml", "out", &["--routers-only"]));
    moerge_ok(dir, &merge("moe.yml", "out", &["--part", "1/2"]));
    let missing = error(dir, &merge("moe.yml", "out", &["--finish"]));
    assert!(missing.contains("shards are not written yet") && missing.contains("model-00002-of-"), "{missing}");
    // Another recipe does not discard the parts.
    assert!(error(dir, &merge("dense.yml", "out", &["--finish"])).contains("no parts of this merge"));
    assert!(fs::read_dir(dir.join(".out.moerge-build/model")).unwrap().count() >= 3);
    moerge_ok(dir, &merge("moe.yml", "out", &[]));
    moerge_ok(dir, &merge("moe.yml", "one/out", &[]));
    assert_eq!(contents(&dir.join("out")), contents(&dir.join("one/out")));
}

#[test]
fn a_scheduler_says_which_part_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_family(dir, "random");
    for (id, part) in [("4", "1/2"), ("5", "2/2")] {
        let arguments = ["merge", "moe.yml", "out", "--out-shard-size", "10KB", "--json", "--part"];
        let mut task = command(dir, &arguments);
        task.env("SLURM_ARRAY_TASK_ID", id).env("SLURM_ARRAY_TASK_MIN", "4").env("SLURM_ARRAY_TASK_COUNT", "2");
        let output = task.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["part"], part, "{last}");
        assert_eq!(last["missing_shards"] == 0, id == "5", "{last}");
    }
    moerge_ok(dir, &merge("moe.yml", "out", &["--finish"]));
}
