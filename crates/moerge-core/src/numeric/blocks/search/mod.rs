//! The searches for scales that make the error of a group's rounded weights small, eight groups side by side.
//!
//! Each is ggml's, operation by operation, so that results are the same bits. Levels are floats that hold small integers.

mod affine;
mod nonlinear;
mod refined;
mod scales;
mod symmetric;

pub(super) use affine::{Affine, Trials, affine};
pub(super) use nonlinear::{VALUES, levels, nonlinear};
pub(super) use refined::refined;
pub(super) use scales::scales;
pub(super) use symmetric::symmetric;
