//! What this crate computes, against the reference implementations: their results lie beside the tests, with the scripts
//! that made them.

mod blocks;
mod methods;
