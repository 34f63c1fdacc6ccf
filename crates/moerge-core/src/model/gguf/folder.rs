//! A GGUF file, opened: its metadata as the small files of a model folder, its tensors as one safetensors file.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{
    Dtype, Encoding, ReadAt, ReadStorage, WEIGHTS_FILE,
    gguf::{self, GgufFile, GgufTensor},
};

use super::{
    config,
    metadata::Facts,
    names::name_of,
    tokenizer::tokenizer,
    weights::{Source, Stored, Tensor, Weights},
};
use crate::{
    error::{Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, GgufArchitecture, LayerRole, Projection, Role, RoleTensor, describe},
        files::{CONFIG, GENERATION_CONFIG, MODEL_CARD, TOKENIZER, TOKENIZER_CONFIG},
    },
};

/// Maximum base models that the card names.
const MAX_BASE_MODELS: u64 = 100;
/// Tensors that the config says.
const DIVISORS: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// A GGUF file as a model folder.
pub struct GgufFolder {
    path: PathBuf,
    small: Vec<(&'static str, Arc<Vec<u8>>)>,
    weights: Arc<Weights>,
    /// How each tensor is stored.
    types: HashMap<String, Encoding>,
    files: Vec<(PathBuf, u64)>,
    /// Bytes after the last tensor of each file.
    excess: Vec<u64>,
}

impl fmt::Debug for GgufFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GgufFolder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl GgufFolder {
    /// Opens the file at `path`, and those that are split from it.
    ///
    /// # Errors
    /// A file cannot be read or is damaged, or the model is of a kind that moerge cannot read.
    pub fn open(storage: &dyn ReadStorage, path: &Path) -> Result<Self> {
        let (metadata, parts) = Parts::open(storage, path)?;
        let facts = Facts::new(&metadata)?;
        let architecture = config::architecture(facts)?;
        let shapes = |name: &str| parts.get(name).map(|(_, tensor)| tensor.shape.as_slice());
        let divisors = |name: &str| parts.floats(name);
        let config = config::config(facts, architecture, &shapes, &divisors, parts.dtype())?;
        let config = serde_json::to_vec_pretty(&config).unwrap_or_default();
        let typed = ModelConfig::parse(&String::from_utf8_lossy(&config), &path.join(CONFIG))?;
        let description = describe(&typed)?;
        let tensors = parts.tensors(&description, architecture)?;
        let of_tokenizer = tokenizer(facts)?;
        let small = vec![
            (CONFIG, config),
            (GENERATION_CONFIG, of_tokenizer.generation.to_string().into_bytes()),
            (TOKENIZER, of_tokenizer.tokenizer.to_string().into_bytes()),
            (TOKENIZER_CONFIG, of_tokenizer.config.to_string().into_bytes()),
            (MODEL_CARD, card(facts).into_bytes()),
        ];
        let types = tensors.iter().filter_map(|tensor| Some((tensor.name.clone(), tensor.source.encoding()?)));
        Ok(Self {
            path: path.to_owned(),
            excess: parts.excess(),
            small: small.into_iter().map(|(name, bytes)| (name, Arc::new(bytes))).collect(),
            types: types.collect(),
            files: parts.paths.into_iter().zip(parts.files.iter().map(|file| file.len())).collect(),
            weights: Arc::new(Weights::new(parts.files, tensors)?),
        })
    }

    /// How the tensor of this name is stored.
    pub fn stored_as(&self, name: &str) -> Option<Encoding> {
        self.types.get(name).copied()
    }

    /// The GGUF file, or all that the model was split into, with their bytes.
    pub fn files(&self) -> &[(PathBuf, u64)] {
        &self.files
    }

    /// The files that have bytes after their last tensor, and how many.
    pub fn with_excess(&self) -> impl Iterator<Item = (&Path, u64)> {
        let files = self.files.iter().zip(&self.excess).filter(|(_, excess)| **excess > 0);
        files.map(|((path, _), excess)| (path.as_path(), *excess))
    }

    /// The names of its files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let mut names: Vec<_> = self.small.iter().map(|(name, _)| *name).chain([WEIGHTS_FILE]).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<Arc<dyn ReadAt>> {
        if name == WEIGHTS_FILE {
            return Some(self.weights.clone());
        }
        let (_, bytes) = self.small.iter().find(|(own, _)| *own == name)?;
        Some(Arc::new(Bytes(bytes.clone())))
    }
}

/// Where the model comes from, as the front matter of a model card.
fn card(facts: Facts<'_>) -> String {
    // Text in quotes is the same in YAML as in JSON.
    let item = |text: &str| serde_json::Value::from(text).to_string();
    let text = |key: &str| facts.text(key).ok().flatten();
    let strings = |key: &str| facts.strings(key).ok().flatten().unwrap_or_default();
    let mut lines = vec!["---".to_owned()];
    lines.extend(text("general.name").map(|name| format!("model_name: {}", item(name))));
    lines.extend(text("general.license").map(|licence| format!("license: {}", item(licence))));
    let count = facts.count("general.base_model.count").ok().flatten().unwrap_or(0).min(MAX_BASE_MODELS);
    let bases = (0..count).filter_map(|number| {
        let url = text(&format!("general.base_model.{number}.repo_url"))?;
        url.strip_prefix("https://huggingface.co/")
    });
    for (key, items) in
        [("base_model", bases.collect()), ("language", strings("general.languages")), ("tags", strings("general.tags"))]
    {
        if !items.is_empty() {
            lines.push(format!("{key}:"));
            lines.extend(items.into_iter().map(|text| format!("- {}", item(text))));
        }
    }
    lines.push("---\n".to_owned());
    lines.join("\n")
}

/// A small file in memory.
struct Bytes(Arc<Vec<u8>>);

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The tensors of a GGUF file, or of those that it was split into.
struct Parts {
    path: PathBuf,
    paths: Vec<PathBuf>,
    files: Vec<Arc<dyn ReadAt>>,
    tensors: HashMap<String, (usize, GgufTensor)>,
    order: Vec<String>,
    /// What the places of tensors are multiples of.
    alignment: u64,
}

impl Parts {
    /// Opens all; the metadata is that of the first.
    fn open(storage: &dyn ReadStorage, path: &Path) -> Result<(GgufFile, Self)> {
        let mut first = GgufFile::open(storage, path)?;
        let count = first.get("split.count").and_then(|count| count.as_u64()).unwrap_or(1).max(1);
        let mut paths = vec![path.to_owned()];
        if count > 1 {
            paths = split_paths(path, &first, count)?;
        }
        let (files, tensors, order) = (Vec::new(), HashMap::new(), Vec::new());
        let alignment = first.get("general.alignment").and_then(|alignment| alignment.as_u64());
        let alignment = alignment.unwrap_or(gguf::ALIGNMENT).max(1);
        let mut parts = Self { path: path.to_owned(), paths: paths.clone(), files, tensors, order, alignment };
        for (index, path) in paths.iter().enumerate() {
            let tensors = match index {
                0 => std::mem::take(&mut first.tensors),
                _ => GgufFile::open(storage, path)?.tensors,
            };
            parts.files.push(storage.open(path).map_err(|error| Error::io("open", path, &error))?);
            for tensor in tensors {
                parts.order.push(tensor.name.clone());
                if let Some((_, twice)) = parts.tensors.insert(tensor.name.clone(), (index, tensor)) {
                    return Err(Error::input(format!("{}: tensor {} is in two files", path.display(), twice.name)));
                }
            }
        }
        Ok((first, parts))
    }

    fn get(&self, name: &str) -> Option<&(usize, GgufTensor)> {
        self.tensors.get(name)
    }

    /// Bytes after the last tensor of each file, beyond what fills it up to the alignment. 0 where tensors are of unknown
    /// length.
    fn excess(&self) -> Vec<u64> {
        let mut ends = vec![Some(0); self.files.len()];
        for (file, tensor) in self.tensors.values() {
            let end = tensor.encoding.map(|_| tensor.offset + tensor.len);
            ends[*file] = ends[*file].zip(end).map(|(own, end)| own.max(end));
        }
        let excess = |(file, end): (&Arc<dyn ReadAt>, Option<u64>)| match end {
            None | Some(0) => 0,
            Some(end) => file.len().saturating_sub(end.next_multiple_of(self.alignment)),
        };
        self.files.iter().zip(ends).map(excess).collect()
    }

    /// A small tensor of f32.
    fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some((file, tensor)) = self.get(name) else { return Ok(None) };
        if tensor.encoding != Some(Encoding::Plain(Dtype::F32)) || tensor.len > 1 << 20 {
            return Err(Error::input(format!("{}: tensor {name} is not a list of f32", self.path.display())));
        }
        let mut bytes = vec![0; tensor.len as usize];
        let read = self.files[*file].read_exact_at(&mut bytes, tensor.offset);
        read.map_err(|error| Error::io("read", &self.path, &error))?;
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// The dtype of the model: that of the matrices, bf16 where they are in blocks.
    fn dtype(&self) -> Dtype {
        let matrices = self.tensors.values().filter(|(_, tensor)| tensor.shape.len() > 1);
        let all = |dtype: Dtype| {
            matrices.clone().all(|(_, tensor)| {
                tensor.encoding == Some(Encoding::Plain(dtype)) || tensor.name.ends_with("ffn_gate_inp.weight")
            })
        };
        [Dtype::F32, Dtype::F16].into_iter().find(|dtype| all(*dtype)).unwrap_or(Dtype::BF16)
    }

    /// The tensors of the safetensors file: those that the description knows, and all others under their own names, so
    /// that they are reported.
    fn tensors(&self, description: &Description, architecture: GgufArchitecture) -> Result<Vec<Tensor>> {
        let (mut tensors, mut used) = (Vec::new(), HashSet::new());
        for tensor in &description.tensors {
            if tensor.part_of.is_some_and(|part| part.first_row > 0) {
                continue;
            }
            let own = name_of(tensor);
            match self.get(&own) {
                Some((file, stored)) => {
                    used.insert(own);
                    tensors.extend(self.tensor(tensor, *file, stored, description, architecture)?);
                }
                None if is_of_shared_expert(tensor.role) && !architecture.has_shared_expert() => {
                    let shape = tensor.stored_shape();
                    tensors.push(Tensor { name: tensor.name.clone(), shape, source: Source::Zeros });
                }
                // The reader names what is missing.
                None => {}
            }
        }
        for name in self.order.iter().filter(|name| !used.contains(*name) && !DIVISORS.contains(&name.as_str())) {
            let (file, stored) = &self.tensors[name];
            let source = Source::Stored(self.stored(*file, stored)?);
            tensors.push(Tensor { name: name.clone(), shape: stored.shape.clone(), source });
        }
        Ok(tensors)
    }

    /// A tensor as Hugging Face has it; none if it is a part that the stored one lacks.
    fn tensor(
        &self,
        tensor: &RoleTensor,
        file: usize,
        stored: &GgufTensor,
        description: &Description,
        architecture: GgufArchitecture,
    ) -> Result<Option<Tensor>> {
        let mut source = self.stored(file, stored)?;
        let mut shape = stored.shape.clone();
        if let Role::Layer(_, LayerRole::Expert(expert, _)) = tensor.role {
            let [experts, rows, _] = *stored.shape.as_slice() else { return Ok(None) };
            if expert >= experts {
                return Ok(None);
            }
            shape.remove(0);
            let matrix = source.encoding.tensor_bytes(&[rows, source.columns]).unwrap_or(0);
            source.offset += expert as u64 * matrix;
        }
        let expected = tensor.stored_shape();
        let without_ones = |shape: &[usize]| shape.iter().copied().filter(|dim| *dim != 1).collect::<Vec<_>>();
        if without_ones(&shape) == without_ones(&expected) {
            shape = expected;
        }
        source.head_dim = match tensor.role {
            Role::Layer(layer, LayerRole::Attention(p) | LayerRole::AttentionBias(p))
                if matches!(p, Projection::Q | Projection::K) && architecture.has_adjacent_pairs() =>
            {
                description.decoder.layers.get(layer).map(|layer| layer.attention().head_dim)
            }
            _ => None,
        };
        if source.head_dim.is_some() && shape.len() < 2 {
            if matches!(source.encoding, Encoding::Blocks(_)) {
                return Err(self.unsupported(stored, "is a vector in blocks"));
            }
            source.columns = 1;
        }
        Ok(Some(Tensor { name: tensor.name.clone(), shape, source: Source::Stored(source) }))
    }

    fn stored(&self, file: usize, tensor: &GgufTensor) -> Result<Stored> {
        let encoding = tensor
            .encoding
            .ok_or_else(|| self.unsupported(tensor, &format!("has ggml's type {}", tensor.ggml_type)))?;
        let columns = tensor.shape.last().copied().unwrap_or(1);
        Ok(Stored { file, offset: tensor.offset, encoding, columns, head_dim: None })
    }

    fn unsupported(&self, tensor: &GgufTensor, what: &str) -> Error {
        let names: Vec<&str> = Encoding::of_gguf().map(Encoding::name).collect();
        Error::input(format!("{}: tensor {} {what}, which is not supported", self.path.display(), tensor.name))
            .unsupported()
            .hint(format!("moerge reads {}", names.join(", ")))
    }
}

fn is_of_shared_expert(role: Role) -> bool {
    matches!(role, Role::Layer(_, LayerRole::SharedExpert(_) | LayerRole::SharedExpertGate))
}

/// The paths of the files that a model was split into: `name-00001-of-00003.gguf`.
fn split_paths(path: &Path, first: &GgufFile, count: u64) -> Result<Vec<PathBuf>> {
    let number = first.get("split.no").and_then(|number| number.as_u64());
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = file.strip_suffix(&format!("-00001-of-{count:05}.gguf"));
    let (Some(0), Some(stem), true) = (number, stem, count <= 99_999) else {
        return Err(Error::input(format!("{} is a part of a split model", path.display()))
            .fact("parts", count.to_string())
            .hint(format!("give the first part, whose name ends in -00001-of-{count:05}.gguf")));
    };
    Ok((1..=count).map(|part| path.with_file_name(format!("{stem}-{part:05}-of-{count:05}.gguf"))).collect())
}
