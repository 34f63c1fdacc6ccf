//! Tensor expressions as trees. Nothing here reads a weight.

use std::sync::Arc;

use moerge_checkpoint::{Dtype, TensorView};

use super::Method;

/// An expression for the elements of a tensor, in f32.
///
/// A tensor counts as a matrix: its last dimension is a row, and the number of rows is the product of the others. A
/// vector has one column.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A tensor of a source.
    View(TensorView),
    /// `input + scale * B A`, rounded to `round` if given.
    Lora {
        /// The weight.
        input: Box<Expr>,
        /// The adapter's factors.
        delta: LoraDelta,
        /// The dtype that the sum is rounded to; `None` for no rounding.
        round: Option<Dtype>,
    },
    /// `input + N(0, scale^2)`, keyed by (seed, name, element).
    Noise {
        /// The tensor without noise.
        input: Box<Expr>,
        /// The noise.
        noise: Noise,
    },
    /// `factor * input`.
    Scale {
        /// The tensor that is scaled.
        input: Box<Expr>,
        /// The factor.
        factor: f64,
    },
    /// `input` padded with zeros to `shape`.
    Pad {
        /// The smaller tensor.
        input: Box<Expr>,
        /// The padded shape.
        shape: Vec<usize>,
    },
    /// `input` padded to `shape` with copies of the mean of its rows, as for new tokens of a vocabulary
    /// (<https://nlp.stanford.edu/~johnhew/vocab-expansion.html>).
    PadWithMean {
        /// The tensor with fewer rows.
        input: Box<Expr>,
        /// The padded shape.
        shape: Vec<usize>,
    },
    /// `input` reordered along its first dimension: slice `i` is slice `map[i]` of `input`, or zeros.
    RowMap {
        /// The source of the rows.
        input: Box<Expr>,
        /// For each slice, its index in `input`; `None` for zeros.
        map: Arc<[Option<usize>]>,
        /// The shape; its first dimension is the length of `map`.
        shape: Vec<usize>,
    },
    /// The rows of tensors, one tensor after the other: experts as one tensor, or the parts of a fused one.
    Concat {
        /// The tensors, of equally many columns.
        inputs: Vec<Expr>,
        /// The shape of all.
        shape: Vec<usize>,
    },
    /// Tensors of the same shape, merged by a method.
    Combine {
        /// The method, with its parameters.
        method: Method,
        /// The inputs, in the method's order.
        inputs: Vec<Expr>,
    },
    /// Numbers that the plan knows.
    Constant {
        /// The numbers.
        values: Arc<[f32]>,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// A constant.
    Fill {
        /// The number.
        value: f32,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// A tensor that the job computes, such as a router. The job supplies it by name.
    Computed {
        /// The name.
        name: String,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
}

/// The delta of a LoRA adapter for a weight: `scale * B A` (arXiv 2106.09685).
#[derive(Debug, Clone)]
pub struct LoraDelta {
    /// A, `[rank, inputs]`.
    pub a: TensorView,
    /// B, `[outputs, rank]`, the rows of this weight.
    pub b: TensorView,
    /// `alpha / r`, or `alpha / sqrt(r)`.
    pub scale: f64,
    /// Whether both are stored transposed, as PEFT does it for embeddings: it calls `[rank, tokens]`, the transpose of
    /// `b`, `lora_embedding_A`, and `[width, rank]`, the transpose of `a`, `lora_embedding_B`.
    pub transposed: bool,
}

/// Normal noise, keyed by (seed, name, element).
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// The standard deviation.
    pub scale: f64,
    /// The key: the output tensor's name, so that equal experts stay equal only if they share it.
    pub name: String,
}

/// Rows and columns of a shape: a vector has one column, a scalar is one element.
pub fn rows_and_columns(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [rows] => (*rows, 1),
        [outer @ .., columns] => (outer.iter().product(), *columns),
    }
}

impl Expr {
    /// The tensor's shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::View(view) => &view.shape,
            Self::Lora { input, .. } | Self::Noise { input, .. } | Self::Scale { input, .. } => input.shape(),
            Self::Pad { shape, .. }
            | Self::PadWithMean { shape, .. }
            | Self::RowMap { shape, .. }
            | Self::Concat { shape, .. }
            | Self::Constant { shape, .. }
            | Self::Fill { shape, .. }
            | Self::Computed { shape, .. } => shape,
            Self::Combine { inputs, .. } => inputs.first().map_or(&[], Self::shape),
        }
    }

    /// The source tensor that this expression copies bit for bit if it is written as `dtype`.
    pub fn as_copy(&self, dtype: Dtype) -> Option<&TensorView> {
        match self {
            Self::View(view) if view.dtype == dtype => Some(view),
            _ => None,
        }
    }

    /// The direct inputs.
    pub fn inputs(&self) -> &[Expr] {
        match self {
            Self::Lora { input, .. }
            | Self::Noise { input, .. }
            | Self::Scale { input, .. }
            | Self::Pad { input, .. }
            | Self::PadWithMean { input, .. }
            | Self::RowMap { input, .. } => std::slice::from_ref(input),
            Self::Combine { inputs, .. } | Self::Concat { inputs, .. } => inputs,
            Self::View(_) | Self::Constant { .. } | Self::Fill { .. } | Self::Computed { .. } => &[],
        }
    }

    /// All source tensors that it reads, in order.
    pub fn reads(&self) -> Vec<&TensorView> {
        let mut reads: Vec<&TensorView> = self.inputs().iter().flat_map(Self::reads).collect();
        match self {
            Self::View(view) => reads.push(view),
            Self::Lora { delta, .. } => reads.extend([&delta.a, &delta.b]),
            Self::Noise { .. }
            | Self::Scale { .. }
            | Self::Pad { .. }
            | Self::PadWithMean { .. }
            | Self::RowMap { .. }
            | Self::Concat { .. }
            | Self::Combine { .. }
            | Self::Constant { .. }
            | Self::Fill { .. }
            | Self::Computed { .. } => {}
        }
        reads
    }

    /// Whether it contains a merged adapter.
    pub fn merges_adapter(&self) -> bool {
        matches!(self, Self::Lora { .. }) || self.inputs().iter().any(Self::merges_adapter)
    }

    /// Whether it contains noise.
    pub fn has_noise(&self) -> bool {
        matches!(self, Self::Noise { .. }) || self.inputs().iter().any(Self::has_noise)
    }
}
