//! Thinning a difference: which of its elements stay, and which become 0.

use super::super::{
    Place,
    gram::differences,
    select::{Cut, bits, cuts},
};
use super::{Kept, Key, Ranked};
use crate::{
    error::{Cause, Error, Result},
    numeric::{ranks::magnitude_and_place, simd::vectorised},
    ops::inputs::Inputs,
};

/// Which elements of a difference stay.
pub(in super::super) enum Thinning {
    /// All.
    Everything,
    /// None.
    Nothing,
    /// Those between two cuts, in order of magnitude.
    Between(Cut, Cut),
    /// Each with the same probability.
    Random(Key, f64),
    /// Each with a probability by its rank among the magnitudes of its row.
    Ranked(Key, Ranked),
    /// Those that an earlier pass found.
    Kept(Kept),
}

impl Thinning {
    /// Whether it may change anything.
    pub fn drops(&self) -> bool {
        !matches!(self, Self::Everything)
    }

    /// Sets the elements that do not stay to 0; NaN stays NaN, so that it is noticed. `values` are whole rows that lie at
    /// `place`.
    pub fn apply(&self, values: &mut [f32], place: Place) {
        match self {
            Self::Everything => {}
            Self::Nothing => values.iter_mut().for_each(|value| *value *= 0.0),
            Self::Between(from, to) => {
                to.for_parts(place.first, values.len(), |part, smallest| {
                    let first = place.first + part.start as u64;
                    let values = &mut values[part];
                    from.for_parts(first, values.len(), |part, dropped| {
                        keep_between(&mut values[part], smallest, dropped);
                    });
                });
            }
            Self::Random(key, density) => key.numbers().drop_elements(values, place.first, *density),
            Self::Ranked(key, ranked) => ranked.apply(key, values, place),
            Self::Kept(kept) => kept.apply(usize::try_from(place.first).unwrap_or(usize::MAX), values),
        }
    }
}

/// Keeps values whose magnitudes, as bits, are at least `smallest` and below `dropped`. NaN stays NaN.
fn keep_between(values: &mut [f32], smallest: u32, dropped: u32) {
    // Signed numbers, which AVX2 compares. No magnitude is larger.
    let [smallest, dropped] = [smallest, dropped].map(|bits| i32::try_from(bits).unwrap_or(i32::MAX));
    vectorised(
        #[inline(always)]
        || {
            for value in values {
                let bits = bits(*value) as i32;
                *value *= if (bits >= smallest) & (bits < dropped) { 1.0 } else { 0.0 };
            }
        },
    );
}

/// Longest vector that is ranked as one row.
const MAX_RANKED: u64 = 1 << 26;

/// The sorted magnitudes of each difference of vectors from a base.
pub(in super::super) fn sorted_vectors(inputs: &Inputs<'_>) -> Result<Vec<Vec<u64>>> {
    if inputs.elements() > MAX_RANKED {
        return Err(Error::input("a vector is too long to be ranked by magnitude")
            .cause(Cause::Unsupported)
            .fact("elements", inputs.elements().to_string())
            .fact("at most", MAX_RANKED.to_string()));
    }
    let mut sorted = inputs.fold(
        || vec![Vec::new(); inputs.count() - 1],
        |sorted: &mut Vec<Vec<u64>>, inputs, place| {
            differences(inputs);
            for (sorted, values) in sorted.iter_mut().zip(&inputs[1..]) {
                sorted.extend(
                    values.iter().zip(place.first..).map(|(value, element)| magnitude_and_place(*value, element)),
                );
            }
        },
        |all, own| all.iter_mut().zip(own).for_each(|(all, own)| all.extend(own)),
    )?;
    sorted.iter_mut().for_each(|sorted| sorted.sort_unstable());
    Ok(sorted)
}

/// Thinnings that keep the values of each difference whose ranks by magnitude, the largest first, lie in a range.
/// `range` gives it from the number of the difference and its elements; `None` keeps everything.
pub(in super::super) fn between_ranks(
    inputs: &Inputs<'_>,
    range: impl Fn(usize, u64) -> Option<std::ops::Range<u64>>,
) -> Result<Vec<Thinning>> {
    let elements = inputs.elements();
    let ranges: Vec<_> = (0..inputs.count() - 1).map(|number| range(number, elements)).collect();
    let cut: Vec<usize> = (0..ranges.len()).filter(|n| ranges[*n].as_ref().is_some_and(|r| !r.is_empty())).collect();
    let tensors: Vec<usize> = cut.iter().map(|number| number + 1).collect();
    let ranks = |tensor: usize, _| ranges[cut[tensor]].iter().flat_map(|r| [r.start, r.end]).collect();
    let found = if cut.is_empty() { Vec::new() } else { cuts(inputs, &tensors, |i, _| differences(i), ranks)? };
    let mut thinnings: Vec<Thinning> =
        ranges.iter().map(|range| if range.is_some() { Thinning::Nothing } else { Thinning::Everything }).collect();
    for (number, found) in cut.into_iter().zip(found) {
        if let [from, to] = found[..] {
            thinnings[number] = Thinning::Between(from, to);
        }
    }
    Ok(thinnings)
}
