//! The bars on a terminal.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use moerge_core::progress::Stage;

use super::{running::Running, title};
use crate::{interrupt, terminal::styled};

/// A bar for the running stage, the finished ones above as lines.
pub(super) struct Bars {
    screen: MultiProgress,
    bars: Mutex<Vec<Bar>>,
}

struct Bar {
    stage: Stage,
    bar: ProgressBar,
    /// What the bar's numbers are made from at each draw.
    running: Arc<Mutex<Running>>,
}

/// Columns of a bar; fewer where the window is narrow.
const WIDTH: usize = 20;
const NARROW: usize = 8;
const ENOUGH_COLUMNS: u16 = 76;
/// The colour of a bar.
const FULL: Style = AnsiColor::Cyan.on_default();

impl Bars {
    pub fn new() -> Self {
        Self { screen: MultiProgress::new(), bars: Mutex::default() }
    }

    pub fn start(&self, running: &Running) {
        let shared = Arc::new(Mutex::new(running.clone()));
        let bar = self.screen.add(ProgressBar::new(running.total.max(1)).with_position(running.done));
        let numbers = shared.clone();
        bar.set_style(style(running.stage, "{numbers}").with_key(
            "numbers",
            move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&lock(&numbers).line());
            },
        ));
        // Time left goes on counting while nothing arrives.
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut bars = lock(&self.bars);
        bars.push(Bar { stage: running.stage, bar, running: shared });
    }

    pub fn update(&self, running: &Running) {
        if let Some(bar) = lock(&self.bars).iter().find(|bar| bar.stage == running.stage) {
            *lock(&bar.running) = running.clone();
            bar.bar.set_position(running.done);
        }
    }

    /// Puts a full bar above the running ones, as a line like any other.
    pub fn finish(&self, stage: Stage, text: &str) {
        self.clear(stage);
        self.print(&format!("{}{} {text}", title(stage), styled(FULL, &"█".repeat(width()))));
    }

    /// Takes a bar off the screen.
    pub fn clear(&self, stage: Stage) {
        if let Some(bar) = self.take(stage) {
            bar.finish_and_clear();
        }
    }

    fn take(&self, stage: Stage) -> Option<ProgressBar> {
        let mut bars = lock(&self.bars);
        let at = bars.iter().position(|bar| bar.stage == stage)?;
        let bar = bars.swap_remove(at).bar;
        bar.disable_steady_tick();
        Some(bar)
    }

    /// Leaves unfinished bars as they are. After Ctrl-C they are taken away: its `^C` on the screen has moved the cursor
    /// by a line, so the last drawing is below an older one.
    pub fn abandon(&self) {
        for Bar { bar, .. } in lock(&self.bars).drain(..) {
            bar.disable_steady_tick();
            if interrupt::requested() {
                bar.finish_and_clear();
            } else {
                bar.abandon();
            }
        }
    }

    /// A line above the bars.
    pub fn print(&self, line: &str) {
        self.screen.suspend(|| anstream::eprintln!("{line}"));
    }
}

fn style(stage: Stage, text: &str) -> ProgressStyle {
    let template = format!("{}{{bar:{}.cyan}} {text}", title(stage), width());
    // The template is ours and well-formed; a bar of another style is no reason to fail.
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ ")
}

/// Columns of a bar in this window.
fn width() -> usize {
    let columns = terminal_size::terminal_size().map_or(80, |(width, _)| width.0);
    if columns < ENOUGH_COLUMNS { NARROW } else { WIDTH }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
