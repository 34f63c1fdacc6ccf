//! What a rendering may still use: steps, memory, output. Everything that works through data asks here first, so no
//! template can take more, whatever it does; and a run that is to stop stops here.

use std::cell::Cell;

use moerge_core::progress::Progress;

use super::Fault;

/// What a template may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most steps: an expression is one, and so are some bytes of a string that is worked through.
    pub steps: u64,
    /// Most bytes of all values together, those no longer in use included.
    pub memory: usize,
    /// Most bytes of the result.
    pub output: usize,
}

/// Bytes that are worked through in a step.
const BYTES_PER_STEP: usize = 64;
/// Steps between two questions whether to stop.
const STEPS_PER_CHECK: u64 = 1024;

/// Counts down what is left.
pub struct Meter<'p> {
    steps: Cell<u64>,
    check_at: Cell<u64>,
    memory: Cell<usize>,
    output: usize,
    progress: &'p dyn Progress,
}

impl<'p> Meter<'p> {
    pub fn new(limits: Limits, progress: &'p dyn Progress) -> Self {
        let Limits { steps, memory, output } = limits;
        Self { steps: Cell::new(steps), check_at: Cell::new(steps), memory: Cell::new(memory), output, progress }
    }

    /// One step.
    pub fn step(&self) -> Result<(), Fault> {
        self.steps(1)
    }

    /// The steps of working through `bytes`.
    pub fn work(&self, bytes: usize) -> Result<(), Fault> {
        self.steps((bytes / BYTES_PER_STEP) as u64 + 1)
    }

    fn steps(&self, steps: u64) -> Result<(), Fault> {
        let left = self.steps.get().checked_sub(steps).ok_or_else(|| Fault::limit("it takes too many steps"))?;
        self.steps.set(left);
        if left <= self.check_at.get() {
            self.check_at.set(left.saturating_sub(STEPS_PER_CHECK));
            self.progress.check().map_err(Fault::stopped)?;
        }
        Ok(())
    }

    /// Takes `bytes` of memory, and the steps of filling them.
    pub fn memory(&self, bytes: usize) -> Result<(), Fault> {
        self.work(bytes)?;
        let left = self.memory.get().checked_sub(bytes).ok_or_else(|| Fault::limit("it takes too much memory"))?;
        self.memory.set(left);
        Ok(())
    }

    /// Whether a string of `bytes` that is being made may be: nothing is taken yet.
    pub fn fits(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.memory.get() { Err(Fault::limit("it takes too much memory")) } else { Ok(()) }
    }

    /// Whether the result may have `bytes`.
    pub fn output(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.output {
            return Err(Fault::limit(format!("its result is longer than {} bytes", self.output)));
        }
        Ok(())
    }
}
