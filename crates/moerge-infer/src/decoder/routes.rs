//! Where the tokens of a layer go.

/// How the tokens of a layer are routed.
pub struct Routes {
    /// Per token, the chosen experts with their weights, largest first.
    pub experts: Vec<Vec<(usize, f32)>>,
    /// Per token, the weight of the shared expert; empty if there is none.
    pub shared: Vec<f32>,
}
