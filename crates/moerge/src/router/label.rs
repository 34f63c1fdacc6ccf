//! `label: loss`: every token is for the expert that says the next one best, whoever's text it is in (MergeME, arXiv
//! 2502.00997, routes by perplexity; here a stock router learns it).

use super::{calibration::Calibration, fit::Class, losses::next_token_losses, merged::Merged};
use crate::{
    error::Result,
    plan::Plan,
    progress::{Progress, Stage},
    transformer::WeightRounding,
};

/// Labels the tokens of `calibration` anew. One pass over the shared weights and an expert's, for each expert.
pub fn label_by_loss(
    plan: &Plan,
    calibration: &mut Calibration,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<()> {
    let experts = plan.shape.experts;
    progress.start(Stage::Prompts, (plan.description.decoder.layers * experts) as u64, 0);
    let mut best: Vec<Option<(f64, usize)>> = vec![None; calibration.tokens()];
    for expert in 0..experts {
        let losses = next_token_losses(&Merged::only(plan, expert)?, &calibration.sequences, rounding, progress)?;
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
