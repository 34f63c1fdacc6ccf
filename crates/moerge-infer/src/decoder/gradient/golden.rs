//! Golden models with gradients computed by PyTorch, for the tests here and in moerge-lib.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{Checkpoint, LocalStorage, ReadStorage};
use moerge_core::{
    error::Result,
    model::{
        config::ModelConfig,
        families::{Description, LayerRole, Role, describe},
    },
    progress::Silent,
};
use moerge_infer::decoder::{Blend, CheckpointWeights, Text, Weights, gradient_memory};

/// A golden model and PyTorch's gradients of its gates.
pub(crate) struct Golden {
    checkpoint: Checkpoint,
    pub description: Description,
    expected: Checkpoint,
}

impl Golden {
    pub fn open(family: &str) -> Self {
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden").join(family);
        let path = folder.join("config.json");
        let config = ModelConfig::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
        Self {
            checkpoint: Checkpoint::open(&storage, &folder).unwrap(),
            description: describe(&config).unwrap(),
            expected: Checkpoint::open_file(&storage, &folder.join("phatgoose.safetensors")).unwrap(),
        }
    }

    pub fn weights(&self) -> CheckpointWeights {
        CheckpointWeights::new(&self.checkpoint, &self.description).unwrap()
    }

    pub fn integers(&self, name: &str) -> Vec<i64> {
        let bytes = self.expected.get(name).unwrap().read().unwrap();
        bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }

    /// The values `name`, by layer if they belong to gates.
    pub fn floats(&self, name: &str) -> Vec<Vec<f32>> {
        let bytes = self.expected.get(name).unwrap().read().unwrap();
        let all: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        all.chunks(self.description.decoder.hidden).map(<[f32]>::to_vec).collect()
    }

    pub fn texts(&self) -> Vec<Text> {
        let (tokens, counts) = (self.integers("tokens"), self.integers("counts"));
        let mut first = 0;
        let text = |length: &i64| {
            let range = first..first + *length as usize;
            first = range.end;
            let tokens: Vec<u32> = tokens[range.clone()].iter().map(|t| *t as u32).collect();
            let next = tokens.iter().skip(1).map(|t| Some(*t)).chain([None]);
            let targets = next.zip(&counts[range]).map(|(t, counts)| t.filter(|_| *counts == 1)).collect();
            Text { tokens, targets }
        };
        self.integers("lengths").iter().map(text).collect()
    }

    pub fn blend<'a>(&self, model: &'a dyn Weights, base: &'a dyn Weights, memory: u64) -> Blend<'a> {
        let need = gradient_memory(&self.description, &self.description, 100, 40, 2);
        Blend::new(model, base, None, &need, memory, &Silent).unwrap()
    }
}

/// A model with its FFNs in reverse order of layers.
pub(crate) struct Reversed(pub CheckpointWeights);

impl Reversed {
    fn role(&self, role: Role) -> Role {
        match role {
            Role::Layer(layer, LayerRole::Ffn(matrix)) => {
                Role::Layer(self.0.description().decoder.layers.len() - 1 - layer, LayerRole::Ffn(matrix))
            }
            role => role,
        }
    }
}

impl Weights for Reversed {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn fetch(&self, role: Role, rows: Range<usize>, raw: &mut Vec<u8>) -> Result<()> {
        self.0.fetch(self.role(role), rows, raw)
    }

    fn widen(&self, role: Role, rows: Range<usize>, raw: &[u8], out: &mut [f32]) -> Result<()> {
        self.0.widen(self.role(role), rows, raw, out)
    }
}
