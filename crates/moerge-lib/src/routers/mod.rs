//! The routers of the new MoE: one gate matrix `[experts, hidden]` per layer, made from prompts or at random.
//!
//! Every mode gives each expert a row of its own; a token goes to the experts whose rows point most in its direction.
//! mergekit's modes make the rows of what the base says to the prompts ([`make_routers`]); [`warnings`] says where they
//! are too much alike. The others fit them to what the routers of the new MoE are really given ([`fit_routers()`]), or
//! train them ([`train_gates`]), and report how well that went.

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
pub use calibration::{Calibration, ExpertTokens, recipe_texts, text_lengths};
pub use degenerate::warnings;
pub use fit_routers::{fit_memory, fit_routers};
pub use gates::Routers;
pub use label::label_by_loss;
pub use make::make_routers;
pub use merged::Merged;
pub use phatgoose::{TrainedGates, train_gates, training_memory};
pub use prompts::{experts_with_ignored_prompts, max_prompt_bytes, prompt_lengths};
pub use report::{ExpertReport, LayerReport, ROUTING_REPORT, RoutingReport};
pub use self_text::{ExpertText, SELF_TEXT_FILE, Sample, sample_lengths, write_samples};
pub use sharpness::{Sharpness, TriedFactor, pass_lengths, sharpen};
pub use validation::{ModelPerplexity, Validation, validate};
