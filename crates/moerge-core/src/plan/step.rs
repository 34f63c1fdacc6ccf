//! How one output tensor gets its bytes.

use moerge_checkpoint::{Dtype, TensorView};

use crate::model::{families::Role, source::LoraDelta};

/// One tensor of the output.
#[derive(Debug, Clone)]
pub struct OutputTensor {
    /// Its name in the output.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its element type in the output.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its bytes come from.
    pub step: Step,
}

/// Where bytes come from.
#[derive(Debug, Clone)]
pub enum Step {
    /// A source's bytes, bit for bit.
    Copy(TensorView),
    /// A source's elements, changed.
    Transform(Box<Transform>),
    /// The mean of several sources' elements.
    Average(Box<Average>),
    /// The router of a layer.
    Router(usize),
    /// The shared expert's gate of a layer.
    SharedExpertGate(usize),
    /// The same number everywhere.
    Fill(f32),
}

/// Changes to a source's elements, in f32, in the order of the fields; then zeros at the end of rows and columns up to
/// the output's shape, and one rounding to the output's dtype.
#[derive(Debug, Clone)]
pub struct Transform {
    /// The elements.
    pub view: TensorView,
    /// `+ scale * B A`, and what the sum is rounded to (`--lora-merge-dtype`).
    pub lora: Option<(LoraDelta, Option<Dtype>)>,
    /// Added noise.
    pub noise: Option<Noise>,
    /// `* scale`.
    pub scale: Option<f64>,
}

/// `+ scale * N(0, 1)`, keyed by (seed, name, element).
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// The standard deviation.
    pub scale: f64,
    /// The output tensor's name; of an expert that is in a layer twice, the first one's, so that both are the same.
    pub name: String,
}

/// A weighted mean, in f64, rounded once to the output's dtype. All parts have the output's shape.
#[derive(Debug, Clone)]
pub struct Average {
    /// What is averaged, and what each counts for. The sum of these is above 0.
    pub parts: Vec<(Transform, f64)>,
}

impl Transform {
    /// The source tensors it reads.
    fn reads(&self) -> impl Iterator<Item = &TensorView> {
        let halves = self.lora.iter().flat_map(|(delta, _)| [&delta.a, &delta.b]);
        std::iter::once(&self.view).chain(halves)
    }
}

impl OutputTensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.size_bits() as u64 / 8
    }
}

impl Step {
    /// Whether an adapter is merged into what it reads.
    pub fn merges_adapter(&self) -> bool {
        match self {
            Self::Transform(step) => step.lora.is_some(),
            Self::Average(average) => average.parts.iter().any(|(step, _)| step.lora.is_some()),
            _ => false,
        }
    }

    /// The source tensors it reads.
    pub fn reads(&self) -> Vec<&TensorView> {
        match self {
            Self::Copy(view) => vec![view],
            Self::Transform(step) => step.reads().collect(),
            Self::Average(average) => average.parts.iter().flat_map(|(step, _)| step.reads()).collect(),
            Self::Router(_) | Self::SharedExpertGate(_) | Self::Fill(_) => Vec::new(),
        }
    }
}
