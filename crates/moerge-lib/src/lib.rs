//! The jobs: comparing, extracting adapters, merging, exporting, fitting routers, evaluating, counting where tokens go, verifying.

pub mod diff;
pub mod evaluate;
pub mod export;
pub mod extract_lora;
pub mod following;
mod markup;
pub mod memory;
pub mod merge;
mod publication;
pub mod route;
pub mod routers;
mod splice;
pub mod verify;
