//! How far two tensors are apart: sums over their elements that can be added up piece by piece, in f64.

use serde::Serialize;

/// Sums over the elements of two tensors `a` and `b`. NaN and infinities are counted and left out of every other sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Elements of `a`, those that are not finite included.
    pub elements: u64,
    equal: u64,
    not_finite: u64,
    aa: f64,
    bb: f64,
    ab: f64,
    dd: f64,
    largest: f64,
}

/// How far `b` is from `a`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distance {
    /// Number of elements.
    pub elements: u64,
    /// `|a - b| / |a|`, Frobenius norms; `None` where `a` is zero and `b` is not.
    pub relative: Option<f64>,
    /// The cosine of the angle between the two as vectors; `None` where one is zero.
    pub cosine: Option<f64>,
    /// The fraction of elements that are equal.
    pub equal: f64,
    /// `|a|`.
    pub norm: f64,
    /// `|a - b|`.
    pub norm_of_difference: f64,
    /// The largest absolute difference of two elements.
    pub largest_difference: f64,
    /// Elements that are NaN or infinite in one of the two; no norm counts them.
    pub not_finite: u64,
}

impl Sums {
    /// Adds elements that belong together.
    pub fn add_elements(&mut self, a: &[f32], b: &[f32]) {
        self.elements += a.len() as u64;
        for (a, b) in a.iter().zip(b) {
            self.equal += u64::from(a == b || (a.is_nan() && b.is_nan()));
            if !(a.is_finite() && b.is_finite()) {
                self.not_finite += 1;
                continue;
            }
            let (a, b) = (f64::from(*a), f64::from(*b));
            let d = a - b;
            self.aa += a * a;
            self.bb += b * b;
            self.ab += a * b;
            self.dd += d * d;
            self.largest = self.largest.max(d.abs());
        }
    }

    /// Adds elements of which only equality is known.
    pub fn add_compared(&mut self, elements: u64, equal: u64) {
        self.elements += elements;
        self.equal += equal;
    }

    /// Adds the sums of other elements.
    pub fn add(&mut self, other: &Self) {
        self.elements += other.elements;
        self.equal += other.equal;
        self.not_finite += other.not_finite;
        self.aa += other.aa;
        self.bb += other.bb;
        self.ab += other.ab;
        self.dd += other.dd;
        self.largest = self.largest.max(other.largest);
    }

    /// Whether every element of `a` is that of `b`.
    pub fn all_equal(&self) -> bool {
        self.equal == self.elements
    }

    /// What the sums say.
    pub fn distance(&self) -> Distance {
        let of_both = (self.aa * self.bb).sqrt();
        let relative = match (self.dd > 0.0, self.aa > 0.0) {
            (false, _) => Some(0.0),
            (true, true) => Some((self.dd / self.aa).sqrt()),
            (true, false) => None,
        };
        Distance {
            elements: self.elements,
            relative,
            cosine: (of_both > 0.0).then(|| if self.dd > 0.0 { (self.ab / of_both).clamp(-1.0, 1.0) } else { 1.0 }),
            equal: if self.elements == 0 { 1.0 } else { self.equal as f64 / self.elements as f64 },
            norm: self.aa.sqrt(),
            norm_of_difference: self.dd.sqrt(),
            largest_difference: self.largest,
            not_finite: self.not_finite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &[f32], b: &[f32]) -> Distance {
        let mut sums = Sums::default();
        sums.add_elements(a, b);
        sums.distance()
    }

    #[test]
    fn distances_are_those_of_the_formulas() {
        let found = distance(&[3.0, 4.0, 0.0], &[3.0, 0.0, 0.0]);
        assert_eq!((found.relative, found.cosine), (Some(0.8), Some(0.6)));
        assert_eq!((found.norm, found.norm_of_difference, found.largest_difference), (5.0, 4.0, 4.0));
        assert!((found.equal - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn zeros_nothing_and_values_that_are_no_numbers_have_a_distance_too() {
        assert_eq!(distance(&[], &[]).relative, Some(0.0));
        assert_eq!(distance(&[0.0], &[0.0]).cosine, None);
        assert_eq!(distance(&[0.0], &[1.0]).relative, None);
        let found = distance(&[f32::NAN, f32::INFINITY, 1.0], &[f32::NAN, 0.0, 1.0]);
        assert_eq!((found.not_finite, found.relative), (2, Some(0.0)));
        assert!((found.equal - 2.0 / 3.0).abs() < 1e-12);
    }
}
