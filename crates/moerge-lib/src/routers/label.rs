//! `label: loss`: labels every token with the expert that has the lowest next-token loss, whichever text it is in.
//! (MergeME, arXiv 2502.00997, routes by perplexity; here a standard router learns to.)

use super::{calibration::Calibration, fit::Class, losses::next_token_losses, merged::Merged};
use moerge_core::{
    error::Result,
    plan::MoePlan,
    progress::{Progress, Stage},
};
use moerge_infer::decoder::WeightRounding;

/// Relabels the tokens of `calibration`. For each expert, one pass over the shared weights and its own.
///
/// # Errors
/// The weights cannot be read, or the user stops the run.
pub fn label_by_loss(
    plan: &MoePlan,
    calibration: &mut Calibration,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<()> {
    let experts = plan.routing.slots.experts();
    progress.start(Stage::Prompts, (plan.description.decoder.layers.len() * experts) as u64, 0);
    let mut best: Vec<Option<(f64, usize)>> = vec![None; calibration.tokens()];
    for expert in 0..experts {
        let losses =
            next_token_losses(&Merged::only(plan, expert)?, &calibration.sequences, rounding, &mut (), progress)?;
        for ((best, loss), class) in best.iter_mut().zip(losses).zip(&calibration.samples.classes) {
            let allowed = *class != Some(Class::NotExpert(expert));
            if let Some(loss) = loss.filter(|_| allowed)
                && best.is_none_or(|(smallest, _)| loss < smallest)
            {
                *best = Some((loss, expert));
            }
        }
    }
    progress.finish(Stage::Prompts, &format!("{experts} experts on {} tokens", calibration.tokens()));
    for (class, best) in calibration.samples.classes.iter_mut().zip(best) {
        if !matches!(class, None | Some(Class::Shared)) {
            *class = best.map(|(_, expert)| Class::Expert(expert));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use moerge_checkpoint::{LocalStorage, ReadStorage};

    use super::*;
    use crate::{
        merge::{MergeOptions, prepare},
        routers::ExpertTokens,
    };
    use moerge_core::{progress::Silent, recipe::Recipe};
    use moerge_infer::{SourceWeights, tokenizer::Tokenizer};

    #[test]
    fn every_token_is_for_the_expert_that_is_least_surprised_by_the_next() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny");
        let text = "base_model: base\ngate_mode: calibrated\nlabel: loss\nexperts:\n\
                    - {source_model: code, positive_prompts: [x]}\n- {source_model: math, positive_prompts: [x]}\n";
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        let recipe = Recipe::parse("moe.yml", text).unwrap();
        let prepared = prepare(&storage, recipe, &tiny, &MergeOptions::default()).unwrap();
        let tokenizer = Tokenizer::open(&LocalStorage, &tiny.join("base")).unwrap();
        let tokens = |text| vec![tokenizer.encode_prompt(text).unwrap()];
        // A text that changes its kind, and a text that is not for its expert although that has the lowest loss.
        let mixed = tokens("def main(argv):\n    return None\nProblem: Leo has 12 shells. Answer: 12");
        let code = ExpertTokens { positive: mixed, negative: tokens("class Error(Exception):\n    pass") };
        let math = ExpertTokens { positive: tokens("Divide both sides by 4: x = 48 / 4"), negative: Vec::new() };
        let mut calibration = Calibration::new(&[code, math], None);
        let before = calibration.samples.classes.clone();
        label_by_loss(&prepared.plan, &mut calibration, None, &Silent).unwrap();

        let losses = [0, 1].map(|expert| {
            let weights = SourceWeights::new(prepared.models.expert(expert)).unwrap();
            next_token_losses(&weights, &calibration.sequences, None, &mut (), &Silent).unwrap()
        });
        let mut of_each = [0, 0];
        for (column, class) in calibration.samples.classes.iter().enumerate() {
            let expected = match (before[column], losses[0][column], losses[1][column]) {
                (None, ..) | (_, None, _) | (_, _, None) => None,
                (Some(Class::NotExpert(0)), ..) => Some(1),
                (_, Some(code), Some(math)) => Some(usize::from(math < code)),
            };
            assert_eq!(*class, expected.map(Class::Expert), "token {column}");
            expected.into_iter().for_each(|expert| of_each[expert] += 1);
        }
        assert!(of_each[0] > 10 && of_each[1] > 10, "{of_each:?}");
    }
}
