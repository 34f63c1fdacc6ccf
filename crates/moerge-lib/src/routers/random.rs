//! Random gates, like those of an untrained MoE.

use super::Routers;
use moerge_core::{
    numeric::noise::{add_noise, uniform},
    plan::Routing,
    recipe::GateMode,
};

/// `random`: N(0, 1); `uniform_random`: U(-1/sqrt(H), 1/sqrt(H)), the initialization of `torch.nn.Linear`. Not
/// normalized.
///
/// A row depends only on the seed, the layer and the expert's index, so appending experts does not change the others'
/// rows.
pub(super) fn random_routers(routing: &Routing, layers: usize, hidden: usize) -> Routers {
    let gate = |name: String, rows: usize| {
        if routing.gate_mode == GateMode::UniformRandom {
            let bound = 1.0 / (hidden as f32).sqrt();
            return uniform(rows * hidden, routing.seed, &name).into_iter().map(|x| x * bound).collect();
        }
        let mut gate = vec![0.0; rows * hidden];
        add_noise(&mut gate, routing.seed, &name, 0, 1.0);
        gate
    };
    let experts = routing.experts.len();
    let in_slots = |layer: usize, rows: Vec<f32>| -> Vec<f32> {
        let slots = routing.slots.in_layer(layer).iter();
        slots.flat_map(|expert| &rows[expert * hidden..(expert + 1) * hidden]).copied().collect()
    };
    let shared = if routing.shared_expert.is_some() { layers } else { 0 };
    Routers {
        experts: routing.slots.width(),
        hidden,
        gates: (0..layers).map(|layer| in_slots(layer, gate(format!("layers.{layer}.gate"), experts))).collect(),
        shared_gates: (0..shared).map(|layer| gate(format!("layers.{layer}.shared_expert_gate"), 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moerge_core::{
        plan::{Prompts, Slots},
        recipe::FitSettings,
    };

    fn routers(gate_mode: GateMode, experts: usize, seed: u64) -> Routers {
        let routing = Routing {
            gate_mode,
            experts: vec![Prompts::default(); experts],
            slots: Slots::all(experts, 3),
            shared_expert: Some(Prompts::default()),
            seed,
            fit: FitSettings::default(),
            balance: false,
            validation: Vec::new(),
        };
        random_routers(&routing, 3, 1024)
    }

    fn deviation(values: &[f32]) -> f64 {
        (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn have_the_spread_they_promise() {
        let normal = routers(GateMode::Random, 4, 7);
        let uniform = routers(GateMode::UniformRandom, 4, 7);
        for layer in 0..3 {
            assert!((deviation(&normal.gates[layer]) - 1.0).abs() < 0.05);
            assert!(uniform.gates[layer].iter().all(|x| x.abs() <= 1.0 / 32.0));
            assert!((deviation(&uniform.gates[layer]) * 32.0 - (1.0f64 / 3.0).sqrt()).abs() < 0.02);
        }
        assert_ne!(normal.gates[0], normal.gates[1]);
        assert_ne!(normal.gates[0][..1024], normal.shared_gates[0]);
    }

    /// The exact bits: a change here would change users' models.
    #[test]
    fn are_the_same_on_every_machine() {
        let bits = |routers: Routers| [routers.gates[1][5].to_bits(), routers.shared_gates[2][9].to_bits()];
        assert_eq!(bits(routers(GateMode::Random, 4, 42)), [1042332472, 991688892]);
        assert_eq!(bits(routers(GateMode::UniformRandom, 4, 42)), [3162515355, 3160253551]);
    }

    #[test]
    fn a_further_expert_changes_no_other() {
        let (two, three) = (routers(GateMode::Random, 2, 1), routers(GateMode::Random, 3, 1));
        assert_eq!(two.gates[2], three.gates[2][..2 * 1024]);
        assert_ne!(two.gates, routers(GateMode::Random, 2, 2).gates);
    }
}
