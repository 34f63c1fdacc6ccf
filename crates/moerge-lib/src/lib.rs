//! The jobs: merging, fitting routers, evaluating, counting where tokens go, verifying.

pub mod evaluate;
pub mod memory;
pub mod merge;
pub mod route;
pub mod routers;
pub mod verify;
