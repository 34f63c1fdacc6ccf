//! Which expert lies where, layer by layer.
//!
//! The formats of MoEs have one number of experts for all layers. So a layer has as many slots as the layer of most
//! experts has experts; experts of different layers share a slot, and the model is that much smaller. In a layer of
//! fewer experts the spare slots hold one of its experts again, with the same row of the router. Both rows score alike:
//! where that expert comes first, a token of two experts meets it twice, with weights that add up to 1; where it comes
//! second, it is met once. No token ever meets a wrong one.
//!
//! The expert that is there twice is the base, where it is one of the layer's: what goes to it first is what none of
//! the specialists is for, so a second opinion is missed least. Else it is the first of the layer's experts.

use crate::recipe::Recipe;

/// The experts of every layer, slot by slot. Experts are counted as in the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    experts: usize,
    layers: Vec<Vec<usize>>,
}

impl Slots {
    /// Every expert in every layer, in a slot of its own.
    pub fn all(experts: usize, layers: usize) -> Self {
        Self { experts, layers: vec![(0..experts).collect(); layers] }
    }

    /// The slots of what `recipe` makes of models with this many layers. A layer without experts has no slots; the plan
    /// refuses it.
    pub fn of(recipe: &Recipe, layers: usize) -> Self {
        let is_in = |expert: usize, layer| recipe.experts[expert].layers.as_ref().is_none_or(|l| l.contains(layer));
        let base = recipe.experts.iter().position(|e| *e.source_model == *recipe.base_model);
        Self::new(recipe.experts.len(), layers, is_in, base)
    }

    fn new(experts: usize, layers: usize, is_in: impl Fn(usize, usize) -> bool, base: Option<usize>) -> Self {
        let there: Vec<Vec<usize>> = (0..layers).map(|l| (0..experts).filter(|e| is_in(*e, l)).collect()).collect();
        let width = there.iter().map(Vec::len).max().unwrap_or(0);
        // An expert keeps its slot from layer to layer, so that what is drawn by slots can be read.
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

    /// Experts of the recipe.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Layers of the model.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Slots of a layer.
    pub fn width(&self) -> usize {
        self.layers.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The expert in each slot, layer by layer.
    pub fn all_layers(&self) -> &[Vec<usize>] {
        &self.layers
    }

    /// The expert in each slot of `layer`.
    pub fn in_layer(&self, layer: usize) -> &[usize] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// The experts of `layer`, each once, in the order of their numbers.
    pub fn members(&self, layer: usize) -> Vec<usize> {
        let mut members = self.in_layer(layer).to_vec();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The first slot of `layer` that holds `expert`.
    pub fn slot(&self, layer: usize, expert: usize) -> Option<usize> {
        self.in_layer(layer).iter().position(|e| *e == expert)
    }

    /// A gate of `layer`, a row a slot, of the rows of its members in their order.
    pub fn spread(&self, layer: usize, members: &[f32]) -> Vec<f32> {
        let order = self.members(layer);
        let rows: Vec<&[f32]> = members.chunks_exact((members.len() / order.len().max(1)).max(1)).collect();
        let row = |expert: &usize| rows.get(order.iter().position(|e| e == expert)?).copied();
        self.in_layer(layer).iter().filter_map(row).flatten().copied().collect()
    }

    /// Numbers of the slots of `layer` added up by expert; 0 for one that is not there.
    pub fn by_expert(&self, layer: usize, of_slots: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.experts];
        for (expert, x) in self.in_layer(layer).iter().zip(of_slots) {
            if let Some(sum) = sums.get_mut(*expert) {
                *sum += x;
            }
        }
        sums
    }

    /// A token's choices of slots in `layer` as choices of experts, the largest weight first. One that is met twice has
    /// the sum of both weights.
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
