//! `moerge pull` and everything else that downloads, against a Hub on this machine that is a bad line.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::hub_bench::{Bench, TOKEN, stderr};
use crate::hub_server::{Fault, git_hash, sha256};
use serde_json::json;

#[test]
fn the_cache_is_laid_out_as_pythons() {
    let bench = Bench::new();
    let told = bench.ok(&["pull", "org/model"]);
    assert_eq!(Path::new(told.trim()), bench.snapshot());
    bench.is_whole();
    let weights = bench.snapshot().join("model.safetensors");
    let blob = fs::read_link(&weights).unwrap();
    let bytes = fs::read(bench.dir.path().join("model/model.safetensors")).unwrap();
    assert_eq!(blob, Path::new("../../blobs").join(sha256(&bytes)));
    let config = fs::read(bench.dir.path().join("model/config.json")).unwrap();
    assert_eq!(
        fs::read_link(bench.snapshot().join("config.json")).unwrap(),
        Path::new("../../blobs").join(git_hash(&config))
    );
    assert!(!bench.snapshot().join("training_args.bin").exists());
    // The second time the Hub is asked what there is, and nothing else.
    bench.hub.log();
    bench.ok(&["pull", "org/model"]);
    assert!(bench.hub.log().iter().all(|l| l.target.starts_with("/api/models/org/model/")));
    // And without a network it is there.
    let mut offline = bench.command(&["inspect", "org/model"]);
    assert!(offline.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HUB_OFFLINE", "1").status().unwrap().success());
}

/// A line that is cut at random bytes, every time: what was sent before a cut is not sent again.
#[test]
fn a_cut_costs_at_most_a_mebibyte() {
    let bench = Bench::new().with_weights(9_000_000);
    let state = AtomicU64::new(99);
    bench.hub.faults(move |request| {
        let next = state.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.store(next, Ordering::Relaxed);
        request.cdn.then_some(Fault::CutAfter((next >> 33) % 2_000_000))
    });
    bench.ok(&["pull", "org/model"]);
    bench.is_whole();
    let log: Vec<_> = bench.hub.log().into_iter().filter(|l| l.cdn).collect();
    assert!(log.len() > 4, "{log:?}");
    for pair in log.windows(2) {
        let again = (pair[0].from + pair[0].sent).saturating_sub(pair[1].from);
        assert!(again <= 1 << 20, "{again} bytes were sent again: {pair:?}");
    }
    let sent: u64 = log.iter().map(|l| l.sent).sum();
    assert!(sent <= 9_000_000 + (log.len() as u64 - 1) * (1 << 20), "{sent} in {} requests", log.len());
}

#[test]
fn a_killed_download_goes_on_where_it_stopped() {
    let bench = Bench::new().with_weights(6_000_000);
    let slow = |request: &crate::hub_server::Request| request.cdn.then_some(Fault::CutAfter(700_000));
    bench.hub.faults(slow);
    let mut child = bench.command(&["pull", "-q", "org/model"]).spawn().unwrap();
    let incomplete = || {
        let blobs = fs::read_dir(bench.repo().join("blobs")).ok()?;
        let path = blobs.map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "incomplete"))?;
        fs::metadata(path).ok().map(|m| m.len()).filter(|len| *len > 0)
    };
    let start = Instant::now();
    while incomplete().is_none_or(|len| len < 1_000_000) && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = incomplete().unwrap();
    assert!(!bench.snapshot().join("model.safetensors").exists());
    bench.hub.faults(|_| None);
    bench.hub.log();
    bench.ok(&["pull", "org/model"]);
    bench.is_whole();
    assert_eq!(bench.hub.log().iter().find(|l| l.cdn).unwrap().from, there);
}

/// Whatever a server says once, it is got over, and what is published is right.
#[test]
fn what_goes_wrong_once_is_got_over() {
    let once = |fault: Fault, only: fn(&crate::hub_server::Request) -> bool| {
        let bench = Bench::new().with_weights(800_000);
        let mut left = 2;
        bench.hub.faults(move |request| {
            left -= u32::from(left > 0 && only(request));
            (left == 1 && only(request)).then_some(fault)
        });
        bench.ok(&["pull", "org/model"]);
        bench.is_whole();
    };
    let weights = |r: &crate::hub_server::Request| r.cdn;
    for fault in [
        Fault::FlipByte(400_000),
        Fault::Longer(5),
        Fault::Longer(-5),
        Fault::Status(503),
        Fault::Status(500),
        Fault::Slow(0),
        Fault::CutAfter(0),
    ] {
        once(fault, weights);
    }
    let small = |r: &crate::hub_server::Request| r.target.ends_with("config.json");
    for fault in [Fault::FlipByte(3), Fault::Longer(1), Fault::Status(429), Fault::CutAfter(9)] {
        once(fault, small);
    }
    let api = |r: &crate::hub_server::Request| r.target.starts_with("/api/");
    for fault in [Fault::Status(502), Fault::CutAfter(9)] {
        once(fault, api);
    }
}

/// A server that does not know ranges, or gives others than it was asked for, after a cut.
#[test]
fn ranges_that_are_not_heeded_do_no_harm() {
    for fault in [Fault::WholeFile, Fault::OtherRange] {
        let bench = Bench::new().with_weights(900_000);
        let mut asked = 0;
        bench.hub.faults(move |request| {
            asked += u32::from(request.cdn);
            match asked {
                1 if request.cdn => Some(Fault::CutAfter(500_000)),
                2 if request.cdn => Some(fault),
                _ => None,
            }
        });
        bench.ok(&["pull", "org/model"]);
        bench.is_whole();
    }
}

#[test]
fn bytes_that_are_always_wrong_are_never_published() {
    for fault in [Fault::FlipByte(7), Fault::Longer(100), Fault::Longer(-100)] {
        let bench = Bench::new().with_weights(300_000);
        bench.hub.faults(move |request| request.cdn.then_some(fault));
        let output = bench.run(&["pull", "org/model"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("cannot download model.safetensors of org/model"), "{told}");
        assert!(told.contains("announced"), "{told}");
        bench.nothing_wrong_is_published();
        assert!(!bench.snapshot().join("model.safetensors").exists());
        assert!(!bench.repo().join("refs/main").exists());
    }
}

#[test]
fn an_incomplete_file_of_wrong_bytes_is_not_built_upon() {
    let bench = Bench::new().with_weights(300_000);
    let hash = sha256(&bench.hub.files("org/model", "main")["model.safetensors"]);
    fs::create_dir_all(bench.repo().join("blobs")).unwrap();
    for there in [vec![1; 200_000], vec![1; 300_000], vec![1; 400_000]] {
        fs::write(bench.repo().join("blobs").join(format!("{hash}.incomplete")), there).unwrap();
        bench.ok(&["pull", "org/model"]);
        bench.is_whole();
        fs::remove_dir_all(bench.snapshot()).unwrap();
        fs::remove_file(bench.repo().join("blobs").join(&hash)).unwrap();
    }
}

#[test]
fn another_process_that_downloads_is_waited_for() {
    use moerge_checkpoint::OutputStorage as _;
    let bench = Bench::new();
    let hash = sha256(&bench.hub.files("org/model", "main")["model.safetensors"]);
    let locks = bench.home().join("hub/.locks/models--org--model");
    fs::create_dir_all(&locks).unwrap();
    let lock = moerge_checkpoint::LocalStorage.lock(&locks.join(format!("{hash}.lock"))).unwrap().unwrap();
    let child = bench.command(&["pull", "org/model"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !bench.snapshot().join("tokenizer.json").exists() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(!bench.snapshot().join("model.safetensors").exists());
    // The other process brings it, so it is not asked for.
    let blobs = bench.repo().join("blobs");
    fs::copy(bench.dir.path().join("model/model.safetensors"), blobs.join(&hash)).unwrap();
    drop(lock);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stderr(&output).contains("waiting for another process"), "{}", stderr(&output));
    bench.is_whole();
    assert!(bench.hub.log().iter().all(|l| !l.cdn));
}

#[test]
fn files_come_side_by_side() {
    let bench = Bench::new();
    let shards: Vec<String> = (1..=4).map(|n| format!("model-{n:05}-of-00004.safetensors")).collect();
    let index: BTreeMap<String, &String> = shards.iter().enumerate().map(|(n, s)| (format!("t{n}"), s)).collect();
    let mut files: Vec<(String, Vec<u8>)> = shards.iter().map(|s| (s.clone(), s.as_bytes().repeat(1000))).collect();
    files.push(("model.safetensors.index.json".into(), json!({ "weight_map": index }).to_string().into_bytes()));
    files.push(("config.json".into(), b"{}".to_vec()));
    bench.hub.add("org/shards", files);
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let seen = most.clone();
    // Each answer waits a while; those that came before the first was sent were asked for at the same time.
    bench.hub.faults(move |request| {
        if !request.cdn {
            return None;
        }
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let now = now.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(900));
            now.fetch_sub(1, Ordering::SeqCst);
        });
        Some(Fault::Silent(Duration::from_secs(1)))
    });
    bench.ok(&["pull", "org/shards"]);
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let bench = Bench::new();
    bench.hub.change("org/model", |repo| repo.private = true);
    let output = bench.command(&["pull", "org/model"]).env("HF_TOKEN", TOKEN).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let log = bench.hub.log();
    let expected = format!("Bearer {TOKEN}");
    assert!(log.iter().filter(|l| !l.cdn).all(|l| l.authorization.as_deref() == Some(&expected)));
    assert!(log.iter().any(|l| l.cdn) && log.iter().filter(|l| l.cdn).all(|l| l.authorization.is_none()));
    for text in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(text).contains(TOKEN));
    }
    // The token file counts as well.
    fs::remove_dir_all(bench.repo()).unwrap();
    fs::write(bench.home().join("token"), format!("{TOKEN}\n")).unwrap();
    bench.ok(&["pull", "org/model"]);
}

#[test]
fn pages_of_a_list_and_new_names_are_followed() {
    let bench = Bench::new();
    *crate::hub_server::lock(&bench.hub.state.page) = 2;
    bench.hub.add("old/name", vec![("x".into(), vec![])]);
    bench.hub.change("old/name", |repo| repo.moved_to = Some("org/model".into()));
    bench.ok(&["pull", "old/name", "org/model"]);
    bench.is_whole();
    assert!(bench.home().join("hub/models--old--name/refs/main").exists());
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    let bench = Bench::new();
    let first = bench.commit.clone();
    bench.hub.change("org/model", |repo| drop(repo.branches.insert("refs/pr/1".into(), first.clone())));
    let second = bench.hub.add("org/model", vec![("README.md".into(), b"new".to_vec())]);
    for (written, commit) in
        [("org/model@refs/pr/1", &first), ("org/model", &second), (&format!("org/model@{first}"), &first)]
    {
        let told = bench.ok(&["pull", written]);
        assert!(told.trim().ends_with(commit), "{written} {told}");
    }
    assert_eq!(fs::read_to_string(bench.repo().join("refs/refs/pr/1")).unwrap(), first);
    assert_eq!(fs::read_to_string(bench.repo().join("refs/main")).unwrap(), second);
}

#[test]
fn ctrl_c_is_prompt_while_the_network_is_silent() {
    let bench = Bench::new().with_weights(300_000);
    bench.hub.faults(|request| request.cdn.then_some(Fault::Silent(Duration::from_secs(15))));
    let child = bench.command(&["pull", "org/model"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !bench.repo().join("blobs").exists() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let pressed = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(pressed.elapsed() < Duration::from_secs(3), "{:?}", pressed.elapsed());
    assert!(stderr(&output).contains("finished downloads are kept"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(130));
}
