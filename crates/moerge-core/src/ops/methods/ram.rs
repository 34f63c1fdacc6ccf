//! `ram` and `ramplus_tl` (reinforced agent merging): what one model alone changed is added, what several changed is
//! averaged (arXiv 2601.13572).
//!
//! A model changed an element where its difference from the base is more than `epsilon` in magnitude. An element
//! changed by one model gets its whole difference, an element changed by several the mean of theirs. `ramplus_tl` (tensor
//! local) multiplies the differences of a model at the elements that it alone changed by
//! `1 + r clip(shared / unique, 0, alpha)`, from the numbers of elements of the tensor that it changed with others and
//! alone.

use super::check;
use crate::{error::Result, ops::Identity};

/// The parameters of `ram`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct Ram {
    /// Differences up to this magnitude count as none. Default: 1e-5.
    pub epsilon: f64,
}

/// The parameters of `ramplus_tl`. The first input is the base.
#[derive(Debug, Clone, PartialEq)]
pub struct RamPlusTl {
    /// Differences up to this magnitude count as none. Default: 1e-5.
    pub epsilon: f64,
    /// What the ratio of shared to unique elements counts for. Default: 0.1.
    pub r: f64,
    /// Upper bound of that ratio. Default: 0.2.
    pub alpha: f64,
}

impl Ram {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { epsilon } = self;
        id.float(*epsilon);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("ram", check::Count::AtLeast(1), inputs)?;
        check::not_negative("ram", "epsilon", self.epsilon)
    }
}

impl RamPlusTl {
    pub(super) fn identify(&self, id: &mut Identity) {
        let Self { epsilon, r, alpha } = self;
        id.float(*epsilon).float(*r).float(*alpha);
    }

    pub(super) fn check(&self, inputs: usize) -> Result<()> {
        check::inputs("ramplus_tl", check::Count::AtLeast(1), inputs)?;
        check::not_negative("ramplus_tl", "epsilon", self.epsilon)?;
        check::finite("ramplus_tl", "r", self.r)?;
        check::not_negative("ramplus_tl", "alpha", self.alpha)
    }
}
