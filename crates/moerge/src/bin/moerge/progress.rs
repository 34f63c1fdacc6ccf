//! What a user sees of a running job: bars on a terminal, lines elsewhere, events for scripts, or nothing.

use std::{
    io::IsTerminal,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use moerge::progress::{Progress, Stage, Unit};
use serde_json::{Value, json};

use crate::{
    diagnostics, interrupt,
    terminal::{DIM, LABEL, bytes, bytes_of, duration, harmless, styled, whole_seconds},
};

mod bars;
use bars::Bars;

/// Listens to a run for the user.
pub struct Reporter {
    look: Look,
    verbose: bool,
    stages: Mutex<Vec<Running>>,
}

enum Look {
    Bars(Bars),
    Lines,
    Events,
    Nothing,
}

/// Where a stage is.
#[derive(Clone)]
struct Running {
    stage: Stage,
    total: u64,
    /// Of `done`, what was there already when this run began.
    earlier: u64,
    done: u64,
    bytes_read: u64,
    since: Instant,
    told: Instant,
    /// Two moments of the last seconds, and what was done by then: the pace is counted from the older one.
    marks: [(Instant, u64); 2],
}

/// Least time between two lines of the same stage; it grows with the time that the stage takes.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two events of the same stage.
const EVENT_EVERY: Duration = Duration::from_millis(250);
/// Time between two marks.
const MARK_EVERY: Duration = Duration::from_secs(5);

impl Reporter {
    /// A listener that prints events on stdout (`json`), nothing (`quiet`), bars, or lines where stderr is no terminal.
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        let look = match (json, quiet) {
            (true, _) => Look::Events,
            (_, true) => Look::Nothing,
            _ if std::io::stderr().is_terminal() => Look::Bars(Bars::new()),
            _ => Look::Lines,
        };
        Self { look, verbose, stages: Mutex::new(Vec::new()) }
    }

    /// A warning of the run: shown even when quiet.
    pub fn warning(&self, message: &str) {
        match &self.look {
            Look::Events => event(json!({ "event": "warning", "message": message })),
            Look::Bars(bars) => bars.print(&diagnostics::warning_line(message)),
            _ => diagnostics::warning(message),
        }
    }

    /// The outcome, for scripts: only where events are printed.
    pub fn result(&self, result: Value) {
        if let (Look::Events, Value::Object(mut fields)) = (&self.look, result) {
            fields.shift_insert(0, "event".into(), "result".into());
            event(Value::Object(fields));
        }
    }

    /// The error that ended the run, for scripts: only where events are printed.
    pub fn failed(&self, error: &moerge::Error) {
        if let Look::Events = &self.look {
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
        if let Look::Bars(bars) = &self.look {
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
        if running.marks[1].0.elapsed() >= MARK_EVERY {
            running.marks = [running.marks[1], (Instant::now(), running.done)];
        }
        match &self.look {
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
        let now = Instant::now();
        let marks = [(now, done); 2];
        let running = Running { stage, total, earlier: done, done, bytes_read: 0, since: now, told: now, marks };
        let mut stages = self.stages();
        stages.retain(|r| r.stage != stage);
        match &self.look {
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
        match &self.look {
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
    }

    fn note(&self, message: &str) {
        match &self.look {
            Look::Bars(bars) => bars.print(&harmless(message)),
            Look::Lines => anstream::eprintln!("{}", harmless(message)),
            Look::Events => event(json!({ "event": "note", "message": message })),
            Look::Nothing => {}
        }
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            match &self.look {
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

impl Running {
    /// `27.9/48.3 GB` or `12/32 layers`.
    fn counted(&self) -> String {
        match self.stage.unit() {
            Unit::Layers | Unit::Tensors => format!("{}/{} {}", self.done, self.total, unit_name(self.stage)),
            Unit::Bytes => bytes_of(self.done, self.total),
        }
    }

    /// Counted things a second, over the last seconds.
    fn pace(&self) -> Option<f64> {
        let (when, done) = self.marks[0];
        let seconds = when.elapsed().as_secs_f64();
        (seconds > 0.5 && self.done > done).then(|| (self.done - done) as f64 / seconds)
    }

    /// Time to the end at that pace.
    fn left(&self) -> Option<Duration> {
        let seconds = self.total.saturating_sub(self.done) as f64 / self.pace()?;
        Duration::try_from_secs_f64(seconds.ceil().max(1.0)).ok()
    }

    /// The stage in numbers, while it runs.
    fn line(&self) -> String {
        let moved = match self.stage.unit() {
            Unit::Bytes => self.pace().map(|p| format!("{}/s", bytes(p as u64))),
            _ if self.bytes_read > 0 => Some(format!("{} read", bytes(self.bytes_read))),
            _ => None,
        };
        let left = self.left().map(|d| format!("{} left", whole_seconds(d)));
        columns(&[self.counted(), moved.unwrap_or_default(), left.unwrap_or_default()])
    }

    /// The stage in numbers, when it is over.
    fn finished(&self, summary: &str) -> String {
        let mut parts = match self.stage.unit() {
            Unit::Layers => vec![format!("{} layers", self.total)],
            Unit::Bytes => vec![bytes(self.total)],
            // The summary counts them.
            Unit::Tensors => Vec::new(),
        };
        if self.bytes_read > 0 {
            parts.push(format!("{} read", bytes(self.bytes_read)));
        }
        let seconds = self.since.elapsed().as_secs_f64();
        let written = self.done.saturating_sub(self.earlier);
        if self.stage.unit() == Unit::Bytes && seconds > 0.2 {
            parts.push(format!("{}/s", bytes((written as f64 / seconds) as u64)));
        }
        if seconds >= 0.05 {
            parts.push(duration(self.since.elapsed()));
        }
        parts.push(summary.to_owned());
        columns(&parts)
    }
}

/// Columns wide enough for what usually stands in them.
fn columns(parts: &[String]) -> String {
    let line = parts.iter().fold(String::new(), |line, part| format!("{line}{part:<12}  "));
    line.trim_end().to_owned()
}

/// What the stage counts, in words.
fn unit_name(stage: Stage) -> &'static str {
    match stage.unit() {
        Unit::Layers => "layers",
        Unit::Tensors => "tensors",
        Unit::Bytes => "bytes",
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
