//! stdout or stderr that cannot be written to. Progress that nobody can read never ends the work; a result that does not
//! arrive is a failure, but never a panic.
#![cfg(target_os = "linux")]

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::{
    common::{command, example, write_family},
    hub_bench::Bench,
};

/// A device that is always full.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run(mut command: Command, stdin: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// The commands that need no network, over a family of models in which `out` exists.
const COMMANDS: &[&[&str]] = &[
    &["plan", "moe.yml"],
    &["verify", "out"],
    &["inspect", "out"],
    &["inspect", "base", "--json"],
    &["eval", "base", "out", "--text", "text.txt"],
    &["route", "out", "--text", "text.txt"],
    &["generate", "out", "-p", "a", "-n", "3", "--temperature", "0"],
    &["chat", "out", "-n", "3", "--temperature", "0"],
    &["completions", "bash"],
    &["man"],
    &["--help"],
    &["--version"],
];

fn family() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_family(dir.path(), "hidden");
    std::fs::write(dir.path().join("text.txt"), "once upon a time there was a quiet day\n").unwrap();
    let merged = command(dir.path(), &["merge", "moe.yml", "out"]).output().unwrap();
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    dir
}

/// Runs a command with an unusable stderr, and wants the same as with a usable one.
fn check_stderr(dir: &Path, args: &[&str]) {
    let expected = run_with(dir, args, Stdio::piped(), Stdio::piped());
    for stderr in [full(), closed_pipe()] {
        let output = run_with(dir, args, Stdio::piped(), stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        // Times differ.
        assert_eq!(output.stdout.is_empty(), expected.stdout.is_empty(), "{args:?}");
    }
}

fn run_with(dir: &Path, args: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = command(dir, args);
    command.stdout(stdout).stderr(stderr);
    run(command, "hello\n")
}

fn check_stdout(output: &Output, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
}

#[test]
fn attack_02_a_full_stderr_ends_no_command() {
    let dir = family();
    for args in COMMANDS {
        check_stderr(dir.path(), args);
    }
}

#[test]
fn attack_02_a_full_stdout_is_a_failure_of_every_command() {
    let dir = family();
    for args in COMMANDS {
        let output = run_with(dir.path(), args, full(), Stdio::piped());
        check_stdout(&output, &format!("{args:?}"));
        if !args[0].starts_with('-') {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("cannot write to stdout"), "{args:?}: {stderr}");
        }
        let both = run_with(dir.path(), args, full(), full());
        assert_eq!(both.status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn attack_02_a_merge_survives_full_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = example("tiny/moe.yml");
    let recipe = recipe.to_str().unwrap();
    for (n, flags) in [&[][..], &["--json"], &["-v"], &["--lazy-unpickle"]].iter().enumerate() {
        let out = format!("stderr{n}");
        let args = [&["merge", recipe, &out], *flags].concat();
        let output = run_with(dir.path(), &args, Stdio::piped(), full());
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(dir.path().join(&out).join("config.json").exists());

        let out = format!("stdout{n}");
        let args = [&["merge", recipe, &out], *flags].concat();
        check_stdout(&run_with(dir.path(), &args, full(), Stdio::piped()), &format!("{args:?}"));
        // The work is done all the same.
        assert!(dir.path().join(&out).join("config.json").exists());
    }
}

#[test]
fn errors_and_warnings_keep_their_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code) in [(&["plan", "none.yml"][..], 1), (&["verify", "none"], 1), (&["merge"], 2), (&["--none"], 2)] {
        for stderr in [full(), closed_pipe()] {
            assert_eq!(run_with(dir.path(), args, Stdio::piped(), stderr).status.code(), Some(code), "{args:?}");
        }
    }
}

#[test]
fn attack_02_a_pull_survives_full_outputs() {
    let bench = Bench::new();
    let with = |stdout: Stdio, stderr: Stdio, args: &[&str]| {
        let mut command = bench.command(args);
        command.stdout(stdout).stderr(stderr);
        run(command, "")
    };
    assert_eq!(with(Stdio::piped(), full(), &["pull", "org/model"]).status.code(), Some(0));
    bench.is_whole();
    check_stdout(&with(full(), Stdio::piped(), &["pull", "org/model"]), "pull");
    check_stdout(&with(full(), Stdio::piped(), &["pull", "--json", "org/model"]), "pull --json");
}
