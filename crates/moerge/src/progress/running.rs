//! The state of a stage, and the numbers shown for it.

use std::time::{Duration, Instant};

use moerge_core::progress::{Stage, Unit};

use crate::numbers::{bytes, bytes_of, duration, whole_seconds};

/// Time between two marks.
const MARK_EVERY: Duration = Duration::from_secs(5);

/// The state of a stage.
#[derive(Clone)]
pub(super) struct Running {
    pub stage: Stage,
    pub total: u64,
    /// The part of `done` that an earlier run did.
    earlier: u64,
    pub done: u64,
    pub bytes_read: u64,
    pub since: Instant,
    pub shown: Instant,
    /// Two recent moments, and `done` at each. The pace is measured from the older one.
    marks: [(Instant, u64); 2],
}

impl Running {
    /// A stage that starts now.
    pub fn new(stage: Stage, total: u64, done: u64) -> Self {
        let now = Instant::now();
        let marks = [(now, done); 2];
        Self { stage, total, earlier: done, done, bytes_read: 0, since: now, shown: now, marks }
    }

    /// Remembers this moment for the pace, if the last one is long enough ago.
    pub fn mark(&mut self) {
        if self.marks[1].0.elapsed() >= MARK_EVERY {
            self.marks = [self.marks[1], (Instant::now(), self.done)];
        }
    }

    /// `27.9/48.3 GB` or `12/32 layers`.
    fn counted(&self) -> String {
        match self.stage.unit() {
            Unit::Layers | Unit::Tensors | Unit::Tokens => {
                format!("{}/{} {}", self.done, self.total, unit_name(self.stage))
            }
            Unit::Bytes => bytes_of(self.done, self.total),
        }
    }

    /// Units per second, over the last seconds.
    fn pace(&self) -> Option<f64> {
        let (when, done) = self.marks[0];
        let seconds = when.elapsed().as_secs_f64();
        (seconds > 0.5 && self.done > done).then(|| (self.done - done) as f64 / seconds)
    }

    /// Time left at that pace.
    fn left(&self) -> Option<Duration> {
        let seconds = self.total.saturating_sub(self.done) as f64 / self.pace()?;
        Duration::try_from_secs_f64(seconds.ceil().max(1.0)).ok()
    }

    /// The numbers of a running stage.
    pub fn line(&self) -> String {
        let moved = match self.stage.unit() {
            Unit::Bytes => self.pace().map(|p| format!("{}/s", bytes(p as u64))),
            Unit::Tokens => self.pace().map(|p| format!("{p:.0} tokens/s")),
            _ if self.bytes_read > 0 => Some(format!("{} read", bytes(self.bytes_read))),
            _ => None,
        };
        let left = self.left().map(|d| format!("{} left", whole_seconds(d)));
        columns(&[self.counted(), moved.unwrap_or_default(), left.unwrap_or_default()])
    }

    /// The numbers of a finished stage.
    pub fn finished(&self, summary: &str) -> String {
        let mut parts = match self.stage.unit() {
            Unit::Layers => vec![format!("{} layers", self.total)],
            Unit::Bytes => vec![bytes(self.total)],
            // The summary counts them.
            Unit::Tensors | Unit::Tokens => Vec::new(),
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

/// Columns wide enough for their usual contents.
fn columns(parts: &[String]) -> String {
    let line = parts.iter().fold(String::new(), |line, part| format!("{line}{part:<12}  "));
    line.trim_end().to_owned()
}

/// The unit that the stage counts.
pub fn unit_name(stage: Stage) -> &'static str {
    match stage.unit() {
        Unit::Layers => "layers",
        Unit::Tensors => "tensors",
        Unit::Tokens => "tokens",
        Unit::Bytes => "bytes",
    }
}
