//! The routers of the new MoE: one gate matrix `[experts, hidden]` per layer, made from prompts or at random.
//!
//! The modes are mergekit's. All of them give each expert a row of its own; a token goes to the experts whose rows
//! point most in its direction. [`warnings`] says where the rows are too much alike for that.

mod cheap_embed;
mod degenerate;
mod hidden;
mod make;
mod prompts;
mod random;
mod routers;
mod rows;

pub use degenerate::warnings;
pub use make::make_routers;
pub use routers::Routers;
