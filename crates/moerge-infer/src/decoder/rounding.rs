//! Weights rounded to llama.cpp's block formats and back to f32, as mergekit-moe's 8-bit and 4-bit loading asks for.
//!
//! The prompt pass then uses the weights that a quantised model would have. A block is 32 weights of a row with one f16
//! scale (`ggml-quants.c`: `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`).

use half::f16;

use moerge_core::model::families::{LayerRole, Role};

/// The format that linear weights are rounded to. Norms, biases, embeddings, head and routers stay exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRounding {
    /// 8 bits: 255 levels between plus and minus the block's largest magnitude.
    Q8_0,
    /// 4 bits: 16 levels; the lowest is the block's weight of largest magnitude.
    Q4_0,
}

/// Weights per block.
const BLOCK: usize = 32;

impl WeightRounding {
    /// llama.cpp's name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Whether weights of this role are rounded.
    pub(super) fn applies_to(role: Role) -> bool {
        use LayerRole::{Attention, Expert, Ffn, SharedExpert};
        matches!(role, Role::Layer(_, Attention(_) | Ffn(_) | Expert(..) | SharedExpert(_)))
    }

    /// Rounds rows of `columns` weights in place. A row's last block may be shorter.
    pub(super) fn apply(self, rows: &mut [f32], columns: usize) {
        for row in rows.chunks_mut(columns.max(1)) {
            for block in row.chunks_mut(BLOCK) {
                match self {
                    Self::Q8_0 => q8_0(block),
                    Self::Q4_0 => q4_0(block),
                }
            }
        }
    }
}

fn q8_0(block: &mut [f32]) {
    let largest = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let step = largest / 127.0;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let stored = f16::from_f32(step).to_f32();
    for x in block {
        *x = (*x * inverse).round() * stored;
    }
}

fn q4_0(block: &mut [f32]) {
    let largest = block.iter().fold(0.0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
    let step = largest / -8.0;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let stored = f16::from_f32(step).to_f32();
    for x in block {
        *x = ((*x * inverse + 8.5).floor().min(15.0) - 8.0) * stored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(rounding: WeightRounding, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        let columns = values.len();
        rounding.apply(&mut values, columns);
        values
    }

    #[test]
    fn representable_weights_stay_and_zeros_are_no_danger() {
        let ramp: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) * 8.0 - if i == 16 { 127.0 } else { 0.0 }).collect();
        assert!(rounded(WeightRounding::Q8_0, &[0.0; 40]).iter().all(|x| *x == 0.0));
        assert!(rounded(WeightRounding::Q4_0, &[0.0; 40]).iter().all(|x| *x == 0.0));
        let steps: Vec<f32> = (0..32).map(|i| (i % 16) as f32 - 8.0).collect();
        assert_eq!(rounded(WeightRounding::Q4_0, &steps), steps);
        let largest = ramp.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (before, after) in ramp.iter().zip(rounded(WeightRounding::Q8_0, &ramp)) {
            assert!((before - after).abs() <= largest / 127.0 * 0.501, "{before} {after}");
        }
    }

    #[test]
    fn blocks_do_not_reach_over_rows() {
        let mut rows = [[0.25f32; 8], [100.0; 8]].concat();
        WeightRounding::Q4_0.apply(&mut rows, 8);
        assert_eq!(rows, [[0.25f32; 8], [100.0; 8]].concat());
    }
}
