//! Which MoE family the output becomes, and why.

use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{DenseFamily, MoeFamily},
        rope::RopeScaling,
    },
    recipe::{GateMode, Recipe},
};

/// The family of the output, with the reason in words.
pub fn choose_family(recipe: &Recipe, base: &ModelConfig, dense: &DenseFamily) -> Result<(&'static MoeFamily, String)> {
    let shared = recipe.shared_experts.first();
    let shared_has_prompts = shared.is_some_and(|s| !s.positive_prompts.is_empty());
    let possible = || dense.becomes.iter().map(|f| f.recipe_name).collect::<Vec<_>>().join(", ");
    let (family, why) = match (&recipe.architecture, shared) {
        (Some(wanted), _) => match dense.becomes.iter().find(|f| recipe.accepts(f)) {
            Some(family) => (*family, "named by the recipe".to_owned()),
            None => {
                let message = format!("a {} model cannot become {}", dense.model_type, wanted.value.class);
                return Err(Error::input(message)
                    .at(recipe.snippet(&wanted.span, ""))
                    .hint(format!("it can become: {}", possible())));
            }
        },
        (None, None) => (dense.becomes[0], format!("represents {} exactly", dense.model_type)),
        (None, Some(_)) => {
            let fits =
                |f: &&&MoeFamily| f.shared_expert_gate() == Some(shared_has_prompts || dense.model_type == "qwen2");
            match dense.becomes.iter().find(fits) {
                Some(family) => (*family, format!("represents {} with a shared expert", dense.model_type)),
                None => (dense.becomes[0], String::new()),
            }
        }
    };
    check_shared_expert(recipe, dense, family, shared_has_prompts)?;
    check_limits(base, family)?;
    Ok((family, why))
}

fn check_shared_expert(recipe: &Recipe, dense: &DenseFamily, family: &MoeFamily, has_prompts: bool) -> Result<()> {
    let Some(shared) = recipe.shared_experts.first() else { return Ok(()) };
    let refuse =
        |message: String| Error::input(message).at(recipe.snippet(&shared.source_model.span, "the shared expert"));
    match family.shared_expert_gate() {
        None => {
            let able: Vec<_> = dense.becomes.iter().filter(|f| f.shared_expert_gate().is_some()).map(|f| f.recipe_name).collect();
            let error = refuse(format!("{} has no shared experts", family.class));
            Err(if able.is_empty() {
                error.hint(format!("no MoE family of {} models has; remove `shared_experts`", dense.model_type))
            } else {
                error.hint(format!("`architecture: {}` has", able.join("` or `")))
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

/// What the family's readers cannot do although its tensors fit.
fn check_limits(base: &ModelConfig, family: &MoeFamily) -> Result<()> {
    if family.model_type != "deepseek" {
        return Ok(());
    }
    let refuse = |what: String| {
        Err(Error::input(format!("{} cannot become {}: {what}", base.path.display(), family.class))
            .hint("leave out `architecture` for Mixtral"))
    };
    if base.head_dim * base.heads != base.hidden_size {
        return refuse(format!("its heads are {} wide, and DeepSeek-MoE's are hidden_size / heads", base.head_dim));
    }
    match base.rope.scaling {
        RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } => Ok(()),
        _ => refuse("DeepSeek-MoE's code knows linear and dynamic rope scaling only".into()),
    }
}
