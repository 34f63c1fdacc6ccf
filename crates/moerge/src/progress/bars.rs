//! Progress bars on a terminal.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use moerge_core::progress::Stage;

use super::{running::Running, title};
use crate::{console, interrupt, terminal::styled};

/// A bar for each running stage; finished ones are lines above.
pub(super) struct Bars {
    screen: MultiProgress,
    bars: Mutex<Vec<Bar>>,
}

struct Bar {
    stage: Stage,
    bar: ProgressBar,
    /// The numbers, which every draw reads.
    running: Arc<Mutex<Running>>,
}

/// Columns of a bar.
const WIDTH: usize = 20;
/// Columns of a bar in a terminal with fewer than [`MIN_COLUMNS`].
const NARROW: usize = 8;
const MIN_COLUMNS: u16 = 76;
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
        // The time left counts down even if nothing arrives.
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

    /// Prints a full bar above the running ones.
    pub fn finish(&self, stage: Stage, text: &str) {
        self.clear(stage);
        self.print(&format!("{}{} {text}", title(stage), styled(FULL, &"█".repeat(width()))));
    }

    /// Removes a bar.
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

    /// Leaves unfinished bars as they are. After Ctrl-C they are removed: the `^C` on the screen has moved the cursor by
    /// a line, so an older drawing is above the last one.
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
        self.screen.suspend(|| console::status(line));
    }
}

fn style(stage: Stage, text: &str) -> ProgressStyle {
    let template = format!("{}{{bar:{}.cyan}} {text}", title(stage), width());
    // The template is ours and valid; if it were not, another style would do.
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ ")
}

/// Columns of a bar in this terminal.
fn width() -> usize {
    let columns = terminal_size::terminal_size().map_or(80, |(width, _)| width.0);
    if columns < MIN_COLUMNS { NARROW } else { WIDTH }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
