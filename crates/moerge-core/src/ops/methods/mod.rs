//! The merge methods, one file each or one for two that share their parameters. A method sees its inputs as rows of f32
//! and gives the merged rows.
//!
//! To add one: a file with its formula, its paper, its parameters and its test; a variant of [`Method`] and an arm in
//! each of its matches. mergekit 0.1.5 at `dtype: float32` is the reference for all of them.

mod arcee_fusion;
mod breadcrumbs;
mod check;
mod combination;
mod dare;
mod della;
mod gram;
mod karcher;
mod linear;
mod model_stock;
mod multislerp;
mod nearswap;
mod nuslerp;
mod passthrough;
mod ram;
mod sce;
mod select;
mod slerp;
mod task_arithmetic;
mod task_vector;
mod ties;

pub use arcee_fusion::ArceeFusion;
pub use breadcrumbs::Breadcrumbs;
pub use dare::Dare;
pub use della::Della;
pub use karcher::Karcher;
pub use linear::Linear;
pub use model_stock::ModelStock;
pub use multislerp::MultiSlerp;
pub use nearswap::NearSwap;
pub use nuslerp::NuSlerp;
pub use passthrough::Passthrough;
pub use ram::{Ram, RamPlusTl};
pub use sce::Sce;
pub use slerp::Slerp;
pub use task_arithmetic::TaskArithmetic;
pub use ties::Ties;

use super::{
    Identity,
    inputs::{Inputs, Place},
};
use crate::error::Result;

/// A merge method with its parameters for one tensor. Where a method has a base, the base is the first input.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Weighted sum or mean.
    Linear(Linear),
    /// Spherical interpolation of two tensors.
    Slerp(Slerp),
    /// Spherical interpolation of two tensors, their rows, or their differences from a base.
    NuSlerp(NuSlerp),
    /// Weighted mean of several tensors on the sphere.
    MultiSlerp(MultiSlerp),
    /// Riemannian mean of several tensors on the sphere.
    Karcher(Karcher),
    /// A base plus weighted differences from it.
    TaskArithmetic(TaskArithmetic),
    /// The largest differences, where their signs agree.
    Ties(Ties),
    /// Random parts of the differences.
    DareLinear(Dare),
    /// Random parts of the differences, where their signs agree.
    DareTies(Dare),
    /// Differences without outliers and small elements.
    Breadcrumbs(Breadcrumbs),
    /// Differences without outliers and small elements, where their signs agree.
    BreadcrumbsTies(Breadcrumbs),
    /// Random parts of the differences, by magnitude, where their signs agree.
    Della(Della),
    /// Random parts of the differences, by magnitude.
    DellaLinear(Della),
    /// Differences at the elements of largest variance, weighted by their squares.
    Sce(Sce),
    /// Differences, averaged where several models have one.
    Ram(Ram),
    /// `ram` with larger unique differences.
    RamPlusTl(RamPlusTl),
    /// Between a base and the mean, by the angles between the differences.
    ModelStock(ModelStock),
    /// A base, moved to a model where they are near each other.
    NearSwap(NearSwap),
    /// A base, with a model's elements where its changes are outliers.
    ArceeFusion(ArceeFusion),
    /// One tensor, scaled.
    Passthrough(Passthrough),
}

/// A method that is ready for one tensor: it knows the statistics of the whole tensor that it needs.
pub(super) trait Kernel: Send + Sync {
    /// Merges the same whole rows of all inputs into `out`. May change `inputs`, which nobody reads afterwards.
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]);
}

impl Method {
    /// An upper bound on the bytes that merging a tensor of so many elements remembers of it.
    pub fn remembered_bytes(&self, elements: u64) -> u64 {
        match self {
            Self::Della(method) | Self::DellaLinear(method) => method.remembered_bytes(elements),
            _ => 0,
        }
    }

    /// The name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Slerp(_) => "slerp",
            Self::NuSlerp(_) => "nuslerp",
            Self::MultiSlerp(_) => "multislerp",
            Self::Karcher(_) => "karcher",
            Self::TaskArithmetic(_) => "task_arithmetic",
            Self::Ties(_) => "ties",
            Self::DareLinear(_) => "dare_linear",
            Self::DareTies(_) => "dare_ties",
            Self::Breadcrumbs(_) => "breadcrumbs",
            Self::BreadcrumbsTies(_) => "breadcrumbs_ties",
            Self::Della(_) => "della",
            Self::DellaLinear(_) => "della_linear",
            Self::Sce(_) => "sce",
            Self::Ram(_) => "ram",
            Self::RamPlusTl(_) => "ramplus_tl",
            Self::ModelStock(_) => "model_stock",
            Self::NearSwap(_) => "nearswap",
            Self::ArceeFusion(_) => "arcee_fusion",
            Self::Passthrough(_) => "passthrough",
        }
    }

    /// Whether the method merges `inputs` tensors, the base included, with these parameters. Reads nothing.
    ///
    /// # Errors
    /// Another number of inputs is needed, or a parameter is out of its range.
    pub fn check(&self, inputs: usize) -> Result<()> {
        match self {
            Self::Linear(method) => method.check(inputs),
            Self::Slerp(method) => method.check(inputs),
            Self::NuSlerp(method) => method.check(inputs),
            Self::MultiSlerp(method) => method.check(inputs),
            Self::Karcher(method) => method.check(inputs),
            Self::TaskArithmetic(method) => method.check("task_arithmetic", inputs),
            Self::Ties(method) => method.check(inputs),
            Self::DareLinear(method) | Self::DareTies(method) => method.check(self.name(), inputs),
            Self::Breadcrumbs(method) | Self::BreadcrumbsTies(method) => method.check(self.name(), inputs),
            Self::Della(method) | Self::DellaLinear(method) => method.check(self.name(), inputs),
            Self::Sce(method) => method.check(inputs),
            Self::Ram(method) => method.check(inputs),
            Self::RamPlusTl(method) => method.check(inputs),
            Self::ModelStock(method) => method.check(inputs),
            Self::NearSwap(method) => method.check(inputs),
            Self::ArceeFusion(method) => method.check(inputs),
            Self::Passthrough(method) => method.check(inputs),
        }
    }

    /// Adds the method and every parameter that changes its result to a plan's identity.
    pub(super) fn identify(&self, id: &mut Identity) {
        id.text(self.name());
        match self {
            Self::Linear(method) => method.identify(id),
            Self::Slerp(method) => method.identify(id),
            Self::NuSlerp(method) => method.identify(id),
            Self::MultiSlerp(method) => method.identify(id),
            Self::Karcher(method) => method.identify(id),
            Self::TaskArithmetic(method) => method.identify(id),
            Self::Ties(method) => method.identify(id),
            Self::DareLinear(method) | Self::DareTies(method) => method.identify(id),
            Self::Breadcrumbs(method) | Self::BreadcrumbsTies(method) => method.identify(id),
            Self::Della(method) | Self::DellaLinear(method) => method.identify(id),
            Self::Sce(method) => method.identify(id),
            Self::Ram(method) => method.identify(id),
            Self::RamPlusTl(method) => method.identify(id),
            Self::ModelStock(method) => method.identify(id),
            Self::NearSwap(method) => method.identify(id),
            Self::ArceeFusion(method) => method.identify(id),
            Self::Passthrough(method) => method.identify(id),
        }
    }

    /// Prepares the method for the tensors of `inputs`; may read all of them, some methods more than once.
    pub(super) fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>> {
        self.check(inputs.count())?;
        Ok(match self {
            Self::Linear(method) => Box::new(method.kernel()),
            Self::Slerp(method) => Box::new(method.kernel(inputs)?),
            Self::NuSlerp(method) => method.kernel(inputs)?,
            Self::MultiSlerp(method) => method.kernel(inputs)?,
            Self::Karcher(method) => Box::new(method.kernel(inputs)?),
            Self::TaskArithmetic(method) => Box::new(method.kernel()),
            Self::Ties(method) => Box::new(method.kernel(inputs)?),
            Self::DareLinear(method) => Box::new(method.kernel(inputs, false)?),
            Self::DareTies(method) => Box::new(method.kernel(inputs, true)?),
            Self::Breadcrumbs(method) => Box::new(method.kernel(inputs, false)?),
            Self::BreadcrumbsTies(method) => Box::new(method.kernel(inputs, true)?),
            Self::DellaLinear(method) => Box::new(method.kernel(inputs, false)?),
            Self::Della(method) => Box::new(method.kernel(inputs, true)?),
            Self::Sce(method) => Box::new(method.kernel(inputs)?),
            Self::Ram(method) => Box::new(method.kernel()),
            Self::RamPlusTl(method) => Box::new(method.kernel(inputs)?),
            Self::ModelStock(method) => method.kernel(inputs)?,
            Self::NearSwap(method) => Box::new(method.kernel()),
            Self::ArceeFusion(method) => Box::new(method.kernel(inputs)?),
            Self::Passthrough(method) => Box::new(method.kernel()),
        })
    }
}

#[cfg(test)]
mod tests;
