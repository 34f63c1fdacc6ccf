//! Limits on steps, memory and output. Every operation on data consults the meter first, so no template can exceed them.
//! The meter also checks whether the run was cancelled.

use std::cell::Cell;

use moerge_core::progress::Progress;

use super::Fault;

/// What a template may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of steps. An expression is one step; so is processing a few bytes of a string.
    pub steps: u64,
    /// Maximum bytes of all values combined, including those no longer in use.
    pub memory: usize,
    /// Maximum bytes of the result.
    pub output: usize,
}

/// Bytes processed per step.
const BYTES_PER_STEP: usize = 64;
/// Steps between checks for cancellation.
const STEPS_PER_CHECK: u64 = 1024;

/// Counts down the remaining budget.
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

    /// Charges the steps for processing `bytes`.
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

    /// Charges `bytes` of memory and the steps for filling them.
    pub fn memory(&self, bytes: usize) -> Result<(), Fault> {
        self.work(bytes)?;
        let left = self.memory.get().checked_sub(bytes).ok_or_else(|| Fault::limit("it takes too much memory"))?;
        self.memory.set(left);
        Ok(())
    }

    /// Checks that a string of `bytes` fits into the remaining memory, without charging for it.
    pub fn fits(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.memory.get() { Err(Fault::limit("it takes too much memory")) } else { Ok(()) }
    }

    /// Checks the size of the result.
    pub fn output(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.output {
            return Err(Fault::limit(format!("its result is longer than {} bytes", self.output)));
        }
        Ok(())
    }
}
