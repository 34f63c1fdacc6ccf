//! How far an expert's attention, norms, embeddings and head are from the base's.

use super::Prepared;
use moerge_core::{
    error::Result,
    model::{
        families::{LayerRole, Role},
        source::{Source, Weight},
    },
    plan::moe::attention,
};
use moerge_infer::{SourceWeights, decoder::Weights};

/// Rows that are read of each tensor, spread evenly over it.
const ROWS: usize = 16;

impl Prepared {
    /// How far each expert's attention, norms, embeddings and head are from the base's.
    pub(super) fn shared_differences(&self) -> Result<Vec<f64>> {
        let mut of_source = vec![None; self.models.sources.len()];
        for index in &self.models.experts {
            if *index != self.models.base && of_source[*index].is_none() {
                let source = &self.models.sources[*index];
                of_source[*index] = Some(shared_difference(self.models.base(), source)?);
            }
        }
        Ok(self.models.experts.iter().map(|index| of_source[*index].unwrap_or_default()).collect())
    }

    /// Warnings about experts whose training changed weights that the MoE does not take from them.
    pub(super) fn shared_warning(&self, differences: &[f64], names: &[String]) -> Option<String> {
        if self.recipe.shared_weights.of_experts() {
            return None;
        }
        let who = differences.iter().zip(names).enumerate().filter(|(_, (d, _))| **d > 1e-3);
        let who: Vec<String> = who.map(|(e, (d, name))| format!("expert {e} ({name}) by {:.1} %", 100.0 * d)).collect();
        // Averaging is no remedy if attention works differently from the base's.
        let base = self.models.base();
        let alike = |index: &usize| attention::differences(base, &self.models.sources[*index]).is_empty();
        let advice =
            if self.models.experts.iter().all(alike) { "; `shared_weights: average` takes their mean" } else { "" };
        (!who.is_empty()).then(|| {
            format!(
                "attention, norms and embeddings come from the base, and the experts' own differ from it: {}{advice}",
                who.join(", ")
            )
        })
    }
}

/// `|expert - base| / |base|` over some rows of every weight that the MoE has only once; 0 where they are the same
/// bytes.
fn shared_difference(base: &Source, expert: &Source) -> Result<f64> {
    let (ours, theirs) = (SourceWeights::new(base)?, SourceWeights::new(expert)?);
    let (mut difference, mut size) = (0.0f64, 0.0f64);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for tensor in &base.description.tensors {
        if matches!(tensor.role, Role::Layer(_, LayerRole::Ffn(_))) {
            continue;
        }
        let (Some(own), Some(other)) = (base.weight(tensor.role), expert.weight(tensor.role)) else { continue };
        let place = |w: &Weight| w.view().map(|view| (view.file.path.clone(), view.offset));
        let same = place(own).is_some() && place(own) == place(other);
        if (same && own.lora.is_none() && other.lora.is_none()) || own.shape().get(1..) != other.shape().get(1..) {
            continue;
        }
        let rows = own.shape().first().copied().unwrap_or(1).min(other.shape().first().copied().unwrap_or(1));
        let width: usize = own.shape().iter().skip(1).product();
        a.resize(width, 0.0);
        b.resize(width, 0.0);
        for row in (0..rows).step_by((rows / ROWS).max(1)) {
            ours.read_rows(tensor.role, row..row + 1, &mut a)?;
            theirs.read_rows(tensor.role, row..row + 1, &mut b)?;
            size += a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            difference += a.iter().zip(&b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>();
        }
    }
    Ok(if size > 0.0 { (difference / size).sqrt() } else { 0.0 })
}
