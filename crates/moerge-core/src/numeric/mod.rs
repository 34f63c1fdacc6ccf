//! Numbers: elements as bytes and as f32, blocks of quantised weights, sums, ranks, exponentials, keyed random numbers
//! and masks, counts of NaN and infinities.

pub mod blocks;
pub mod element;
pub mod encode;
pub mod exp_log;
pub mod masks;
pub mod noise;
pub mod non_finite;
pub mod ranks;
pub mod simd;
pub mod sums;
