//! Runs a command within limits of time and memory, and says what is wrong with how it ended.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Time for one command on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Peak of resident memory; golden models take a tenth of it.
const MAX_RESIDENT: u64 = 500 << 20;
/// Address space, which catches an allocation that is never touched.
const MAX_ADDRESS_SPACE: u64 = 6 << 30;

/// The command under test; another build's, to see what these tests find in it, by `MUTATE_BINARY`.
fn binary() -> String {
    std::env::var("MUTATE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_moerge").to_owned())
}

/// What is wrong with how a command ended.
pub fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let stderr = root.join("stderr");
    let mut child = Command::new("prlimit")
        .args([&format!("--as={MAX_ADDRESS_SPACE}"), "--core=0", &binary()])
        .args(arguments)
        .current_dir(root)
        .env("NO_COLOR", "1")
        .env("HF_HOME", root.join("no-cache"))
        .env("HF_HUB_OFFLINE", "1")
        .stdin(fs::File::open(root.join("stdin")).unwrap())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child)?;
    let printed = String::from_utf8_lossy(&fs::read(&stderr).unwrap()).into_owned();
    let shown = || printed.chars().take(600).collect::<String>();
    match status.code() {
        _ if status.signal().is_some() => Err(format!("was killed by signal {:?}\n{}", status.signal(), shown())),
        Some(0..=2) if printed.contains("panicked at") => Err(format!("panicked in a thread\n{}", shown())),
        Some(0..=2) if printed.contains('\u{1b}') => Err(format!("printed an escape character\n{}", shown())),
        Some(0..=2) => Ok(()),
        code => Err(format!("exited with {code:?}\n{}", shown())),
    }
}

fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        let problem = if peak.is_some_and(|kib: u64| kib * 1024 > MAX_RESIDENT) {
            format!("took {} MiB", peak.unwrap_or(0) >> 10)
        } else if begin.elapsed() > MAX_TIME {
            format!("ran for more than {} s", MAX_TIME.as_secs())
        } else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = child.kill();
        let _ = child.wait();
        return Err(problem);
    }
}
