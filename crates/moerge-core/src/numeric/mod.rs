//! Numbers: elements as bytes and as f32, sums, keyed random numbers, counts of NaN and infinities.

pub mod element;
pub mod noise;
pub mod non_finite;
pub mod sums;
