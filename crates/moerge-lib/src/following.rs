//! How fast a router follows a text: how often a token's own expert is the first choice, by the token's distance from the
//! beginning of the text or from the last change of its subject.

use serde::{Deserialize, Serialize};

use moerge_core::{error::Result, plan::Slots};
use moerge_infer::decoder::{Observer, Routes};

/// Number of distances: 0, 1, 2 to 3, 4 to 7, and so on; the last has no end.
const BUCKETS: usize = 9;

/// The distance at which the last begins.
const LAST: u64 = 1 << (BUCKETS - 2);

/// Accuracy by distance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Following {
    /// Of tokens before any change, by their distance from the beginning.
    pub from_beginning: Vec<FollowedTokens>,
    /// Of tokens after a change, by their distance from it.
    pub after_change: Vec<FollowedTokens>,
}

/// The tokens at some distances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FollowedTokens {
    /// The smallest distance in tokens.
    pub from: u64,
    /// Number of tokens.
    pub tokens: u64,
    /// The fraction of them whose own expert is the first choice, averaged over the layers.
    pub accuracy: f64,
}

impl FollowedTokens {
    /// The distances: `0`, `4 to 7`, `128 or more`.
    pub fn distances(&self) -> String {
        match self.from {
            0 | 1 => self.from.to_string(),
            LAST => format!("{LAST} or more"),
            from => format!("{from} to {}", 2 * from - 1),
        }
    }
}

/// Where a token is in its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether the subject has changed before it.
    pub after_change: bool,
    /// Tokens since the last change, or since the beginning.
    pub distance: usize,
}

/// Counts for [`Following`].
#[derive(Debug, Clone, Default)]
pub(crate) struct FollowingCounter {
    layers: u64,
    counts: [[Count; BUCKETS]; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    right: u64,
    all: u64,
}

impl FollowingCounter {
    /// Counts the tokens of a layer: their places, and whether their own expert was the first choice.
    pub fn layer(&mut self, tokens: impl Iterator<Item = (Place, bool)>) {
        self.layers += 1;
        for (place, right) in tokens {
            let bucket = (usize::BITS - place.distance.leading_zeros()) as usize;
            let count = &mut self.counts[usize::from(place.after_change)][bucket.min(BUCKETS - 1)];
            count.all += 1;
            count.right += u64::from(right);
        }
    }

    /// The fractions.
    pub fn following(&self) -> Following {
        let followed = |counts: &[Count; BUCKETS]| {
            let seen = counts.iter().enumerate().filter(|(_, count)| count.all > 0);
            let tokens = |(bucket, count): (usize, &Count)| FollowedTokens {
                from: if bucket == 0 { 0 } else { 1 << (bucket - 1) },
                tokens: count.all / self.layers.max(1),
                accuracy: count.right as f64 / count.all as f64,
            };
            seen.map(tokens).collect()
        };
        Following { from_beginning: followed(&self.counts[0]), after_change: followed(&self.counts[1]) }
    }
}

/// Notes the first choice of every token, layer by layer.
pub(crate) struct FirstChoices<'a> {
    slots: &'a Slots,
    layers: Vec<Vec<usize>>,
}

impl<'a> FirstChoices<'a> {
    /// For a model with these `slots`.
    pub fn new(slots: &'a Slots) -> Self {
        Self { slots, layers: vec![Vec::new(); slots.layers()] }
    }

    /// How often the first choices were `own`, the expert of each token if it has one. Layers without an expert are not
    /// counted for it.
    pub fn following(&self, places: &[Option<Place>], own: &[Option<usize>]) -> Following {
        let mut counter = FollowingCounter::default();
        for (layer, first) in self.layers.iter().enumerate() {
            let members = self.slots.members(layer);
            let tokens = places.iter().zip(own).zip(first);
            counter.layer(tokens.filter_map(|((place, own), first)| {
                let own = own.filter(|own| members.contains(own))?;
                Some(((*place)?, own == *first))
            }));
        }
        counter.following()
    }
}

impl Observer for FirstChoices<'_> {
    fn routed(&mut self, layer: usize, routes: &mut Routes) -> Result<()> {
        let first = |choices: &Vec<(usize, f32)>| {
            self.slots.choices(layer, choices).first().map_or(usize::MAX, |(expert, _)| *expert)
        };
        let found: Vec<usize> = routes.experts.iter().map(first).collect();
        self.layers[layer].extend(found);
        Ok(())
    }
}

/// The places of the tokens of a sequence of which segments start at `starts`, the first at its first token of a subject.
pub(crate) fn places(starts: &[usize], len: usize) -> Vec<Option<Place>> {
    let place = |token: usize| {
        let segment = starts.iter().rposition(|start| *start <= token)?;
        Some(Place { after_change: segment > 0, distance: token - starts[segment] })
    };
    (0..len).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_by_their_distance() {
        let places = places(&[1, 4], 9);
        assert_eq!(places[0], None);
        assert_eq!(places[3], Some(Place { after_change: false, distance: 2 }));
        assert_eq!(places[4], Some(Place { after_change: true, distance: 0 }));
        let mut counter = FollowingCounter::default();
        for layer in 0..2 {
            // In the first layer, all tokens after the change are wrong.
            let right = |place: Place| layer == 1 || !place.after_change;
            counter.layer(places.iter().flatten().map(|place| (*place, right(*place))));
        }
        let tokens = |from, tokens, accuracy| FollowedTokens { from, tokens, accuracy };
        let following = counter.following();
        assert_eq!(following.from_beginning, [tokens(0, 1, 1.0), tokens(1, 1, 1.0), tokens(2, 1, 1.0)]);
        assert_eq!(
            following.after_change,
            [tokens(0, 1, 0.5), tokens(1, 1, 0.5), tokens(2, 2, 0.5), tokens(4, 1, 0.5)]
        );
    }
}
