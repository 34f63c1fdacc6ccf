//! Numbers: elements as bytes and as f32, keyed noise, counts of NaN and infinities.

pub mod element;
pub mod noise;
pub mod non_finite;
