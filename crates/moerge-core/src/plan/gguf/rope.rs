//! Divisors of rotary frequencies, which llama.cpp keeps as tensors.

use std::{f32::consts::PI, sync::Arc};

use super::{GgufModel, tensors::NamedTensor};
use crate::{error::Result, model::rope::RopeScaling, ops::Expr};

/// The tensors of divisors of the model's rope scaling.
pub fn factors(model: &GgufModel) -> Result<Vec<NamedTensor>> {
    Ok(match &model.config.rope.scaling {
        RopeScaling::Llama3 { factor, low, high, original } => {
            let divisors = llama3(model.config.rope.theta, model.config.head_dim, [*factor, *low, *high], *original);
            vec![constant("rope_freqs.weight", divisors)]
        }
        RopeScaling::LongRope { short, long, .. } => {
            let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
            vec![
                constant("rope_factors_long.weight", narrow(long)),
                constant("rope_factors_short.weight", narrow(short)),
            ]
        }
        RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Dynamic { .. } | RopeScaling::Yarn { .. } => {
            Vec::new()
        }
    })
}

fn constant(name: &str, values: Vec<f32>) -> NamedTensor {
    let shape = vec![values.len()];
    let expr = Expr::Constant { values: Arc::from(values), shape: shape.clone() };
    NamedTensor { name: name.to_owned(), shape, expr }
}

/// Llama 3.1's divisors, in f32 as the converter computes them.
fn llama3(theta: f64, head_dim: usize, [factor, low, high]: [f64; 3], original: usize) -> Vec<f32> {
    let [factor, low, high, original] = [factor, low, high, original as f64].map(|x| x as f32);
    let divisor = |pair: usize| {
        let frequency = 1.0 / (theta as f32).powf((2 * pair) as f32 / head_dim as f32);
        let wavelength = 2.0 * PI / frequency;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(divisor).collect()
}
