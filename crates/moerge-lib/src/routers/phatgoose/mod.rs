//! `gate_mode: phatgoose`: gates trained post hoc, each expert's on its own text (Muqeeth et al., arXiv 2402.05859).
//!
//! Each expert has one vector `v` per layer, initially 0. In `FFN_base(u) + sigmoid(v . u) (FFN_i(u) - FFN_base(u))`,
//! only `v` is trained to predict the expert's text ([`train_gates`]). The router's score of an expert is then
//! `LN(v_i) . LN(u) / sqrt(H)`, which [`rows`] turns into the rows of a standard router.

mod adam;
mod batches;
mod rows;

use super::{Calibration, Merged, calibration::WINDOW, fit::Class};
use adam::Adam;
use batches::Batches;
use moerge_core::{
    error::{Error, Result},
    plan::MoePlan,
    progress::Progress,
};
use moerge_infer::decoder::{Blend, GradientMemory, Text, WeightRounding, Weights, gradient_memory, ranges};

pub use rows::TrainedGates;

/// The memory needed to train the gates of `plan` on `threads` threads.
pub fn training_memory(
    plan: &MoePlan,
    base: &moerge_core::model::families::Description,
    threads: usize,
) -> GradientMemory {
    let fit = &plan.routing.fit;
    let longest = WINDOW.max(fit.self_text.tokens + 1);
    gradient_memory(&plan.description, base, fit.phatgoose.batch_tokens.max(longest), longest, threads)
}

/// Trains the gates of `expert`, `[layers][hidden]`, on its part of `calibration` that is not held out. The result does
/// not depend on the number of threads. Uses at most `memory` bytes if that is enough for one layer.
///
/// # Errors
/// The weights cannot be read, the loss is not finite, or the user stops the run.
pub fn train_gates(
    plan: &MoePlan,
    expert: usize,
    base: &dyn Weights,
    calibration: &Calibration,
    rounding: Option<WeightRounding>,
    memory: u64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f32>>> {
    let settings = &plan.routing.fit.phatgoose;
    let model = Merged::only(plan, expert)?;
    let threads = rayon::current_num_threads() + 1;
    let need = training_memory(plan, base.description(), threads);
    let blend = Blend::new(&model, base, rounding, &need, memory, progress)?;
    let texts = texts(calibration, expert);
    let mut batches = Batches::new(&texts, settings.batch_tokens, plan.output.seed);
    let options = &plan.description.decoder;
    let mut gates = vec![vec![0.0; options.hidden]; options.layers.len()];
    let mut adam = Adam::new(options.layers.len() * options.hidden);
    for step in 0..settings.steps {
        let found = blend.step(&batches.next(), &gates, progress)?;
        if !found.loss.is_finite() || found.gates.iter().flatten().any(|g| !g.is_finite()) {
            return Err(Error::input(format!("the loss of expert {expert} on its text is not finite in step {step}"))
                .hint("a model's weights may hold NaN or infinite numbers; or try a smaller `learning_rate`"));
        }
        progress.detail(&format!("gates of expert {expert}, step {step}: loss {:.4}", found.loss));
        let rate = settings.learning_rate * warm_up(step, settings.steps);
        adam.step(rate, gates.iter_mut().flatten(), found.gates.iter().flatten());
    }
    Ok(gates)
}

/// The fraction of the learning rate at `step`: linear warm-up over the first 6 % of the steps, then constant.
fn warm_up(step: usize, steps: usize) -> f64 {
    const PART: f64 = 0.06;
    ((step + 1) as f64 / (PART * steps as f64).max(1.0)).min(1.0)
}

/// The sequences of `expert` and the tokens to train on: those that follow a token that is not held out.
fn texts(calibration: &Calibration, expert: usize) -> Vec<Text> {
    let samples = &calibration.samples;
    let columns = ranges(&calibration.sequences);
    let text = |(range, sequence): (std::ops::Range<usize>, &Vec<u32>)| {
        // The first token may be bos, which belongs to no expert.
        let own = range.clone().any(|column| samples.classes[column] == Some(Class::Expert(expert)));
        let next = sequence.iter().skip(1).map(|next| Some(*next)).chain([None]);
        let targets: Vec<_> = range.zip(next).map(|(c, next)| next.filter(|_| !samples.held_out[c])).collect();
        (own && targets.iter().any(Option::is_some)).then(|| Text { tokens: sequence.clone(), targets })
    };
    columns.into_iter().zip(&calibration.sequences).filter_map(text).collect()
}

#[cfg(test)]
mod tests;
