//! Whether the experts' FFNs can stand behind the base's attention.

use super::Models;
use crate::{
    architecture::{FfnMatrix, LayerRole, Role},
    error::{Error, Result},
    recipe::{Expert, Recipe},
    source::Source,
};

/// Checks every expert against the base; what is odd but possible comes back as warnings.
pub fn check(recipe: &Recipe, models: &Models) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let routed =
        recipe.experts.iter().zip(&models.experts).enumerate().map(|(n, (e, i))| (format!("expert {n}"), e, *i));
    let shared =
        recipe.shared_experts.iter().zip(models.shared_expert).map(|(e, i)| ("the shared expert".to_owned(), e, i));
    for (who, expert, index) in routed.chain(shared) {
        check_one(recipe, models.base(), &models.sources[index], &who, expert, &mut warnings)?;
    }
    Ok(warnings)
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
    if source.description.decoder.activation != base.description.decoder.activation {
        return Err(refuse(format!(
            "its FFN's activation is {}, the base's is {}",
            theirs.hidden_act, ours.hidden_act
        )));
    }
    if ours.model_type != theirs.model_type {
        warnings.push(format!(
            "{who} ({}) is a {} model on a {} base; it was not trained behind this attention",
            source.reference, theirs.model_type, ours.model_type
        ));
    }
    Ok(())
}
