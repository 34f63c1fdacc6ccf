//! Checks that the experts' FFNs fit the base.

use super::{Models, Slots, attention};
use crate::{
    error::{Error, Result},
    model::{
        families::{FfnMatrix, LayerRole, Role},
        source::Source,
        tied_head,
    },
    recipe::{Expert, Located, ModelRef, Recipe},
    suggest::ranges,
};

/// Checks every expert against the base; returns warnings about unusual differences.
pub fn check(recipe: &Recipe, models: &Models) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let routed =
        recipe.experts.iter().zip(&models.experts).enumerate().map(|(n, (e, i))| (format!("expert {n}"), e, *i));
    let shared =
        recipe.shared_experts.iter().zip(models.shared_expert).map(|(e, i)| ("the shared expert".to_owned(), e, i));
    for (who, expert, index) in routed.chain(shared) {
        check_one(recipe, models.base(), &models.sources[index], &who, expert, &mut warnings)?;
        let used = |role| recipe.shared_weights.of_experts() || is_ffn(role);
        check_adapter(recipe, &models.sources[index], &expert.source_model, used)?;
    }
    check_adapter(recipe, models.base(), &recipe.base_model, |role| !is_ffn(role))?;
    let averaged = recipe.shared_weights.of_experts();
    for (index, source) in models.sources.iter().enumerate() {
        if index == models.base || averaged && models.experts.contains(&index) {
            warnings.extend(tied_head::warning(&source.checkpoint, &source.config, &source.description)?);
        }
    }
    Ok(warnings)
}

fn is_ffn(role: Role) -> bool {
    matches!(role, Role::Layer(_, LayerRole::Ffn(_)))
}

/// Refuses an adapter with more than A and B for a weight of the output.
fn check_adapter(
    recipe: &Recipe,
    source: &Source,
    reference: &Located<ModelRef>,
    used: impl Fn(Role) -> bool,
) -> Result<()> {
    source.check_adapter_is_whole(used).map_err(|error| error.at(recipe.snippet(&reference.span, "")))
}

/// Checks the layers of experts that are limited to some layers, as in `slots`.
pub fn check_layers(recipe: &Recipe, slots: &Slots) -> Result<()> {
    let layers = slots.layers();
    for (index, expert) in recipe.experts.iter().enumerate() {
        let ranges = expert.layers.iter().flat_map(|layers| layers.ranges());
        if let Some(range) = ranges.into_iter().find(|range| *range.end() >= layers) {
            return Err(Error::input(format!("expert {index} cannot be in layer {}", range.end()))
                .at(recipe.snippet(&range.span, format!("the base has layers 0 to {}", layers.saturating_sub(1))))
                .hint("a range such as 0-11 includes both ends"));
        }
    }
    let empty: Vec<usize> = (0..layers).filter(|layer| slots.in_layer(*layer).is_empty()).collect();
    if !empty.is_empty() {
        return Err(Error::input(format!("no expert is in {}", named(&empty)))
            .hint("put one expert, such as the base, in all layers: leave out its `layers`"));
    }
    check_experts_per_token(recipe, slots)
}

fn check_experts_per_token(recipe: &Recipe, slots: &Slots) -> Result<()> {
    let (wanted, width) = (&recipe.experts_per_token, slots.width());
    let refuse = |message: String| {
        let error = Error::input(message);
        if wanted.span.is_empty() { error } else { error.at(recipe.snippet(&wanted.span, "")) }
    };
    if wanted.value > width {
        return Err(refuse(format!("`experts_per_token` is {}, but no layer has more than {width} experts", **wanted))
            .hint(format!("`experts_per_token: {width}`, or experts in more layers")));
    }
    // With three choices, two may be the same expert, which would count twice relative to the third.
    let uneven = |layer: &usize| (2..width).contains(&slots.members(*layer).len());
    let uneven: Vec<usize> = (0..slots.layers()).filter(uneven).collect();
    if wanted.value > 2 && !uneven.is_empty() {
        return Err(refuse(format!(
            "`experts_per_token` is {}, and {} fewer experts than others: one is there twice, and would count twice",
            **wanted,
            if uneven.len() == 1 { format!("{} has", named(&uneven)) } else { format!("{} have", named(&uneven)) },
        ))
        .hint("`experts_per_token: 2`, or as many experts in every layer"));
    }
    Ok(())
}

/// `layer 3`, `layers 0-3, 7`.
fn named(layers: &[usize]) -> String {
    format!("{} {}", if layers.len() == 1 { "layer" } else { "layers" }, ranges(layers))
}

fn check_one(
    recipe: &Recipe,
    base: &Source,
    source: &Source,
    who: &str,
    expert: &Expert,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let refuse = |what: String| {
        Error::input(format!("{who} cannot join this MoE: {what}"))
            .at(recipe.snippet(&expert.source_model.span, ""))
            .fact("base", base.reference.clone())
            .fact("expert", source.reference.clone())
    };
    let (ours, theirs) = (&base.config, &source.config);
    if ours.hidden_size != theirs.hidden_size {
        let gate = Role::Layer(0, LayerRole::Ffn(FfnMatrix::Gate));
        let shape = |s: &Source| s.description.get(gate).map(|t| format!("{:?}", t.shape)).unwrap_or_default();
        return Err(refuse(format!("its gate_proj is {}, the base's is {}", shape(source), shape(base)))
            .hint("experts must have the base's hidden size; only the FFN may be narrower or wider"));
    }
    if ours.layers != theirs.layers {
        return Err(refuse(format!("it has {} layers, the base has {}", theirs.layers, ours.layers))
            .hint("experts must have as many layers as the base"));
    }
    let activation = |s: &Source| s.description.decoder.layers.first().map(|layer| layer.ffn.activation());
    if activation(source) != activation(base) {
        return Err(refuse(format!(
            "its FFN's activation is {}, the base's is {}",
            theirs.hidden_act, ours.hidden_act
        )));
    }
    let mut differences = attention::differences(base, source);
    differences.extend(attention::slight_differences(base, source));
    if !differences.is_empty() {
        warnings.push(format!(
            "{who} ({}) was not trained behind the base's attention: {}",
            source.reference,
            differences.join("; ")
        ));
    }
    Ok(())
}
