//! Which MoE families can represent a dense family exactly, and whether one can represent a given base.

use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{
            DEEPSEEK, Description, Family, LLAMA, MISTRAL, MIXTRAL, MoeFamily, PHI3, Projection, QWEN2, QWEN2_MOE,
            QWEN3, QWEN3_MOE,
        },
    },
};

/// Dense families with the MoE families that share their attention and norms; the first is the default.
static TABLE: [(&Family, &[&MoeFamily]); 5] = [
    (&LLAMA, &[&MIXTRAL, &DEEPSEEK, &QWEN2_MOE]),
    (&MISTRAL, &[&MIXTRAL, &DEEPSEEK, &QWEN2_MOE]),
    (&PHI3, &[&MIXTRAL]),
    (&QWEN2, &[&QWEN2_MOE]),
    (&QWEN3, &[&QWEN3_MOE]),
];

/// The MoE families that represent `base`, the default first.
///
/// # Errors
/// There is none.
pub fn moe_families(base: &ModelConfig, family: &Family) -> Result<&'static [&'static MoeFamily]> {
    let row = TABLE.iter().find(|(dense, _)| dense.model_type == family.model_type);
    row.map(|(_, families)| *families).ok_or_else(|| {
        Error::input(format!(
            "{} ({}) cannot become a Mixture of Experts: no MoE family represents it",
            base.path.display(),
            family.model_type
        ))
        .unsupported()
    })
}

/// Refuses a base whose attention `family` would change. `base` and `output` describe the base and the MoE on it.
///
/// # Errors
/// The MoE would compute something else than the base.
pub fn check(config: &ModelConfig, family: &MoeFamily, base: &Description, output: &Description) -> Result<()> {
    let difference = family.limit(config).or_else(|| difference(base, output));
    let Some(difference) = difference else { return Ok(()) };
    let error = Error::input(format!("{} cannot become {}: {difference}", config.path.display(), family.class));
    let others = Family::of(config).and_then(|dense| moe_families(config, dense)).unwrap_or_default();
    let others: Vec<_> = others.iter().filter(|f| f.class != family.class).map(|f| f.class).collect();
    Err(match others.first() {
        Some(other) => error.hint(format!("it can become {other}, the default without `architecture`")),
        None => error.hint("no other MoE family represents this model; use another base"),
    })
}

/// How the MoE's attention differs from the base's in the first such layer.
fn difference(base: &Description, output: &Description) -> Option<String> {
    let layers = base.decoder.layers.iter().zip(&output.decoder.layers).enumerate();
    for (layer, (base, output)) in layers {
        let (ours, theirs) = (base.attention(), output.attention());
        if ours.window != theirs.window {
            let window =
                |w: Option<usize>| w.map_or("no sliding window".into(), |w| format!("a sliding window of {w}"));
            let (ours, theirs) = (window(ours.window), window(theirs.window));
            return Some(format!("its layer {layer} has {ours}, and in this class it would have {theirs}"));
        }
        // A bias that only the MoE has is all zeros.
        let lost = ours.biases.into_iter().zip(theirs.biases).position(|(ours, theirs)| ours && !theirs);
        if let Some(projection) = lost.and_then(|i| Projection::ALL.into_iter().nth(i)) {
            return Some(format!("its attention has biases of {projection}, and this class has none"));
        }
        if ours.qk_norm != theirs.qk_norm {
            return Some("only one of them norms the q and k heads".into());
        }
        if ours.rope != theirs.rope {
            return Some("its rotary embeddings would change".into());
        }
    }
    None
}
