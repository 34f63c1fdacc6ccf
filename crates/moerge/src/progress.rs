//! How a running job is shown: bars on a terminal, lines elsewhere, JSON events for scripts, or nothing.

use std::{
    io::{self, IsTerminal, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use moerge_core::progress::{Progress, Stage, Unit};
use moerge_hub::Notes;
use serde_json::{Value, json};

use crate::{
    console, diagnostics, interrupt,
    numbers::{bytes_of, duration},
    terminal::{DIM, LABEL, harmless, styled},
};

mod bars;
mod running;

use bars::Bars;
use running::{Running, unit_name};

/// Shows the user what a run reports.
pub struct Reporter {
    format: Arc<Format>,
    verbose: bool,
    stages: Mutex<Vec<Running>>,
}

/// How progress is shown.
enum Format {
    Bars(Bars),
    Lines,
    Events,
    Nothing,
}

impl Format {
    fn note(&self, message: &str) {
        match self {
            Self::Bars(bars) => bars.print(&diagnostics::note_line(message)),
            Self::Lines => console::status(&diagnostics::note_line(message)),
            Self::Events => event(json!({ "event": "note", "message": message })),
            Self::Nothing => {}
        }
    }
}

/// Minimum time between two lines of the same stage. It grows with the time that the stage takes.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Minimum time between two events of the same stage.
const EVENT_EVERY: Duration = Duration::from_millis(250);

impl Reporter {
    /// Prints events to stdout (`json`), nothing (`quiet`), bars if stderr is a terminal, and otherwise lines.
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        let format = match (json, quiet) {
            (true, _) => Format::Events,
            (_, true) => Format::Nothing,
            _ if io::stderr().is_terminal() => Format::Bars(Bars::new()),
            _ => Format::Lines,
        };
        Self { format: Arc::new(format), verbose, stages: Mutex::new(Vec::new()) }
    }

    /// A function that shows notes, for code that may outlive this.
    pub fn notes(&self) -> Notes {
        let format = self.format.clone();
        Arc::new(move |message| format.note(message))
    }

    /// A warning, shown even when quiet.
    pub fn warning(&self, message: &str) {
        match &*self.format {
            Format::Events => event(json!({ "event": "warning", "message": message })),
            Format::Bars(bars) => bars.print(&diagnostics::warning_line(message)),
            _ => diagnostics::warning(message),
        }
    }

    /// The result as an event, if events are printed. Unlike progress, it has to arrive.
    pub fn result(&self, result: Value) -> io::Result<()> {
        if let (Format::Events, Value::Object(mut fields)) = (&*self.format, result) {
            fields.shift_insert(0, "event".into(), "result".into());
            let mut out = console::results();
            writeln!(out, "{}", Value::Object(fields))?;
            out.flush()?;
        }
        Ok(())
    }

    /// The errors that ended the run as events, if events are printed.
    pub fn failed(&self, error: &moerge_core::Error) {
        if let Format::Events = &*self.format {
            print_errors(error);
        }
    }

    /// Removes unfinished bars, so that other lines can follow.
    pub fn close(&self) {
        if let Format::Bars(bars) = &*self.format {
            bars.abandon();
        }
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Running>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a running stage, and shows it if the last time was long enough ago.
    fn update(&self, stage: Stage, change: impl FnOnce(&mut Running)) {
        let mut stages = self.stages();
        let Some(running) = stages.iter_mut().find(|r| r.stage == stage) else { return };
        change(running);
        running.mark();
        match &*self.format {
            Format::Bars(bars) => bars.update(running),
            Format::Lines if running.shown.elapsed() >= LINE_EVERY.max(running.since.elapsed() / 20) => {
                running.shown = Instant::now();
                console::status(&format!("{}{}", title(stage), running.line()));
            }
            Format::Events if running.shown.elapsed() >= EVENT_EVERY => {
                running.shown = Instant::now();
                event(json!({
                    "event": "advance", "stage": stage.name(), "done": running.done, "total": running.total,
                }));
            }
            _ => {}
        }
    }
}

impl Progress for Reporter {
    fn start(&self, stage: Stage, total: u64, done: u64) {
        if done > 0 && stage.unit() == Unit::Bytes {
            self.note(&format!("resuming: {} are already written", bytes_of(done, total)));
        }
        let running = Running::new(stage, total, done);
        let mut stages = self.stages();
        stages.retain(|r| r.stage != stage);
        match &*self.format {
            Format::Bars(bars) => bars.start(&running),
            Format::Events => {
                event(json!({
                    "event": "start", "stage": stage.name(), "total": total, "done": done,
                    "unit": unit_name(stage),
                }));
            }
            _ => {}
        }
        stages.push(running);
    }

    fn advance(&self, stage: Stage, amount: u64) {
        self.update(stage, |running| running.done += amount);
    }

    fn bytes_read(&self, stage: Stage, bytes: u64) {
        self.update(stage, |running| running.bytes_read += bytes);
    }

    fn finish(&self, stage: Stage, summary: &str) {
        let mut stages = self.stages();
        let Some(at) = stages.iter().position(|r| r.stage == stage) else { return };
        let running = stages.swap_remove(at);
        let summary = harmless(summary);
        match &*self.format {
            Format::Bars(bars) if summary.is_empty() => bars.clear(stage),
            Format::Bars(bars) => bars.finish(stage, &running.finished(&summary)),
            Format::Lines if summary.is_empty() => {}
            Format::Lines => console::status(&format!("{}{}", title(stage), running.finished(&summary))),
            Format::Events => event(json!({
                "event": "finish", "stage": stage.name(), "done": running.done, "summary": summary,
                "seconds": running.since.elapsed().as_secs_f64(),
            })),
            Format::Nothing => {}
        }
        if self.verbose && !matches!(&*self.format, Format::Events) {
            self.detail(&format!("{} took {}", stage.name(), duration(running.since.elapsed())));
        }
    }

    fn note(&self, message: &str) {
        self.format.note(message);
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            match &*self.format {
                Format::Bars(bars) => bars.print(&styled(DIM, &harmless(message))),
                Format::Lines => console::status(&styled(DIM, &harmless(message))),
                Format::Events => event(json!({ "event": "detail", "message": message })),
                Format::Nothing => {}
            }
        }
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

/// The stage's name in a column of its own.
fn title(stage: Stage) -> String {
    styled(LABEL, &format!("{:<9} ", stage.name()))
}

/// Prints an error, and those found in the same run, as events.
pub fn print_errors(error: &moerge_core::Error) {
    std::iter::once(error).chain(&error.parts().further).for_each(|error| event(diagnostics::as_event(error)));
}

/// Prints one event as a line. Ignores errors: a closed output must not stop the work.
fn event(event: Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}
