//! Divisors of rotary frequencies, which llama.cpp keeps as tensors.

use std::sync::Arc;

use super::{GgufModel, named_tensor::NamedTensor};
use crate::{
    error::Result,
    model::rope::{RopeScaling, llama3_divisors},
    ops::Expr,
};

/// The tensors of divisors of the model's rope scaling.
pub fn factors(model: &GgufModel) -> Result<Vec<NamedTensor>> {
    Ok(match &model.config.rope.scaling {
        RopeScaling::Llama3 { factor, low, high, original } => {
            let divisors =
                llama3_divisors(model.config.rope.theta, model.config.head_dim, [*factor, *low, *high], *original);
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
