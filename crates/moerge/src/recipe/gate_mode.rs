//! How the routers get their weights.

/// mergekit's `gate_mode`; the formulas are in `router/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GateMode {
    /// Hidden state of each prompt's last token, per layer.
    #[default]
    Hidden,
    /// Mean of the hidden states of all tokens of each prompt, per layer.
    HiddenAvg,
    /// The same as `hidden`, by its longer name.
    HiddenLast,
    /// Sum of the embeddings of the prompts' tokens, the same for every layer.
    CheapEmbed,
    /// Normal random numbers.
    Random,
    /// Uniform random numbers, as `torch.nn.Linear` begins.
    UniformRandom,
}

impl GateMode {
    /// The modes by the names a recipe uses.
    pub const TABLE: [(&'static str, Self); 6] = [
        ("hidden", Self::Hidden),
        ("hidden_avg", Self::HiddenAvg),
        ("hidden_last", Self::HiddenLast),
        ("cheap_embed", Self::CheapEmbed),
        ("random", Self::Random),
        ("uniform_random", Self::UniformRandom),
    ];

    /// The name a recipe uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::HiddenAvg => "hidden_avg",
            Self::HiddenLast => "hidden_last",
            Self::CheapEmbed => "cheap_embed",
            Self::Random => "random",
            Self::UniformRandom => "uniform_random",
        }
    }

    /// Whether the routers are made from prompts.
    pub fn needs_prompts(self) -> bool {
        !matches!(self, Self::Random | Self::UniformRandom)
    }
}
