//! Chooses the MoE family of the output.

use super::represent::moe_families;
use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Family, MoeFamily},
    },
    recipe::{GateMode, Recipe},
};

/// The family of the output, and the reason as a sentence.
pub fn choose_family(recipe: &Recipe, base: &ModelConfig, dense: &Family) -> Result<(&'static MoeFamily, String)> {
    let becomes = moe_families(base, dense)?;
    let shared = recipe.shared_experts.first();
    let shared_has_prompts = shared.is_some_and(|s| !s.positive_prompts.is_empty());
    let possible = || becomes.iter().map(|f| f.recipe_name).collect::<Vec<_>>().join(", ");
    let (family, why) = match (&recipe.architecture, shared) {
        (Some(wanted), _) => match becomes.iter().find(|f| recipe.accepts(f)) {
            Some(family) => (*family, "named by the recipe".to_owned()),
            None => {
                let message = format!("a {} model cannot become {}", dense.model_type, wanted.value.class);
                return Err(Error::input(message)
                    .at(recipe.snippet(&wanted.span, ""))
                    .hint(format!("it can become: {}", possible())));
            }
        },
        (None, None) => (becomes[0], format!("represents {} exactly", dense.model_type)),
        (None, Some(_)) => {
            let only = becomes.len() == 1;
            let fits = |f: &&&MoeFamily| match f.shared_expert_gate() {
                Some(gated) => only || gated == shared_has_prompts,
                None => false,
            };
            match becomes.iter().find(fits) {
                Some(family) => (*family, format!("represents {} with a shared expert", dense.model_type)),
                None => (becomes[0], String::new()),
            }
        }
    };
    check_shared_expert(recipe, dense, becomes, family, shared_has_prompts)?;
    Ok((family, why))
}

fn check_shared_expert(
    recipe: &Recipe,
    dense: &Family,
    becomes: &[&MoeFamily],
    family: &MoeFamily,
    has_prompts: bool,
) -> Result<()> {
    let Some(shared) = recipe.shared_experts.first() else { return Ok(()) };
    let refuse =
        |message: String| Error::input(message).at(recipe.snippet(&shared.source_model.span, "the shared expert"));
    match family.shared_expert_gate() {
        None => {
            let able: Vec<_> = becomes.iter().filter(|f| f.shared_expert_gate().is_some()).map(|f| f.recipe_name).collect();
            let error = refuse(format!("{} has no shared experts", family.class));
            Err(if able.is_empty() {
                error.hint(format!("no MoE family for {} models supports shared experts; remove `shared_experts`", dense.model_type))
            } else {
                error.hint(format!("`architecture: {}` supports shared experts", able.join("` or `")))
            })
        }
        Some(true) if !has_prompts && recipe.gate_mode.needs_prompts() => {
            Err(refuse(format!("{} weighs its shared expert by a gate, and `gate_mode: {}` makes it from prompts", family.class, recipe.gate_mode.name()))
                .hint("give the shared expert `positive_prompts`, or use `architecture: deepseek` for a shared expert without a gate"))
        }
        Some(false) if has_prompts && recipe.gate_mode != GateMode::Random => {
            Err(refuse(format!("{} adds its shared expert without a gate, so its prompts would not be used", family.class))
                .hint("remove the prompts, or use `architecture: qwen`"))
        }
        _ => Ok(()),
    }
}
