//! Ctrl-C: the first asks the run to stop at the next safe place, the second stops it at once.
//!
//! Either way nothing is broken: the output folder appears only when it is complete.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
};

static SIGNALS: AtomicU32 = AtomicU32::new(0);

/// What shells expect of a program that Ctrl-C ended.
const KILLED_BY_CTRL_C: i32 = 130;

/// Catches Ctrl-C, and SIGTERM and SIGHUP where they exist, from now on.
pub fn install() {
    // Without a handler Ctrl-C ends the process at once, which is safe too.
    let _ = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
            process::exit(KILLED_BY_CTRL_C);
        }
    });
    survive_file_size_limits();
}

/// A file that outgrows `ulimit -f` would kill the process; with a handler the write fails instead, and is reported.
fn survive_file_size_limits() {
    #[cfg(unix)]
    {
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen);
    }
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// Takes the wish back: it was about one answer of a conversation, and that has ended.
pub fn forget() {
    SIGNALS.store(0, Ordering::Relaxed);
}
