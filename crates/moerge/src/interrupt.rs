//! Ctrl-C: the first one asks the run to stop at the next safe place, the second one stops it at once.
//!
//! Neither damages anything: the output folder appears only when it is complete.

use std::{
    process,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// Whether the process is waiting for its user, so that nothing has to be finished first.
static WAITING: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that Ctrl-C ended: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Handles Ctrl-C, and SIGTERM and SIGHUP where they exist, from now on.
pub fn install() {
    // Without a handler Ctrl-C ends the process at once, which is safe too.
    let _ = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 || WAITING.load(Ordering::Relaxed) {
            process::exit(INTERRUPTED.into());
        }
    });
    survive_file_size_limits();
}

/// With a handler for SIGXFSZ, a file that exceeds `ulimit -f` makes the write fail instead of killing the process.
fn survive_file_size_limits() {
    #[cfg(unix)]
    {
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen);
    }
}

/// Runs `read`, which waits for the user; meanwhile the first Ctrl-C ends the process.
pub fn while_waiting<T>(read: impl FnOnce() -> T) -> T {
    WAITING.store(true, Ordering::Relaxed);
    let read = read();
    WAITING.store(false, Ordering::Relaxed);
    read
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// Forgets a Ctrl-C that was meant for one answer of a conversation.
pub fn forget() {
    SIGNALS.store(0, Ordering::Relaxed);
}
