//! Balances the load: shifts router rows until no expert is starved, if that costs almost no perplexity.
//!
//! A first pass over the new MoE, on the text of the fit, measures load and perplexity. A second pass shifts the
//! starved experts of each layer ([`shift`]) before it runs the next layer, so later layers are shifted for the inputs
//! that they will get. If that costs too much perplexity on held-out tokens, another pass aims at a smaller share.
//! (Scaling the same shifts down would not help: a bias acts through an exponential, so half of it feeds hardly any
//! expert at nearly the same cost.)

mod shift;

use serde::{Deserialize, Serialize};

use super::{
    Routers,
    calibration::Calibration,
    fit::{Shape, common_direction, scores},
    losses::{losses_at, perplexity},
    merged::Merged,
};
use moerge_core::{
    error::Result,
    plan::{MoePlan, Routing},
    progress::{Progress, Stage},
};
use moerge_infer::decoder::{Activations, Observer, Routes, WeightRounding};
use shift::Layer;

/// Maximum relative increase of perplexity on held-out tokens.
pub const MAX_COST: f64 = 0.005;

/// Minimum loads of an expert as fractions of an even share. Experts below the first are starved; the others are tried
/// if the first costs too much.
pub const SHARES: [f64; 3] = [0.5, 0.25, 0.125];

/// The result of balancing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// The minimum load that the shifts reach, as a fraction of an even share; 0 if nothing was shifted, because no
    /// expert was starved or because even the smallest share costs too much.
    pub share: f64,
    /// The load of the least loaded expert of all layers before, as a fraction of an even share.
    pub least_before: f64,
    /// The same after.
    pub least_after: f64,
    /// Perplexity of held-out tokens before.
    pub perplexity_before: f64,
    /// The same after.
    pub perplexity_after: f64,
    /// Per layer, the fraction of all choices that each expert got before; [`super::LayerReport::load`] has those
    /// after.
    pub load_before: Vec<Vec<f64>>,
}

/// Balanced routers, the result, and the load of each expert per layer.
pub struct Balanced {
    /// The routers.
    pub routers: Routers,
    /// The result.
    pub balance: Balance,
    /// Per layer, the fraction of all choices that each expert gets.
    pub load: Vec<Vec<f64>>,
}

impl Balance {
    /// The relative increase of perplexity.
    pub fn cost(&self) -> f64 {
        self.perplexity_after / self.perplexity_before - 1.0
    }

    /// The result as a sentence.
    pub fn summary(&self) -> String {
        let percent = |part: f64| format!("{:.0} %", 100.0 * part);
        let (before, after) = (percent(self.least_before), percent(self.least_after));
        if self.share > 0.0 {
            let cost = 100.0 * self.cost();
            return format!(
                "balanced: the least loaded expert of a layer has {after} of an even share instead of {before}, at \
                 {cost:+.2} % of perplexity"
            );
        }
        let why = if self.least_before >= SHARES[0] {
            "no expert is starved".to_owned()
        } else {
            let smallest = 100.0 * SHARES[SHARES.len() - 1];
            format!("even {smallest} % would cost more than {:.1} % of perplexity", 100.0 * MAX_COST)
        };
        format!("balanced: nothing is shifted, the least loaded expert of a layer has {before} of an even share; {why}")
    }
}

/// The load of the least loaded expert of all layers as a fraction of an even share.
fn min_load(plan: &MoePlan, load: &[Vec<f64>]) -> f64 {
    let of_layer = |(layer, load): (usize, &Vec<f64>)| {
        let members = plan.routing.slots.members(layer);
        let parts = members.iter().filter_map(|expert| load.get(*expert));
        parts.fold(f64::INFINITY, |min, part| min.min(part * members.len() as f64))
    };
    load.iter().enumerate().map(of_layer).fold(f64::INFINITY, f64::min)
}

/// Balances `routers`, which were fitted to `calibration`. The result is the same for any number of threads.
///
/// # Errors
/// The weights cannot be read, or the user stops the run.
pub fn balance(
    plan: &MoePlan,
    routers: &Routers,
    calibration: &Calibration,
    rounding: Option<WeightRounding>,
    progress: &dyn Progress,
) -> Result<Balanced> {
    let run = |merged: &Merged, share: Option<f64>| -> Result<Watched> {
        progress.start(Stage::Prompts, plan.description.decoder.layers.len() as u64, 0);
        let shifting = share.map(|share| (routers, share));
        let mut watch = LoadObserver { plan, merged, calibration, shifting, shifted: Vec::new(), load: Vec::new() };
        let samples = &calibration.samples;
        let kept_back = |column: usize| samples.held_out[column] && samples.classes[column].is_some();
        let losses = losses_at(merged, &calibration.sequences, kept_back, rounding, &mut watch, progress)?;
        let seen = Watched {
            min_load: min_load(plan, &watch.load),
            perplexity: perplexity(&losses),
            load: watch.load,
            shifted: watch.shifted,
        };
        progress.finish(
            Stage::Prompts,
            &format!(
                "balance: least loaded expert {:.0} % of an even share, perplexity {:.3}",
                100.0 * seen.min_load,
                seen.perplexity
            ),
        );
        Ok(seen)
    };
    let before = run(&Merged::with_routers(plan, routers)?, None)?;
    let mut balance = Balance {
        share: 0.0,
        least_before: before.min_load,
        least_after: before.min_load,
        perplexity_before: before.perplexity,
        perplexity_after: before.perplexity,
        load_before: before.load.clone(),
    };
    for share in SHARES.into_iter().filter(|_| before.min_load < SHARES[0]) {
        let seen = run(&Merged::new(plan)?, Some(share))?;
        if seen.perplexity <= before.perplexity * (1.0 + MAX_COST) {
            (balance.share, balance.least_after, balance.perplexity_after) = (share, seen.min_load, seen.perplexity);
            let routers = Routers { gates: seen.shifted, ..routers.clone() };
            return Ok(Balanced { routers, balance, load: seen.load });
        }
    }
    Ok(Balanced { routers: routers.clone(), balance, load: before.load })
}

/// The measurements of a pass.
struct Watched {
    min_load: f64,
    perplexity: f64,
    load: Vec<Vec<f64>>,
    shifted: Vec<Vec<f32>>,
}

/// Counts choices. With `shifting`, also shifts each layer's router so that each expert gets its share, and sets its
/// gate.
struct LoadObserver<'a> {
    plan: &'a MoePlan,
    merged: &'a Merged,
    calibration: &'a Calibration,
    shifting: Option<(&'a Routers, f64)>,
    shifted: Vec<Vec<f32>>,
    load: Vec<Vec<f64>>,
}

impl LoadObserver<'_> {
    /// The columns of the tokens that count.
    fn columns(&self) -> impl Iterator<Item = usize> {
        let classes = self.calibration.samples.classes.iter().enumerate();
        classes.filter(|(_, class)| class.is_some()).map(|(column, _)| column)
    }

    /// The gate of `layer`, shifted for its actual inputs.
    fn shift(&self, layer: usize, gate: &[f32], share: f64, u: &Activations) -> Result<Vec<f32>> {
        let Routing { gate_mode, slots, .. } = &self.plan.routing;
        let members = slots.members(layer);
        let shape = Shape { mode: *gate_mode, experts: members.len(), shared: false };
        let direction = common_direction(u, &self.calibration.samples.among(&members), shape)?;
        let columns: Vec<usize> = self.columns().collect();
        let rows: Vec<Vec<f64>> = gate
            .chunks_exact(u.features().max(1))
            .map(|row| row.iter().map(|w| f64::from(*w)).collect())
            .chain([direction.clone()])
            .collect();
        let mut scores = scores(&rows, u, &columns);
        let along = scores.pop().unwrap_or_default();
        let place = |expert: &usize| members.iter().position(|member| member == expert);
        let of_slot: Vec<usize> = slots.in_layer(layer).iter().filter_map(place).collect();
        let top_k = self.plan.shape.top_k;
        let biases = Layer { scores, along, of_slot: &of_slot, experts: members.len(), top_k, share }.biases();
        let mut shifted = gate.to_vec();
        for (row, member) in shifted.chunks_exact_mut(u.features().max(1)).zip(&of_slot) {
            let bias = biases[*member];
            row.iter_mut().zip(&direction).for_each(|(w, a)| *w = (f64::from(*w) + bias * a) as f32);
        }
        Ok(shifted)
    }
}

impl Observer for LoadObserver<'_> {
    fn router_input(&mut self, layer: usize, u: &Activations) -> Result<()> {
        let Some((routers, share)) = self.shifting else { return Ok(()) };
        let Some(gate) = routers.gates.get(layer) else { return Ok(()) };
        let shifted = self.shift(layer, gate, share, u)?;
        self.merged.set_gate(layer, shifted.clone())?;
        if let Some(gate) = routers.shared_gates.get(layer) {
            self.merged.set_shared_gate(layer, gate.clone())?;
        }
        self.shifted.push(shifted);
        Ok(())
    }

    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        let slots = &self.plan.routing.slots;
        let mut chosen = vec![0.0; slots.width()];
        let (mut all, mut count) = (0.0, |slot: usize| chosen[slot] += 1.0);
        for (slot, _) in self.columns().filter_map(|column| routes.experts.get(column)).flatten() {
            count(*slot);
            all += 1.0;
        }
        let parts: Vec<f64> = chosen.into_iter().map(|n: f64| n / f64::max(all, 1.0)).collect();
        self.load.push(slots.by_expert(layer, &parts));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
