//! How the routers are made.

/// The recipe's `gate_mode`: mergekit's, and those fitted to text. The formulas are in `moerge-lib`'s `routers`.
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
    /// Centred class means of the inputs that the experts' texts give each layer's router.
    RouterInput,
    /// Rows fitted to the inputs that the experts' texts give each layer's router.
    Calibrated,
    /// The same, on text that the experts generate.
    SelfCalibrated,
    /// Gates trained by gradient, each expert's on its own text or on text it generates (arXiv 2402.05859).
    PhatGoose,
}

impl GateMode {
    /// The modes by the names a recipe uses.
    pub const TABLE: [(&'static str, Self); 10] = [
        ("hidden", Self::Hidden),
        ("hidden_avg", Self::HiddenAvg),
        ("hidden_last", Self::HiddenLast),
        ("cheap_embed", Self::CheapEmbed),
        ("random", Self::Random),
        ("uniform_random", Self::UniformRandom),
        ("router_input", Self::RouterInput),
        ("calibrated", Self::Calibrated),
        ("self_calibrated", Self::SelfCalibrated),
        ("phatgoose", Self::PhatGoose),
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
            Self::RouterInput => "router_input",
            Self::Calibrated => "calibrated",
            Self::SelfCalibrated => "self_calibrated",
            Self::PhatGoose => "phatgoose",
        }
    }

    /// Whether the routers cannot be made without prompts.
    pub fn needs_prompts(self) -> bool {
        !matches!(self, Self::Random | Self::UniformRandom | Self::SelfCalibrated | Self::PhatGoose)
    }

    /// Whether the routers are fitted to text that runs through the new MoE.
    pub fn is_fitted(self) -> bool {
        matches!(self, Self::RouterInput | Self::Calibrated | Self::SelfCalibrated | Self::PhatGoose)
    }

    /// Whether the routers are random.
    pub fn is_random(self) -> bool {
        matches!(self, Self::Random | Self::UniformRandom)
    }
}
