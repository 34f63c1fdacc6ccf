//! Gates trained by gradient, expert by expert; those of a run before are kept.

use moerge_checkpoint::OutputDir;

use super::{MergeOptions, Prepared};
use crate::routers::{self, Calibration, Routers, TrainedGates};
use moerge_core::{
    error::Result,
    progress::{Progress, Stage},
    recipe::GateMode,
};
use moerge_infer::SourceWeights;

impl Prepared {
    /// The gates that `gate_mode: phatgoose` trains on `calibration`; `None` in every other mode. Within
    /// `memory` bytes beside what a run holds all the time.
    pub(super) fn trained_gates(
        &self,
        calibration: &Calibration,
        memory: u64,
        output: &OutputDir,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<Option<TrainedGates>> {
        if self.plan.routing.gate_mode != GateMode::PhatGoose {
            return Ok(None);
        }
        let decoder = &self.plan.description.decoder;
        let (layers, hidden, settings) = (decoder.layers.len(), decoder.hidden, &self.plan.routing.fit.phatgoose);
        let base = SourceWeights::new(self.models.base())?;
        let learners: Vec<usize> = (0..self.plan.routing.experts.len()).filter(|e| !self.is_base(*e)).collect();
        let each = (2 * layers * settings.steps) as u64;
        progress.start(Stage::Gates, each * learners.len() as u64, 0);
        let mut gates = vec![vec![vec![0.0; hidden]; layers]; self.plan.routing.experts.len()];
        for expert in &learners {
            let name = format!("gates_{expert}.safetensors");
            let kept = output.kept(&name)?.and_then(|kept| Routers::from_bytes(&kept).ok());
            let kept = kept.filter(|kept| kept.gates.len() == layers && kept.hidden == hidden);
            gates[*expert] = match kept {
                Some(kept) => {
                    progress.advance(Stage::Gates, each);
                    kept.gates
                }
                None => {
                    let rounding = options.rounding;
                    routers::train_gates(&self.plan, *expert, &base, calibration, rounding, memory, progress)?
                }
            };
            let kept = Routers { experts: 1, hidden, gates: gates[*expert].clone(), shared_gates: Vec::new() };
            output.keep(&name, &kept.to_bytes()?)?;
        }
        progress.finish(Stage::Gates, &format!("{} gates, {} steps each", learners.len(), settings.steps));
        Ok(Some(TrainedGates(gates)))
    }

    /// Whether the FFN of `expert` is the base's: a gate between the two has nothing to learn.
    fn is_base(&self, expert: usize) -> bool {
        let recipe = self.recipe.experts.get(expert);
        let as_it_is = |e: &moerge_core::recipe::Expert| {
            e.noise_scale.is_none_or(|n| n == 0.0) && e.residual_scale.is_none_or(|s| s == 1.0)
        };
        self.models.experts.get(expert) == Some(&self.models.base) && recipe.is_some_and(as_it_is)
    }
}
