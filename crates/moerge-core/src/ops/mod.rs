//! Tensor expressions: how an output tensor is made of source tensors, and the one evaluator of such expressions.
//!
//! An [`Expr`] is a pure description. [`Evaluator`] turns it into rows of f32 for the writer of shards,
//! the pass that fits routers, or a decoder that runs a model with an adapter. Arithmetic is f32, sums are f64, and the
//! only rounding to the output's dtype is the reader's, at the end.

mod evaluate;
mod expr;
mod expr_identity;
mod identity;
mod inputs;
mod lora;
mod methods;

pub use evaluate::{ComputedValues, Evaluator};
pub use expr::{Expr, LoraDelta, Noise, rows_and_columns};
pub use identity::Identity;
pub use inputs::{Inputs, Place, Preparation};
pub use methods::{
    ArceeFusion, Base, Breadcrumbs, Dare, Della, Domain, Karcher, Kernel, Linear, MergeMethod, Method, MethodSpec,
    ModelStock, MultiSlerp, NearSwap, NuSlerp, ParameterSpec, Passthrough, Ram, RamPlusTl, Sce, Scope, Slerp, Sort,
    TaskArithmetic, Ties, Values,
};
