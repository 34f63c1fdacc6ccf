//! The fitting pass: runs the planned MoE on the experts' text and fits every layer's router to its actual inputs.
//!
//! It is one pass over the weights. When it reaches a layer's router, the router's true inputs are known, because the
//! layers below already use their fitted routers. The router is fitted to them, and the tokens are then routed by the
//! new gate.

use super::{
    Routers,
    calibration::{Calibration, TextLengths},
    fit::{Shape, fit, load, regression_bytes, scores, statistics_bytes},
    merged::Merged,
    phatgoose::TrainedGates,
    report::{ExpertReport, LayerReport, RoutingReport},
    sharpness::Copies,
};
use crate::following::FollowingCounter;
use moerge_core::{
    error::{Error, Result},
    model::families::DecoderOptions,
    plan::{MoePlan, Routing},
    progress::{Progress, Stage},
    recipe::GateMode,
};
use moerge_infer::decoder::{Activations, Observer, Pass, Routes, WeightRounding, forward};

/// Minimum number of tokens per expert: fewer have no variance.
const MIN_TOKENS: usize = 2;

/// Fits the routers of `plan` to `calibration`, also spliced, or makes them from `trained` gates.
///
/// The result is the same for any number of threads. Every weight is read once (FFN weights more often if there are
/// more tokens than fit into one block).
///
/// # Errors
/// An expert has too little text, the weights cannot be read, or the user stops the run.
pub fn fit_routers(
    plan: &MoePlan,
    calibration: &Calibration,
    trained: Option<&TrainedGates>,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<(Routers, RoutingReport)> {
    let experts = 0..plan.routing.slots.experts();
    let experts: Vec<ExpertReport> = experts.map(|e| expert(plan, calibration, e)).collect::<Result<_>>()?;
    let layers = plan.description.decoder.layers.len();
    let splices = plan.routing.fit.splice && trained.is_none();
    let calibration =
        if splices { &calibration.with_spliced(plan.routing.fit.tokens, plan.output.seed) } else { calibration };
    let copies = Copies::new(plan, calibration);
    let sequences = copies.sequences(calibration);
    let merged = Merged::new(plan)?;
    let mut fitting = Fitting {
        plan,
        merged: &merged,
        calibration,
        copies: &copies,
        trained,
        gates: Vec::new(),
        shared_gates: Vec::new(),
        reports: Vec::new(),
        following: FollowingCounter::default(),
    };
    progress.start(Stage::Prompts, layers as u64, 0);
    let x = forward(&merged, &sequences, Pass { rounding, ..Pass::default() }, &mut fitting, progress)?;
    progress.finish(Stage::Prompts, &format!("{} texts, {} tokens", calibration.sequences.len(), calibration.tokens()));

    let Fitting { mut gates, shared_gates, reports, following, .. } = fitting;
    let mut report = RoutingReport::new(plan, experts, reports, following.following());
    report.sharpness = copies.compare(&merged, calibration, &x, progress)?;
    if let Some(sharpness) = &report.sharpness {
        gates.iter_mut().flatten().for_each(|w| *w *= sharpness.factor as f32);
    }
    let hidden = plan.description.decoder.hidden;
    Ok((Routers { experts: plan.shape.experts, hidden, gates, shared_gates }, report))
}

/// The lengths of the sequences that go through the model in a fit to text of these lengths, at most.
pub fn fit_lengths(plan: &MoePlan, lengths: &TextLengths) -> Vec<usize> {
    let Routing { gate_mode, fit, .. } = &plan.routing;
    let splices = fit.splice && *gate_mode != GateMode::PhatGoose;
    Copies::lengths(plan, if splices { lengths.with_spliced(fit.tokens) } else { lengths.all().collect() })
}

/// Bytes that a fit to `tokens` tokens needs in addition to the pass: the sums of a layer's fit.
pub fn fit_memory(decoder: &DecoderOptions, tokens: usize, threads: usize) -> u64 {
    statistics_bytes(decoder.hidden, threads) + regression_bytes(decoder.hidden, tokens)
}

/// The text statistics of expert `index`; an error if it has too little text.
fn expert(plan: &MoePlan, calibration: &Calibration, index: usize) -> Result<ExpertReport> {
    let (tokens, held_out) = calibration.tokens_of(index);
    if tokens < MIN_TOKENS {
        let mode = plan.routing.gate_mode.name();
        return Err(Error::input(format!("expert {index} has too little text for gate_mode {mode}"))
            .fact("tokens", format!("{tokens} (without the first one if all texts share it)"))
            .fact("needed", format!("{MIN_TOKENS}; a few hundred to route well"))
            .hint("give it more `positive_prompts`, a `positive_prompts_file`, or more `self_text`"));
    }
    Ok(ExpertReport { tokens: tokens as u64, held_out: held_out as u64 })
}

struct Fitting<'a> {
    plan: &'a MoePlan,
    merged: &'a Merged,
    calibration: &'a Calibration,
    copies: &'a Copies,
    trained: Option<&'a TrainedGates>,
    gates: Vec<Vec<f32>>,
    shared_gates: Vec<Vec<f32>>,
    reports: Vec<LayerReport>,
    following: FollowingCounter,
}

impl Observer for Fitting<'_> {
    fn router_input(&mut self, layer: usize, u: &Activations) -> Result<()> {
        let Routing { gate_mode, slots, shared_expert, .. } = &self.plan.routing;
        let members = slots.members(layer);
        let shape = Shape { mode: *gate_mode, experts: members.len(), shared: shared_expert.is_some() };
        let samples = self.calibration.samples.among(&members);
        let fit = match self.trained {
            Some(gates) => gates.layer(layer, &members, u, &samples, shape)?,
            None => fit(u, &samples, shape)?,
        };
        if fit.gate.iter().chain(fit.shared_gate.iter().flatten()).any(|w| !w.is_finite()) {
            return Err(Error::input(format!("the inputs of the router of layer {layer} are not finite"))
                .hint("a model's weights may contain NaN or infinities, or not match its config.json"));
        }
        let gate = slots.spread(layer, &fit.gate);
        self.merged.set_gate(layer, gate.clone())?;
        if let Some(gate) = &fit.shared_gate {
            self.merged.set_shared_gate(layer, gate.clone())?;
        }
        let rows: Vec<Vec<f64>> =
            gate.chunks(u.features().max(1)).map(|row| row.iter().map(|w| f64::from(*w)).collect()).collect();
        let labelled = self.calibration.samples.classes.iter().enumerate().filter(|(_, class)| class.is_some());
        let columns: Vec<usize> = labelled.map(|(column, _)| column).collect();
        let load = load(&scores(&rows, u, &columns), self.plan.shape.top_k);
        let placed = fit.right.iter().filter_map(|(column, right)| Some((self.calibration.places[*column]?, *right)));
        self.following.layer(placed);
        self.reports.push(LayerReport::new(slots, layer, &fit, &load));
        self.gates.push(gate);
        self.shared_gates.extend(fit.shared_gate);
        Ok(())
    }
    fn routed(&mut self, _layer: usize, routes: &mut Routes) -> Result<()> {
        self.copies.sharpen(routes);
        Ok(())
    }
}
