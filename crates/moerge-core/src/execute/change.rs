//! What a [`Transform`] does to the elements it reads, some rows at a time.

use std::ops::Range;

use moerge_checkpoint::Dtype;

use crate::{
    error::Result,
    model::source::LoadedDelta,
    numeric::{element, noise::add_noise},
    plan::{Noise, Transform},
};

/// A transform with its adapter's A in memory.
pub struct Change<'a> {
    lora: Option<(LoadedDelta<'a>, Option<Dtype>)>,
    noise: Option<&'a Noise>,
    scale: Option<f64>,
}

impl<'a> Change<'a> {
    /// Reads what has to be in memory.
    pub fn new(step: &'a Transform) -> Result<Self> {
        let lora = match &step.lora {
            Some((delta, dtype)) => Some((LoadedDelta::new(delta)?, *dtype)),
            None => None,
        };
        Ok(Self { lora, noise: step.noise.as_ref(), scale: step.scale })
    }

    /// Changes `values`, which are rows `rows` of `width` elements.
    pub fn apply(&self, seed: u64, rows: Range<usize>, width: usize, values: &mut [f32]) -> Result<()> {
        let first = (rows.start * width) as u64;
        if let Some((lora, dtype)) = &self.lora {
            lora.add_to(rows, values)?;
            if let Some(dtype) = dtype {
                element::round_to(*dtype, values);
            }
        }
        if let Some(noise) = self.noise {
            add_noise(values, seed, &noise.name, first, noise.scale);
        }
        if let Some(scale) = self.scale {
            values.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
        }
        Ok(())
    }
}
