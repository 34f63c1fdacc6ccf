//! Ctrl-C, as a shell sees it: the exit code is 130.
#![cfg(unix)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::common::{command, write_family};

/// Sends SIGINT to `child` after a while, and waits for its end.
fn interrupt(child: Child, times: usize) -> Output {
    for _ in 0..times {
        std::thread::sleep(Duration::from_millis(1500));
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    }
    child.wait_with_output().unwrap()
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A command that waits for a Hub which accepts connections and never answers.
fn waiting_for_a_hub(dir: &Path, hub: &TcpListener, args: &[&str]) -> Child {
    let mut command = command(dir, args);
    command.env("HF_ENDPOINT", format!("http://{}", hub.local_addr().unwrap())).env_remove("HF_HUB_OFFLINE");
    start(command)
}

#[test]
fn fault_rough_edges_an_interrupted_run_exits_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TcpListener::bind("127.0.0.1:0").unwrap();
    let recipe = "base_model: org/a\nexperts:\n- source_model: org/a\n- source_model: org/b\n";
    std::fs::write(dir.path().join("moe.yml"), recipe).unwrap();
    for args in [&["merge", "moe.yml", "out"][..], &["pull", "org/a"], &["plan", "moe.yml"], &["chat", "org/a"]] {
        let output = interrupt(waiting_for_a_hub(dir.path(), &hub, args), 1);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{args:?}: {stderr}");
        assert!(stderr.contains("stopped"), "{args:?}: {stderr}");
    }
}

/// Waiting for a prompt is not work that has to be finished: the first Ctrl-C is enough.
#[test]
fn fault_rough_edges_one_ctrl_c_ends_reading_from_stdin() {
    let dir = tempfile::tempdir().unwrap();
    write_family(dir.path(), "random");
    for args in [["generate", "base"], ["chat", "base"]] {
        let started = Instant::now();
        let mut child = start(command(dir.path(), &args));
        let stdin = child.stdin.take();
        let output = interrupt(child, 1);
        drop(stdin);
        assert_eq!(output.status.code(), Some(130), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
