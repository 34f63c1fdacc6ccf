//! A run that was killed goes on where it stopped, and gives the same bytes.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::common::{command, contents, llama, moerge_ok, write_model};
use serde_json::json;

fn merge(out: &str) -> Vec<&str> {
    [&["merge", "moe.yml", out], &FLAGS[..]].concat()
}

/// Shards of 1 MB, some 12 of them: small enough for a quick test, large enough to be cut in the middle.
const FLAGS: [&str; 3] = ["--out-shard-size", "1000000", "--quiet"];

fn write_larger_family(dir: &Path) {
    let config = llama(&json!({"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6}));
    for (seed, name) in (1..).zip(["base", "a"]) {
        write_model(&dir.join(name), &config, seed);
    }
    let text = "base_model: base\ngate_mode: hidden\nexperts:\n\
        - {source_model: base, positive_prompts: [one]}\n\
        - {source_model: a, positive_prompts: [two], noise_scale: 0.01}\n\
        - {source_model: a, positive_prompts: [three], residual_scale: 0.5}\n";
    fs::write(dir.join("moe.yml"), text).unwrap();
}

#[test]
fn killed_at_random_fifty_times_gives_the_same_bytes_and_repeats_at_most_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_larger_family(dir);
    let start = Instant::now();
    moerge_ok(dir, &merge("first/out"));
    let whole_run = start.elapsed();
    let expected = contents(&dir.join("first/out"));
    let shards = expected.keys().filter(|name| name.starts_with("model-")).count();
    assert!(shards >= 8, "{shards} shards are too few to be cut between");

    let model = dir.join(".out.moerge-build/model");
    let finished = || -> Vec<String> {
        let names = fs::read_dir(&model).into_iter().flatten().flatten();
        names.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".safetensors")).collect()
    };
    let modified = |name: &str| fs::metadata(model.join(name)).and_then(|m| m.modified()).ok();
    let mut state = 88_172_645_u64;
    let (mut kills, mut in_the_middle) = (0, 0);
    while kills < 50 {
        let before: Vec<_> = finished().into_iter().map(|name| (modified(&name), name)).collect();
        let mut child = command(dir, &merge("out")).spawn().unwrap();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = (state >> 33) as f64 / f64::from(1_u32 << 31);
        sleep(whole_run.mul_f64(share * 1.1).min(Duration::from_secs(2)));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if ended.is_some_and(|status| status.success()) {
            assert_eq!(contents(&dir.join("out")), expected, "after {kills} kills");
            fs::remove_dir_all(dir.join("out")).unwrap();
            continue;
        }
        in_the_middle += usize::from(!finished().is_empty());
        // What was finished before is still the same file: no shard is written twice.
        for (time, name) in before {
            let published = !model.exists();
            assert!(published || modified(&name) == time, "{name} was written again after kill {kills}");
        }
    }
    assert!(in_the_middle > 5, "only {in_the_middle} of {kills} kills hit a half-finished build");
    moerge_ok(dir, &merge("out"));
    assert_eq!(contents(&dir.join("out")), expected);
    assert!(!dir.join(".out.moerge-build").exists());
}

#[test]
fn what_a_run_left_that_was_killed_after_the_rename_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_larger_family(dir);
    let work = dir.join(".out.moerge-build");
    let mut begun = command(dir, &merge("out")).spawn().unwrap();
    let plan_id = loop {
        if let Some(id) = fs::read_to_string(work.join("plan-id")).ok().filter(|id| !id.is_empty()) {
            break id;
        }
        assert!(begun.try_wait().unwrap().is_none(), "it was over before it was looked at");
    };
    begun.kill().unwrap();
    begun.wait().unwrap();
    moerge_ok(dir, &merge("out"));
    let expected = contents(&dir.join("out"));
    for (plan_id, stays) in [(plan_id.as_str(), false), ("another plan", true)] {
        fs::create_dir_all(work.join("old")).unwrap();
        fs::write(work.join("made-by-moerge"), "moerge work folder\n").unwrap();
        fs::write(work.join("plan-id"), plan_id).unwrap();
        moerge_ok(dir, &merge("out"));
        assert_eq!(work.exists(), stays, "{plan_id}");
        assert_eq!(contents(&dir.join("out")), expected);
    }
}
