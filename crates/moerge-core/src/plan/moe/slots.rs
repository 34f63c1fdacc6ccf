//! The slots of the experts, per layer.
//!
//! MoE formats have the same number of experts in all layers. So every layer has as many slots as the layer with the
//! most experts, and experts of different layers share a slot, which keeps the model small. In a layer with fewer
//! experts, the spare slots repeat one of its experts with the same router row. Both rows have equal scores: if that
//! expert is a token's first choice and there are two per token, it is chosen twice with weights that sum to 1; if it
//! is the second choice, it is chosen once. No token reaches an expert that is not in the layer.
//!
//! The repeated expert is the base if it is in the layer: tokens that go to it first belong to no specialist, so they
//! miss a second expert least. Otherwise it is the layer's first expert.

use crate::recipe::Recipe;

/// The expert in each slot of each layer. Experts are numbered as in the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    experts: usize,
    layers: Vec<Vec<usize>>,
}

impl Slots {
    /// Every expert in every layer, each in its own slot.
    pub fn all(experts: usize, layers: usize) -> Self {
        Self { experts, layers: vec![(0..experts).collect(); layers] }
    }

    /// The slots for `recipe` and models with this many layers. A layer without experts has no slots; the plan refuses
    /// it.
    pub fn of(recipe: &Recipe, layers: usize) -> Self {
        let is_in = |expert: usize, layer| recipe.experts[expert].layers.as_ref().is_none_or(|l| l.contains(layer));
        let base = recipe.experts.iter().position(|e| *e.source_model == *recipe.base_model);
        Self::new(recipe.experts.len(), layers, is_in, base)
    }

    fn new(experts: usize, layers: usize, is_in: impl Fn(usize, usize) -> bool, base: Option<usize>) -> Self {
        let there: Vec<Vec<usize>> = (0..layers).map(|l| (0..experts).filter(|e| is_in(*e, l)).collect()).collect();
        let width = there.iter().map(Vec::len).max().unwrap_or(0);
        // An expert keeps its slot across layers, so that drawings by slot are readable.
        let mut before: Vec<Option<usize>> = vec![None; width];
        let mut slots = Vec::with_capacity(layers);
        for there in there {
            let mut now: Vec<Option<usize>> = before.iter().map(|e| e.filter(|e| there.contains(e))).collect();
            for expert in &there {
                if !now.contains(&Some(*expert))
                    && let Some(free) = now.iter_mut().find(|slot| slot.is_none())
                {
                    *free = Some(*expert);
                }
            }
            let doubled = base.filter(|base| there.contains(base)).or(there.first().copied());
            slots.push(now.iter().filter_map(|slot| slot.or(doubled)).collect());
            before = now;
        }
        Self { experts, layers: slots }
    }

    /// The number of experts of the recipe.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// The number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The number of slots per layer.
    pub fn width(&self) -> usize {
        self.layers.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The expert in each slot, per layer.
    pub fn all_layers(&self) -> &[Vec<usize>] {
        &self.layers
    }

    /// The expert in each slot of `layer`.
    pub fn in_layer(&self, layer: usize) -> &[usize] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// The distinct experts of `layer` in ascending order.
    pub fn members(&self, layer: usize) -> Vec<usize> {
        let mut members = self.in_layer(layer).to_vec();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The first slot of `expert` in `layer`.
    pub fn slot(&self, layer: usize, expert: usize) -> Option<usize> {
        self.in_layer(layer).iter().position(|e| *e == expert)
    }

    /// The gate of `layer` with one row per slot, from one row per member.
    pub fn spread(&self, layer: usize, members: &[f32]) -> Vec<f32> {
        let order = self.members(layer);
        let rows: Vec<&[f32]> = members.chunks_exact((members.len() / order.len().max(1)).max(1)).collect();
        let row = |expert: &usize| rows.get(order.iter().position(|e| e == expert)?).copied();
        self.in_layer(layer).iter().filter_map(row).flatten().copied().collect()
    }

    /// Sums values per slot of `layer` by expert; 0 for experts that are not in the layer.
    pub fn by_expert(&self, layer: usize, of_slots: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.experts];
        for (expert, x) in self.in_layer(layer).iter().zip(of_slots) {
            if let Some(sum) = sums.get_mut(*expert) {
                *sum += x;
            }
        }
        sums
    }

    /// Converts a token's choices of slots in `layer` to experts, largest weight first. The weights of an expert that
    /// is chosen twice are summed.
    pub fn choices(&self, layer: usize, of_slots: &[(usize, f32)]) -> Vec<(usize, f32)> {
        let mut choices: Vec<(usize, f32)> = Vec::new();
        for (slot, weight) in of_slots {
            let expert = self.in_layer(layer).get(*slot).copied().unwrap_or(*slot);
            match choices.iter_mut().find(|(e, _)| *e == expert) {
                Some((_, sum)) => *sum += weight,
                None => choices.push((expert, *weight)),
            }
        }
        choices
    }

    /// Whether every expert is in every layer.
    pub fn are_plain(&self) -> bool {
        self.layers.iter().all(|slots| slots.len() == self.experts && slots.iter().copied().eq(0..self.experts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(layers: usize, of_experts: &[&[usize]], base: Option<usize>) -> Vec<Vec<usize>> {
        Slots::new(of_experts.len(), layers, |expert, layer| of_experts[expert].contains(&layer), base).layers
    }

    #[test]
    fn experts_of_different_layers_share_a_slot() {
        let all = &[0, 1, 2, 3][..];
        assert_eq!(slots(4, &[all, all], None), [[0, 1]; 4]);
        assert_eq!(slots(4, &[all, &[0, 1], &[2, 3]], None), [[0, 1], [0, 1], [0, 2], [0, 2]]);
        // The base keeps its slot, whichever experts precede it.
        assert_eq!(slots(4, &[&[0], &[2, 3], all], Some(2)), [[0, 2], [2, 2], [1, 2], [1, 2]]);
    }

    #[test]
    fn spare_slots_hold_the_base_or_else_the_first() {
        let all = &[0, 1, 2][..];
        assert_eq!(slots(3, &[all, &[1], all, &[1, 2]], Some(2)), [[0, 2, 2, 2], [0, 2, 1, 3], [0, 2, 2, 3]]);
        assert_eq!(slots(3, &[&[0], &[0, 1], &[2]], None), [[0, 1], [1, 1], [2, 2]]);
    }

    #[test]
    fn rows_of_members_go_to_slots_and_back() {
        let slots = Slots { experts: 4, layers: vec![vec![3, 1, 3]] };
        assert_eq!((slots.members(0), slots.slot(0, 3), slots.slot(0, 0)), (vec![1, 3], Some(0), None));
        assert_eq!(slots.spread(0, &[1.0, 1.5, 3.0, 3.5]), [3.0, 3.5, 1.0, 1.5, 3.0, 3.5]);
        assert_eq!(slots.by_expert(0, &[0.25, 0.5, 0.25]), [0.0, 0.5, 0.0, 0.5]);
        assert_eq!(slots.choices(0, &[(0, 0.5), (2, 0.5)]), [(3, 1.0)]);
        assert_eq!(slots.choices(0, &[(1, 0.7), (0, 0.3)]), [(1, 0.7), (3, 0.3)]);
        assert!(!slots.are_plain() && Slots::all(3, 2).are_plain());
    }
}
