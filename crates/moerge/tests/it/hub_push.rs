//! `moerge push` and `merge --push`, against a Hub on this machine.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::common::{contents, write_family};
use crate::hub_bench::{Bench, TOKEN, stderr};
use crate::hub_server::Fault;

/// A merged model in `out`, and a Hub where `me` may write.
fn bench() -> (Bench, PathBuf) {
    let bench = Bench::new();
    write_family(bench.dir.path(), "random");
    bench.ok(&["merge", "-q", "moe.yml", "out", "--out-shard-size", "30KB"]);
    bench.hub.log();
    let out = bench.dir.path().join("out");
    (bench, out)
}

fn push(bench: &Bench, args: &[&str]) -> std::process::Output {
    let mut all = vec!["push", "out", "me/moe"];
    all.extend(args);
    bench.command(&all).env("HF_TOKEN", TOKEN).output().unwrap()
}

#[track_caller]
fn is_there(bench: &Bench, branch: &str) {
    let there = bench.hub.files("me/moe", branch);
    for (name, fingerprint) in contents(&bench.dir.path().join("out")) {
        assert_eq!(moerge_checkpoint::Fingerprint::of(&there[&name]), fingerprint, "{name}");
    }
}

/// Requests of a kind that were answered.
fn count(bench: &Bench, method: &str, part: &str) -> usize {
    bench.hub.log().iter().filter(|l| l.method == method && l.target.contains(part)).count()
}

#[test]
fn everything_arrives_in_one_commit() {
    for part_bytes in [0, 30_000] {
        let (bench, out) = bench();
        *crate::hub_server::lock(&bench.hub.state.part_bytes) = part_bytes;
        let output = push(&bench, &["--private"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.starts_with(&format!("{}/me/moe ", bench.hub.endpoint())), "{printed}");
        is_there(&bench, "main");
        bench.hub.change("me/moe", |repo| {
            assert!(repo.private);
            // The one that made the repository, and ours.
            assert_eq!(repo.commits.len(), 2);
        });
        // Again: nothing is sent.
        bench.hub.log();
        let again = push(&bench, &[]);
        assert!(String::from_utf8(again.stdout).unwrap().contains("already up to date"));
        assert_eq!(count(&bench, "PUT", ""), 0);
        // A small change: nothing large is sent.
        fs::write(out.join("README.md"), "new").unwrap();
        assert!(push(&bench, &[]).status.success());
        assert_eq!(count(&bench, "PUT", ""), 0);
        is_there(&bench, "main");
    }
}

#[test]
fn a_branch_is_made_where_it_is_not_there() {
    let (bench, _) = bench();
    assert!(push(&bench, &["--branch", "v2"]).status.success());
    is_there(&bench, "v2");
    assert!(!bench.hub.files("me/moe", "main").contains_key("config.json"));
    assert!(push(&bench, &["--branch", "v2"]).status.success());
}

#[test]
fn a_bad_line_is_got_over() {
    for fault in [Fault::CutAfter(0), Fault::Status(503), Fault::Status(500)] {
        for part in ["/upload/", "/preupload/", "/objects/batch", "/complete/", "/verify"] {
            let (bench, _) = bench();
            *crate::hub_server::lock(&bench.hub.state.part_bytes) = 60_000;
            let mut left = 1;
            bench.hub.faults(move |request| {
                let now = left > 0 && request.target.contains(part);
                left -= i32::from(now);
                now.then_some(fault)
            });
            let output = push(&bench, &["-q"]);
            assert!(output.status.success(), "{fault:?} {part} {}", stderr(&output));
            is_there(&bench, "main");
            if matches!(fault, Fault::Status(503)) && part == "/upload/" {
                break;
            }
        }
    }
}

/// The commit is made, and its answer is lost.
#[test]
fn a_lost_answer_does_not_lead_to_a_second_commit() {
    let (bench, _) = bench();
    bench.hub.faults(|request| request.target.contains("/commit/").then_some(Fault::CutAfter(0)));
    let output = push(&bench, &["-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    is_there(&bench, "main");
    bench.hub.change("me/moe", |repo| assert_eq!(repo.commits.len(), 2));
}

#[test]
fn a_push_that_stopped_sends_only_the_rest() {
    let (bench, _) = bench();
    let sent = Arc::new(AtomicU32::new(0));
    let seen = sent.clone();
    bench.hub.faults(move |request| {
        (request.method == "PUT" && seen.fetch_add(1, Ordering::Relaxed) >= 2).then_some(Fault::Status(403))
    });
    assert!(!push(&bench, &[]).status.success());
    bench.hub.change("me/moe", |repo| assert_eq!(repo.commits.len(), 1));
    let there = crate::hub_server::lock(&bench.hub.state.objects).len();
    assert!(there > 0);
    bench.hub.faults(|_| None);
    bench.hub.log();
    assert!(push(&bench, &[]).status.success());
    let shards = contents(&bench.dir.path().join("out")).keys().filter(|n| n.ends_with(".safetensors")).count();
    assert!(shards > 3, "{shards}");
    assert_eq!(count(&bench, "PUT", "/upload/"), shards - there);
    is_there(&bench, "main");
}

#[test]
fn what_did_not_arrive_is_noticed() {
    let (bench, _) = bench();
    let state = bench.hub.state.clone();
    bench.hub.faults(move |request| {
        let mut repos = crate::hub_server::lock(&state.repos);
        if let Some(repo) = repos.get_mut("me/moe").filter(|_| request.target.contains("/tree/")) {
            for files in repo.commits.values_mut() {
                files.entry("config.json".into()).and_modify(|bytes| *bytes = Arc::new(b"{}".to_vec()));
            }
        }
        None
    });
    let output = push(&bench, &[]);
    assert!(
        stderr(&output).contains("config.json on me/moe differs from the file in the folder"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_push_that_is_not_allowed_says_so_before_it_reads_anything() {
    let (bench, out) = bench();
    let says = |args: &[&str], token: Option<&str>, words: &[&str]| {
        let mut command = bench.command(args);
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        let output = command.output().unwrap();
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        for word in words {
            assert!(printed.contains(word), "{word:?} is missing in:\n{printed}");
        }
        assert!(!printed.contains(TOKEN));
    };
    says(&["push", "out", "me/moe"], None, &["the Hub needs a token", "/settings/tokens", "HF_TOKEN"]);
    says(&["push", "out", "me/moe"], Some("hf_wrong"), &["the Hub does not know this token", "from HF_TOKEN"]);
    says(
        &["push", "out", "you/moe"],
        Some(TOKEN),
        &["the token does not belong to you", "an-org/..., me/...", "push to me/moe"],
    );
    for (args, word) in [
        (&["push", "out", "moe"][..], "expected user/name or org/name"),
        (&["push", "out", "a/b/c"], "expected user/name or org/name"),
        (&["push", "out", "me/moe", "--branch", "../x"], "not a valid branch name"),
        (&["merge", "moe.yml", "other", "--push", "moe"], "expected user/name or org/name"),
    ] {
        let wrong = bench.run(args);
        assert_eq!(wrong.status.code(), Some(2), "{args:?}");
        assert!(stderr(&wrong).contains(word), "{}", stderr(&wrong));
    }
    says(&["merge", "moe.yml", "other", "--push", "you/moe"], Some(TOKEN), &["the token does not belong to you"]);
    assert!(!bench.dir.path().join("other").exists());
    fs::remove_file(out.join("config.json")).unwrap();
    says(&["push", "out", "me/moe"], Some(TOKEN), &["holds no model: it has no config.json"]);
}

/// One command from a recipe to the Hub; and the token is in nothing that was printed or written on the way.
#[test]
fn a_merge_is_pushed_and_the_token_is_nowhere() {
    let (bench, out) = bench();
    for args in [&["-v"][..], &["--json", "--force"]] {
        fs::remove_dir_all(&out).unwrap();
        let mut all = vec!["merge", "moe.yml", "out", "--push", "me/moe"];
        all.extend(args);
        let output = bench.command(&all).env("HF_TOKEN", TOKEN).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        is_there(&bench, "main");
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(printed.contains("/me/moe") && !printed.contains(TOKEN) && !printed.contains("X-Amz"), "{printed}");
    }
    let mut folders = vec![bench.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                assert!(!bytes.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes()), "{}", path.display());
            }
        }
    }
}
