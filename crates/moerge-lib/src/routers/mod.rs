//! The routers of the new MoE: one gate matrix `[experts, hidden]` per layer.
//!
//! Each expert has one row; a token goes to the experts whose rows have the largest dot product with it. mergekit's
//! modes compute the rows from the base's activations on the prompts, or at random ([`make_routers`]); [`warnings`]
//! reports rows that are too similar. The other modes fit the rows to the actual inputs of the new MoE's routers
//! ([`fit_routers()`]) or train them ([`train_gates`]), and report their accuracy.

mod balance;
mod calibration;
mod cheap_embed;
mod degenerate;
mod fit;
mod fit_routers;
mod gates;
mod hidden;
mod label;
mod long_text;
mod losses;
mod make;
mod merged;
mod phatgoose;
mod prompts;
mod random;
mod report;
mod rows;
mod self_text;
mod sharpness;
mod validation;

pub use balance::{Balance, Balanced, MAX_COST, SHARES, balance};
pub use calibration::{Calibration, ExpertTokens, TextLengths, recipe_texts};
pub use degenerate::warnings;
pub use fit_routers::{fit_lengths, fit_memory, fit_routers};
pub use gates::Routers;
pub use label::label_by_loss;
pub use make::make_routers;
pub use merged::Merged;
pub use phatgoose::{TrainedGates, train_gates, training_memory};
pub use prompts::{experts_with_ignored_prompts, max_prompt_bytes, prompt_lengths};
pub use report::{ExpertReport, LayerReport, ROUTING_REPORT, RoutingReport};
pub use self_text::{ExpertText, SELF_TEXT_FILE, Sample, sample_lengths, write_samples};
pub use sharpness::{Sharpness, TriedFactor};
pub use validation::{ModelPerplexity, Validation, validate};
