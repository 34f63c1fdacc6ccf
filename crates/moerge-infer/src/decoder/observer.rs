//! Who sees, and may change, what passes through the layers.

use moerge_core::error::Result;

use super::{activations::Activations, routes::Routes};

/// Sees the activations while the layers run. Columns are the tokens of the packed sequences; see [`super::ranges`].
pub trait Observer {
    /// `x` is the residual stream before `layer`, or after the last layer if `layer` is the number of layers.
    ///
    /// # Errors
    /// Any; it ends the pass.
    fn entering(&mut self, _layer: usize, _x: &Activations) -> Result<()> {
        Ok(())
    }

    /// `u` is the input of the FFN of `layer`, and of its router: the residual stream after attention, normalized.
    ///
    /// # Errors
    /// Any; it ends the pass.
    fn router_input(&mut self, _layer: usize, _u: &Activations) -> Result<()> {
        Ok(())
    }

    /// `routes` is how the router of `layer` routes the tokens. The observer may change it.
    ///
    /// # Errors
    /// Any; it ends the pass.
    fn routed(&mut self, _layer: usize, _routes: &mut Routes) -> Result<()> {
        Ok(())
    }
}

impl Observer for () {}
