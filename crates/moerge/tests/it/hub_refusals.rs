//! Errors of the Hub, the network and this machine.

use std::{fs, process::Command};

use crate::hub_bench::{Bench, TOKEN, stderr};
use crate::hub_server::Reply;

/// The command fails, and what it says has all of `words` and no token.
#[track_caller]
fn says(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let printed = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for word in words {
        assert!(printed.contains(word), "{word:?} is missing in:\n{printed}");
    }
    assert!(!printed.contains(TOKEN) && !printed.contains("X-Amz-Signature"), "{printed}");
}

#[test]
fn gated_models_say_how_to_get_in() {
    let bench = Bench::new();
    bench.hub.change("org/model", |repo| repo.gated = true);
    let page = format!("open {}/org/model in a browser, log in and accept", bench.hub.endpoint());
    says(
        &mut bench.command(&["pull", "org/model"]),
        &["org/model is gated", &page, "run `hf auth login`, or set HF_TOKEN"],
    );
    bench.hub.faults(|r| r.target.contains("/resolve/").then_some(crate::hub_server::Fault::Gated));
    let mut command = bench.command(&["pull", "org/model"]);
    says(
        command.env("HF_TOKEN", TOKEN),
        &["org/model is gated", "the token from HF_TOKEN must belong to that account"],
    );
}

#[test]
fn missing_and_private_models_look_alike() {
    let bench = Bench::new();
    let missing = [
        "there is no model org/modle on the Hub, or it is private",
        "check the spelling at",
        "log in: `hf auth login`",
    ];
    says(&mut bench.command(&["pull", "org/modle"]), &missing);
    bench.hub.change("org/model", |repo| repo.private = true);
    says(&mut bench.command(&["inspect", "org/model"]), &["there is no model org/model on the Hub, or it is private"]);
    let mut command = bench.command(&["pull", "org/modle"]);
    says(command.env("HF_TOKEN", TOKEN), &["the token from HF_TOKEN must have permission to read org/modle"]);
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
    let offline = ["org/model is not on this machine, and HF_HUB_OFFLINE forbids asking"];
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
    says(
        &mut bench.command(&["pull", "org/model"]),
        &[waits, "the Hub limits the rate of requests", "wait a few minutes"],
    );
    let printed = stderr(&bench.run(&["pull", "--quiet", "org/model"]));
    assert!(!printed.contains("hf auth login") && !printed.contains("trying again"), "{printed}");
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
    says(&mut limited, &["cannot write", ".incomplete", "File too large", "exceeds a limit of `ulimit -f`"]);
    bench.nothing_wrong_is_published();
    bench.ok(&["pull", "org/model"]);
    bench.is_whole();
    // The server may see the last request of the first run during the second.
    assert_eq!(bench.hub.log().iter().rfind(|l| l.cdn).unwrap().from, 400_000);
}

#[test]
fn a_repository_without_weights() {
    let bench = Bench::new();
    bench.hub.add("org/gguf", vec![("model.Q4.gguf".into(), vec![1]), ("config.json".into(), b"{}".to_vec())]);
    says(
        &mut bench.command(&["pull", "org/gguf"]),
        &["org/gguf holds no weights that moerge reads", "names the original model"],
    );
    let wrong = bench.run(&["pull", "no spaces"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("not a model on the Hub"), "{}", stderr(&wrong));
}

/// FAULTS A12: 542 requests and on.
#[test]
fn attack_12_a_list_of_files_whose_pages_point_at_themselves() {
    let bench = Bench::new();
    let page = format!("{}/api/models/org/model/tree/x?cursor=1", bench.hub.endpoint());
    let other = "http://localhost:1/api/models/org/model/tree/x";
    for (link, problem) in [
        (format!("<{page}>; rel=\"next\""), "its list of files repeats a page"),
        (format!("<{page}>; rel=next"), "its list of files repeats a page"),
        (format!("<{other}>; rel=\"next\""), "goes on at another host (http://localhost:1)"),
        ("<ftp://x>; rel=\"next\"".to_owned(), "goes on at another host"),
    ] {
        bench.hub.tampers(move |request, reply| {
            if request.target.contains("/tree/") {
                *reply = Reply::json(&serde_json::json!([])).with("Link", &link);
            }
        });
        bench.hub.log();
        says(&mut bench.command(&["pull", "org/model"]), &["cannot download org/model", problem]);
        assert!(bench.hub.log().len() <= 4);
    }
}

/// Ever new pages, an answer without end, files listed twice, and another commit than the one that was asked for.
#[test]
fn attack_12_a_hub_that_answers_without_end_or_with_something_else() {
    let bench = Bench::new();
    let endpoint = bench.hub.endpoint();
    let mut pages = 0;
    bench.hub.tampers(move |request, reply| {
        if request.target.contains("/tree/") {
            pages += 1;
            let link = format!("<{endpoint}/api/models/org/model/tree/x?cursor={pages}>; rel=\"next\"");
            *reply = Reply::json(&serde_json::json!([])).with("Link", &link);
        }
    });
    says(&mut bench.command(&["pull", "org/model"]), &["its list of files has more than 1000 pages"]);
    bench.hub.tampers(|_, reply| reply.body = vec![b' '; 20 << 20]);
    says(&mut bench.command(&["pull", "org/model"]), &["its answer is longer than 16777216 bytes"]);
    bench.hub.tampers(|request, reply| {
        if request.target.contains("/tree/") {
            let mut entries: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let again = entries[0].clone();
            entries.as_array_mut().unwrap().push(again);
            *reply = Reply::json(&entries);
        }
    });
    says(&mut bench.command(&["pull", "org/model"]), &["its list of files has", "twice"]);
    bench.hub.tampers(|request, reply| {
        if request.target.contains("/tree/") {
            let mut entries: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            for entry in entries.as_array_mut().unwrap() {
                entry["size"] = u64::MAX.into();
            }
            *reply = Reply::json(&entries);
        }
    });
    says(&mut bench.command(&["pull", "org/model"]), &["too large for what it is"]);
    bench.hub.tampers(|_, _| {});
    let other = format!("org/model@{}", "a".repeat(40));
    bench.hub.tampers(move |request, reply| {
        if request.target.contains("/revision/") {
            *reply = Reply::json(&serde_json::json!({ "sha": "b".repeat(40) }));
        }
    });
    says(&mut bench.command(&["pull", &other]), &["where another was asked for"]);
    bench.hub.tampers(|request, reply| {
        let location = format!("{}x", request.target);
        *reply = Reply::status(302).with("Location", &location);
    });
    says(&mut bench.command(&["pull", "org/model"]), &["more than 8 redirects"]);
    bench.hub.tampers(|request, reply| *reply = Reply::status(302).with("Location", &request.target));
    says(&mut bench.command(&["pull", "org/model"]), &["a redirect to itself"]);
}

/// FAULTS A13 and A14: the token in an error was printed, and so were control characters.
#[test]
fn attack_13_a_hub_that_echoes_the_token() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bench = Bench::new();
    let percent: String = TOKEN.bytes().map(|b| format!("%{b:02X}")).collect();
    let basic = STANDARD.encode(format!("user:{TOKEN}"));
    for echo in [TOKEN.to_owned(), format!("Bearer {TOKEN}"), percent.clone(), basic.clone(), TOKEN.to_lowercase()] {
        for in_header in [true, false] {
            let said = echo.clone();
            bench.hub.tampers(move |_, reply| {
                let message = format!("no {said} \u{1b}[31m here");
                *reply = Reply::status(403);
                if in_header {
                    *reply = Reply::status(403)
                        .with("X-Error-Message", &message.replace('\u{1b}', ""))
                        .with("X-Error-Code", &said);
                } else {
                    reply.body = serde_json::json!({ "error": message }).to_string().into_bytes();
                }
            });
            let output = bench.command(&["pull", "org/model"]).env("HF_TOKEN", TOKEN).output().unwrap();
            let printed = stderr(&output);
            assert!(printed.contains("no ") && printed.contains("[token]"), "{printed}");
            for secret in [&echo, TOKEN, &percent, &basic[8..20]] {
                assert!(!printed.contains(secret), "{secret} in {printed}");
            }
            assert!(!printed.contains('\u{1b}'), "{printed:?}");
        }
    }
}

/// FAULTS A14: such a token was dropped without a word. Public models need none.
#[test]
fn attack_14_a_token_that_cannot_be_sent() {
    let bench = Bench::new();
    for (token, found) in [("hf_a\r\nX: y", "a line break"), ("hf_a b", "a space")] {
        let note = format!("the token in HF_TOKEN is ignored: it contains {found}");
        let output = bench.command(&["pull", "org/model"]).env("HF_TOKEN", token).output().unwrap();
        assert!(output.status.success() && stderr(&output).contains(&note), "{}", stderr(&output));
        assert!(bench.hub.log().iter().all(|l| l.authorization.is_none()));
    }
    fs::create_dir_all(bench.home()).unwrap();
    fs::write(bench.home().join("token"), "hf_a\nhf_b\n").unwrap();
    let printed = stderr(&bench.run(&["pull", "org/model"]));
    assert!(printed.contains("home/token is ignored: it contains a line break"), "{printed}");
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
