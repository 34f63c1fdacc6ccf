//! What a user sees of a running job: bars on a terminal, lines elsewhere, events for scripts, or nothing.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use moerge_core::progress::{Progress, Stage, Unit};
use moerge_hub::Notes;
use serde_json::{Value, json};

use crate::{
    diagnostics, interrupt,
    numbers::{bytes_of, duration},
    terminal::{DIM, LABEL, harmless, styled},
};

mod bars;
mod running;

use bars::Bars;
use running::{Running, unit_name};

/// Listens to a run for the user.
pub struct Reporter {
    look: Arc<Look>,
    verbose: bool,
    stages: Mutex<Vec<Running>>,
}

enum Look {
    Bars(Bars),
    Lines,
    Events,
    Nothing,
}

impl Look {
    fn note(&self, message: &str) {
        match self {
            Self::Bars(bars) => bars.print(&harmless(message)),
            Self::Lines => anstream::eprintln!("{}", harmless(message)),
            Self::Events => event(json!({ "event": "note", "message": message })),
            Self::Nothing => {}
        }
    }
}

/// Least time between two lines of the same stage; it grows with the time that the stage takes.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two events of the same stage.
const EVENT_EVERY: Duration = Duration::from_millis(250);

impl Reporter {
    /// A listener that prints events on stdout (`json`), nothing (`quiet`), bars, or lines where stderr is no terminal.
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        let look = match (json, quiet) {
            (true, _) => Look::Events,
            (_, true) => Look::Nothing,
            _ if std::io::stderr().is_terminal() => Look::Bars(Bars::new()),
            _ => Look::Lines,
        };
        Self { look: Arc::new(look), verbose, stages: Mutex::new(Vec::new()) }
    }

    /// What notes are given to by those who outlive this.
    pub fn notes(&self) -> Notes {
        let look = self.look.clone();
        Arc::new(move |message| look.note(message))
    }

    /// A warning of the run: shown even when quiet.
    pub fn warning(&self, message: &str) {
        match &*self.look {
            Look::Events => event(json!({ "event": "warning", "message": message })),
            Look::Bars(bars) => bars.print(&diagnostics::warning_line(message)),
            _ => diagnostics::warning(message),
        }
    }

    /// The outcome, for scripts: only where events are printed.
    pub fn result(&self, result: Value) {
        if let (Look::Events, Value::Object(mut fields)) = (&*self.look, result) {
            fields.shift_insert(0, "event".into(), "result".into());
            event(Value::Object(fields));
        }
    }

    /// The error that ended the run, for scripts: only where events are printed.
    pub fn failed(&self, error: &moerge_core::Error) {
        if let Look::Events = &*self.look {
            let parts = error.parts();
            let facts: serde_json::Map<String, Value> =
                parts.facts.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            let kind = format!("{:?}", parts.kind).to_lowercase();
            event(json!({
                "event": "error", "kind": kind, "message": parts.message, "facts": facts, "hints": parts.hints,
            }));
        }
    }

    /// Takes the bars off the screen as they are; lines may follow.
    pub fn close(&self) {
        if let Look::Bars(bars) = &*self.look {
            bars.abandon();
        }
    }

    fn stages(&self) -> MutexGuard<'_, Vec<Running>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a running stage and tells about it where it is time to.
    fn update(&self, stage: Stage, change: impl FnOnce(&mut Running)) {
        let mut stages = self.stages();
        let Some(running) = stages.iter_mut().find(|r| r.stage == stage) else { return };
        change(running);
        running.mark();
        match &*self.look {
            Look::Bars(bars) => bars.update(running),
            Look::Lines if running.told.elapsed() >= LINE_EVERY.max(running.since.elapsed() / 20) => {
                running.told = Instant::now();
                anstream::eprintln!("{}{}", title(stage), running.line());
            }
            Look::Events if running.told.elapsed() >= EVENT_EVERY => {
                running.told = Instant::now();
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
            self.note(&format!("resuming: {} are there", bytes_of(done, total)));
        }
        let running = Running::new(stage, total, done);
        let mut stages = self.stages();
        stages.retain(|r| r.stage != stage);
        match &*self.look {
            Look::Bars(bars) => bars.start(&running),
            Look::Events => {
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
        match &*self.look {
            Look::Bars(bars) if summary.is_empty() => bars.clear(stage),
            Look::Bars(bars) => bars.finish(stage, &running.finished(&summary)),
            Look::Lines if summary.is_empty() => {}
            Look::Lines => anstream::eprintln!("{}{}", title(stage), running.finished(&summary)),
            Look::Events => event(json!({
                "event": "finish", "stage": stage.name(), "done": running.done, "summary": summary,
                "seconds": running.since.elapsed().as_secs_f64(),
            })),
            Look::Nothing => {}
        }
        if self.verbose && !matches!(&*self.look, Look::Events) {
            self.detail(&format!("{} took {}", stage.name(), duration(running.since.elapsed())));
        }
    }

    fn note(&self, message: &str) {
        self.look.note(message);
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            match &*self.look {
                Look::Bars(bars) => bars.print(&styled(DIM, &harmless(message))),
                Look::Lines => anstream::eprintln!("{}", styled(DIM, &harmless(message))),
                Look::Events => event(json!({ "event": "detail", "message": message })),
                Look::Nothing => {}
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

/// One event, one line. A reader that went away is no reason to stop the work.
fn event(event: Value) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}
