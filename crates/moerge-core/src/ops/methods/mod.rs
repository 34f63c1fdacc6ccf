//! The merge methods, one file each or one for two that share their parameters. A method sees its inputs as rows of f32
//! and gives the merged rows.
//!
//! To add one: a file with its formula, its paper, its [`MethodSpec`] and its [`MergeMethod`]; a line in
//! [`MethodSpec::ALL`]; a test against the formula. mergekit 0.1.5 at `dtype: float32` is the reference for all of them.

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
mod spec;
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
pub use spec::{Base, Domain, MethodSpec, ParameterSpec, Scope, Sort, Values};
pub use task_arithmetic::TaskArithmetic;
pub use ties::Ties;

use std::{fmt, ops::Deref, sync::Arc};

use super::{
    Identity,
    inputs::{Inputs, Place},
};
use crate::error::Result;

impl MethodSpec {
    /// All methods, with mergekit's names, parameters and defaults.
    pub const ALL: &'static [Self] = &[
        linear::SPEC,
        slerp::SPEC,
        nuslerp::SPEC,
        multislerp::SPEC,
        karcher::SPEC,
        task_arithmetic::SPEC,
        ties::SPEC,
        dare::DARE_LINEAR,
        dare::DARE_TIES,
        breadcrumbs::BREADCRUMBS,
        breadcrumbs::BREADCRUMBS_TIES,
        della::DELLA,
        della::DELLA_LINEAR,
        sce::SPEC,
        ram::RAM,
        ram::RAMPLUS_TL,
        model_stock::SPEC,
        nearswap::SPEC,
        arcee_fusion::SPEC,
        passthrough::SPEC,
    ];
}

/// A merge method with its parameters for one tensor. Where a method has a base, the base is the first input.
pub trait MergeMethod: fmt::Debug + Send + Sync {
    /// The name in recipes.
    fn name(&self) -> &'static str;

    /// Whether the method merges `inputs` tensors, the base included, with these parameters. Reads nothing.
    ///
    /// # Errors
    /// Another number of inputs is needed, or a parameter is out of its range.
    fn check(&self, inputs: usize) -> Result<()>;

    /// Adds every parameter that changes the result to a plan's identity.
    fn identify(&self, id: &mut Identity);

    /// Prepares the method for the tensors of `inputs`, which [`check`](Self::check) has accepted; may read all of them,
    /// some methods more than once.
    ///
    /// # Errors
    /// An input cannot be read.
    fn kernel(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Kernel>>;

    /// An upper bound on the bytes that merging a tensor of so many elements remembers of it.
    fn remembered_bytes(&self, _elements: u64) -> u64 {
        0
    }

    /// The weights by whose sum the method divides.
    fn divided_by_sum(&self) -> Option<&[f64]> {
        None
    }

    /// Whether the result is the only input as it is, bit for bit.
    fn copies(&self) -> bool {
        false
    }
}

/// Any merge method.
#[derive(Debug, Clone)]
pub struct Method(Arc<dyn MergeMethod>);

impl<M: MergeMethod + 'static> From<M> for Method {
    fn from(method: M) -> Self {
        Self(Arc::new(method))
    }
}

impl Deref for Method {
    type Target = dyn MergeMethod;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// A method that is ready for one tensor: it knows the statistics of the whole tensor that it needs.
pub trait Kernel: Send + Sync {
    /// Merges the same whole rows of all inputs into `out`. May change `inputs`, which nobody reads afterwards.
    fn merge(&self, inputs: &mut [Vec<f32>], place: Place, out: &mut [f32]);
}

#[cfg(test)]
mod tests;
