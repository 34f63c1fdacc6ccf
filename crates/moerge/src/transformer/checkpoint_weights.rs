//! Weights straight from a checkpoint's files.

use std::{collections::HashMap, ops::Range};

use checkpoint::{Checkpoint, Dtype, TensorView};
use half::{bf16, f16};

use super::weights::{Weights, bug};
use crate::{
    architecture::{Description, Role, RoleTensor},
    error::{Error, Result},
};

/// A checkpoint as its `config.json` describes it.
pub struct CheckpointWeights<'a> {
    description: &'a Description,
    views: HashMap<Role, TensorView>,
}

impl<'a> CheckpointWeights<'a> {
    /// Finds the tensor of every role, and checks that it has the shape that the description promises.
    pub fn new(checkpoint: &Checkpoint, description: &'a Description) -> Result<Self> {
        let find = |tensor: &RoleTensor| Ok((tensor.role, view(checkpoint, tensor)?));
        Ok(Self { description, views: description.tensors.iter().map(find).collect::<Result<_>>()? })
    }

    fn view(&self, role: Role) -> Result<&TensorView> {
        self.views.get(&role).ok_or_else(|| bug(format!("a model without {role:?} was asked for it")))
    }
}

/// The rows of `tensor` in its file.
fn view(checkpoint: &Checkpoint, tensor: &RoleTensor) -> Result<TensorView> {
    let dir = checkpoint.dir().display();
    let name = &tensor.name;
    let Some(view) = checkpoint.get(name) else {
        return Err(Error::input(format!("{dir} has no tensor {name}, which its config.json calls for"))
            .hint("config.json and the weights must be of the same model"));
    };
    let mut expected = tensor.shape.clone();
    if let (Some(part), Some(rows)) = (tensor.part_of, expected.first_mut()) {
        *rows = part.of_rows;
    }
    if view.shape != expected {
        return Err(Error::input(format!("{}: tensor {name} has the wrong shape", view.file.path.display()))
            .fact("expected", format!("{expected:?}, from config.json"))
            .fact("found", format!("{:?}", view.shape)));
    }
    if !matches!(view.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64) {
        return Err(Error::input(format!("{}: tensor {name} is {}", view.file.path.display(), view.dtype))
            .hint("the weights must be BF16, F16, F32 or F64; for a quantised model, use the one it was made from"));
    }
    let first = tensor.part_of.map_or(0, |part| part.first_row);
    let rows = tensor.shape.first().copied().unwrap_or(0);
    Ok(view.rows(first..first + rows)?)
}

impl Weights for CheckpointWeights<'_> {
    fn description(&self) -> &Description {
        self.description
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        let rows = self.view(role)?.rows(rows)?;
        raw.resize(rows.len as usize, 0);
        Ok(rows.read_at(0, raw)?)
    }

    fn widen(&self, role: Role, _: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        widen(self.view(role)?.dtype, raw, out);
        Ok(())
    }
}

/// Makes f32 of little-endian BF16, F16, F32 or F64.
fn widen(dtype: Dtype, raw: &[u8], out: &mut [f32]) {
    let (pairs, _) = raw.as_chunks::<2>();
    let (quads, _) = raw.as_chunks::<4>();
    let (octets, _) = raw.as_chunks::<8>();
    match dtype {
        Dtype::BF16 => out.iter_mut().zip(pairs).for_each(|(x, b)| *x = bf16::from_le_bytes(*b).to_f32()),
        Dtype::F16 => out.iter_mut().zip(pairs).for_each(|(x, b)| *x = f16::from_le_bytes(*b).to_f32()),
        Dtype::F64 => out.iter_mut().zip(octets).for_each(|(x, b)| *x = f64::from_le_bytes(*b) as f32),
        _ => out.iter_mut().zip(quads).for_each(|(x, b)| *x = f32::from_le_bytes(*b)),
    }
}
