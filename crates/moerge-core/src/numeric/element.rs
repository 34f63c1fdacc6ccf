//! Conversion of elements between bytes (little-endian, as in safetensors) and f32.

use half::{bf16, f16};
use moerge_checkpoint::Dtype;

use super::simd::vectorised;

/// Converts `out.len()` elements of `dtype`, one of BF16, F16, F32 and F64, to f32.
pub fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || widen_plainly(dtype, bytes, out),
    );
}

#[inline(always)]
fn widen_plainly(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::BF16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                // The upper half of an f32. NaN becomes quiet, as in `bf16::to_f32`.
                let bits = u32::from(u16::from_le_bytes(*b)) << 16;
                let nan = bits & (u32::MAX >> 1) > 0x7f80_0000;
                *x = f32::from_bits(bits | u32::from(nan) << 22);
            }
        }
        Dtype::F16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f16::from_le_bytes(*b).to_f32();
            }
        }
        Dtype::F64 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *x = f64::from_le_bytes(*b) as f32;
            }
        }
        _ => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
    }
}

/// Appends `values` as `dtype` to `out`, rounded to nearest, ties to even.
pub fn narrow(dtype: Dtype, values: &[f32], out: &mut Vec<u8>) {
    match dtype {
        Dtype::BF16 => out.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        Dtype::F16 => out.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Dtype::F64 => out.extend(values.iter().flat_map(|x| f64::from(*x).to_le_bytes())),
        _ => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
    }
}

/// Rounds `values` to `dtype` in place.
pub fn round_to(dtype: Dtype, values: &mut [f32]) {
    match dtype {
        Dtype::BF16 => values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        Dtype::F16 => values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        _ => {}
    }
}
