//! Whole runs: the command as a user runs it, and the library over models that lie in the repository.

mod bad_input;
mod balance;
mod commands;
mod common;
mod evaluate;
mod exact;
mod experts;
mod faults;
mod fitted_routers;
mod fused;
mod golden;
mod hub_pull;
mod hub_push;
mod hub_refusals;
mod hub_remote;
mod hub_server;
mod layers;
mod limits;
mod merged_weights;
mod phatgoose;
mod resume;
mod route;
mod routers;
mod same_bytes;
mod self_calibrated;
mod serve;
