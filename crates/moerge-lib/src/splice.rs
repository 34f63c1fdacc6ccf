//! Sequences that change their subject: segments of several texts, one after another.
//!
//! A router that is fitted to whole texts learns the subject of the context, which attention carries past a change of
//! subject. In spliced sequences, it has to learn what distinguishes the token (docs/routers.md).

use std::ops::Range;

use moerge_core::numeric::noise::uniform;

/// Maximum number of tokens of a spliced sequence.
pub(crate) const SPLICED: usize = 256;

/// The usual lengths of segments: from a clause to a paragraph.
pub(crate) const SEGMENTS: Lengths = Lengths { min: 8, max: 64 };

/// A piece of a text inside a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of its text.
    pub text: usize,
    /// Its tokens among those of all texts.
    pub tokens: Range<usize>,
}

/// The lengths of segments, in tokens. Their logarithms are uniformly distributed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    /// Only the rest of a text, or of a sequence, may be shorter.
    pub min: usize,
    pub max: usize,
}

/// Splices `texts`, each given by the ranges of its tokens, into sequences of at most `room` tokens.
///
/// Neighbouring segments are of different texts. Every token is used once, except when only one text is left. Texts
/// follow each other in proportion to what is left of them, so all end together. The same `seed` gives the same
/// sequences.
pub(crate) fn splice(texts: &[Vec<Range<usize>>], lengths: Lengths, room: usize, seed: u64) -> Vec<Vec<Segment>> {
    let tokens: usize = texts.iter().flatten().map(Range::len).sum();
    // Two numbers per segment, and a segment has a token at least.
    let mut random = uniform(2 * tokens, seed, "splice").into_iter().map(|x| (f64::from(x) + 1.0) / 2.0);
    let mut left: Vec<Vec<Range<usize>>> = texts.iter().map(|text| text.iter().rev().cloned().collect()).collect();
    let mut sequences: Vec<Vec<Segment>> = Vec::new();
    let (mut last, mut free) = (None, 0);
    while let (Some(which), Some(length)) = (random.next(), random.next()) {
        let Some(text) = choose(&left, last, which) else { break };
        let Some(range) = left[text].pop() else { break };
        if free < lengths.min.min(range.len()).max(1) {
            sequences.push(Vec::new());
            free = room.max(1);
        }
        let ratio = lengths.max.max(lengths.min) as f64 / lengths.min as f64;
        let wanted = (lengths.min as f64 * ratio.powf(length)).round() as usize;
        // No crumbs are left of a text.
        let wanted = if range.len() < wanted + lengths.min { range.len() } else { wanted };
        let (start, end) = (range.start, range.start + wanted.min(free).max(1));
        if end < range.end {
            left[text].push(end..range.end);
        }
        free -= end - start;
        sequences.last_mut().into_iter().for_each(|s| s.push(Segment { text, tokens: start..end }));
        last = Some(text);
    }
    sequences
}

/// A text other than `last`, each with a probability in proportion to what is left of it; `None` if nothing is.
fn choose(left: &[Vec<Range<usize>>], last: Option<usize>, random: f64) -> Option<usize> {
    let weight = |text: usize| left[text].iter().map(Range::len).sum::<usize>();
    let others: Vec<(usize, usize)> =
        (0..left.len()).filter(|text| Some(*text) != last).map(|text| (text, weight(text))).collect();
    let mut at = random * others.iter().map(|(_, weight)| weight).sum::<usize>() as f64;
    let found = others.iter().find(|(_, weight)| {
        at -= *weight as f64;
        at < 0.0
    });
    found.or(others.iter().rfind(|(_, weight)| *weight > 0)).filter(|(_, weight)| *weight > 0).map(|(text, _)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: Lengths = Lengths { min: 4, max: 32 };

    /// Three texts of ten sequences of 50 tokens each.
    fn texts() -> Vec<Vec<Range<usize>>> {
        (0..3).map(|text| (0..10).map(|s| 500 * text + 50 * s..500 * text + 50 * (s + 1)).collect()).collect()
    }

    #[test]
    fn every_token_is_used_once_and_neighbours_differ() {
        let sequences = splice(&texts(), LENGTHS, 100, 1);
        let mut used = vec![0; 1500];
        for sequence in &sequences {
            assert!(sequence.iter().map(|s| s.tokens.len()).sum::<usize>() <= 100);
            assert!(sequence.windows(2).all(|pair| pair[0].text != pair[1].text));
            for segment in sequence {
                assert!(segment.tokens.end <= 500 * (segment.text + 1) && segment.tokens.start >= 500 * segment.text);
                assert!(segment.tokens.len() <= LENGTHS.max + LENGTHS.min);
                segment.tokens.clone().for_each(|token| used[token] += 1);
            }
        }
        assert!(used.iter().all(|n| *n <= 1));
        let missed = used.iter().filter(|n| **n == 0).count();
        assert!(missed <= 100, "{missed} tokens are left over");
        let lengths: Vec<usize> = sequences.iter().flatten().map(|s| s.tokens.len()).collect();
        let short = lengths.iter().filter(|n| **n <= 11).count();
        assert!(short * 3 > lengths.len() && short * 3 < 2 * lengths.len(), "half are below the geometric mean");
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(splice(&texts(), LENGTHS, 100, 1), splice(&texts(), LENGTHS, 100, 1));
        assert_ne!(splice(&texts(), LENGTHS, 100, 1), splice(&texts(), LENGTHS, 100, 2));
    }

    #[test]
    fn odd_texts_end() {
        let splice_whole = |texts: &[Range<usize>], room| {
            let texts: Vec<Vec<Range<usize>>> = texts.iter().map(|text| Vec::from([text.clone()])).collect();
            splice(&texts, LENGTHS, room, 1)
        };
        assert!(splice_whole(&[], 100).is_empty());
        let alone = splice_whole(&[0..40, 40..40], 100);
        assert_eq!(alone.iter().flatten().count(), 1, "one segment, which nothing can follow");
        assert_eq!(splice_whole(&[0..1, 1..2], 1).len(), 2);
        assert_eq!(splice_whole(&[0..3, 3..6], 0).iter().flatten().count(), 6);
    }
}
