//! The jobs: comparing, extracting adapters, merging, exporting, fitting routers, evaluating, counting where tokens go, verifying.

pub mod diff;
pub mod evaluate;
pub mod export;
pub mod extract_lora;
mod markup;
pub mod memory;
pub mod merge;
mod publication;
pub mod route;
pub mod routers;
pub mod verify;
