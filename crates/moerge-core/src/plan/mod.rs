//! The plan: every tensor of the output, its place and how it is made. Pure: the same recipe and headers, the same plan.

pub mod moe;
mod step;

pub use moe::{
    ExpertSummary, ModelSummary, Models, Plan, PlanOptions, PlanSummary, Prompts, Routing, Slots, UnusedSummary,
    UnusedWeights,
};
pub use step::{Average, Noise, OutputTensor, Step, Transform};
