//! The factors of one matrix as bytes, so that a run that was interrupted goes on where it was and none is held in memory
//! until all are known.

use serde::{Deserialize, Serialize};

use super::svd::Factors;

/// What is kept of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// `|base|`.
    pub norm: f64,
    /// `|model - base|`.
    pub norm_of_difference: f64,
    /// 0 where nothing differs.
    pub rank: usize,
    pub energy: f64,
    pub singular_values: Vec<f64>,
    /// `[rank, columns]` and `[rows, rank]`.
    #[serde(skip)]
    pub a: Vec<f32>,
    #[serde(skip)]
    pub b: Vec<f32>,
}

impl Kept {
    pub fn new(norm: f64, norm_of_difference: f64, factors: Option<Factors>) -> Self {
        let zero = Factors { rank: 0, b: Vec::new(), a: Vec::new(), singular_values: Vec::new(), energy: 1.0 };
        let Factors { rank, b, a, singular_values, energy } = factors.unwrap_or(zero);
        Self { norm, norm_of_difference, rank, energy, singular_values, a, b }
    }

    /// A line of JSON, then A and B as f32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend(self.a.iter().chain(&self.b).flat_map(|x| x.to_le_bytes()));
        bytes
    }

    /// `None` where the bytes are not those of a matrix of this shape.
    pub fn from_bytes(bytes: &[u8], (rows, columns): (usize, usize)) -> Option<Self> {
        let line = bytes.iter().position(|b| *b == b'\n')?;
        let mut kept: Self = serde_json::from_slice(&bytes[..line]).ok()?;
        let (values, rest) = bytes[line + 1..].as_chunks::<4>();
        let of_a = kept.rank.checked_mul(columns)?;
        if !rest.is_empty() || values.len() != of_a.checked_add(kept.rank.checked_mul(rows)?)? {
            return None;
        }
        let floats = |values: &[[u8; 4]]| values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (kept.a, kept.b) = (floats(&values[..of_a]), floats(&values[of_a..]));
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_damage_is_noticed() {
        let factors = Factors { rank: 1, b: vec![1.0, 2.0], a: vec![0.5; 3], singular_values: vec![2.0], energy: 0.5 };
        let kept = Kept::new(3.0, 2.0, Some(factors));
        let bytes = kept.to_bytes();
        assert_eq!(Kept::from_bytes(&bytes, (2, 3)), Some(kept));
        assert_eq!(Kept::from_bytes(&bytes, (3, 3)), None);
        assert_eq!(Kept::from_bytes(&bytes[..bytes.len() - 1], (2, 3)), None);
        assert_eq!(Kept::from_bytes(b"{}\n", (2, 3)), None);
        let nothing = Kept::new(1.0, 0.0, None);
        assert_eq!(Kept::from_bytes(&nothing.to_bytes(), (2, 3)), Some(nothing));
    }
}
