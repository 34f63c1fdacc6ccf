//! Which type each tensor gets: the mixes of llama-quantize (`llama_tensor_get_type` in llama.cpp's `llama-quant.cpp`).

use moerge_checkpoint::{
    BlockType::{self, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0},
    Dtype, Encoding,
};
use regex_lite::Regex;

use super::{FileType, GgufModel, GgufOptions, file_type::unknown_type, named_tensor::NamedTensor};
use crate::{
    error::{Cause, Error, Result},
    model::families::GgufArchitecture,
};

/// A type for the tensors whose names match.
#[derive(Debug, Clone)]
pub struct TypeRule {
    /// Matches somewhere in a name.
    pub pattern: Regex,
    /// The type.
    pub encoding: Encoding,
}

impl TypeRule {
    /// Reads `REGEX=TYPE`, such as `ffn_down=q6_K`.
    ///
    /// # Errors
    /// The text is not of that form, as a sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (pattern, name) = text.rsplit_once('=').ok_or("expected REGEX=TYPE, such as ffn_down=q6_k")?;
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        let encoding = Encoding::of_gguf().find(|encoding| encoding.name().eq_ignore_ascii_case(name));
        let encoding = encoding.ok_or_else(|| {
            let known: Vec<String> = Encoding::of_gguf().map(|encoding| encoding.name().to_lowercase()).collect();
            unknown_type(name, &known)
        })?;
        Ok(Self { pattern, encoding })
    }
}

/// The types of all tensors.
pub struct Mixed {
    /// In the order of the tensors.
    pub encodings: Vec<Encoding>,
    /// Tensors whose rows do not fill the blocks that the mix wants.
    fallbacks: Vec<String>,
    /// Patterns of rules that match only tensors that stay f32.
    without_effect: Vec<String>,
}

impl Mixed {
    /// Warnings: about the tensors that have another type than `file_type` says, and about rules without effect.
    pub fn warnings(&self, file_type: FileType) -> impl Iterator<Item = String> {
        let rule = |pattern: &String| {
            format!("`{pattern}` has no effect: norms, biases and routers, which are all it matches, stay f32")
        };
        self.fallback_warning(file_type).into_iter().chain(self.without_effect.iter().map(rule))
    }

    fn fallback_warning(&self, file_type: FileType) -> Option<String> {
        let (first, others) = self.fallbacks.split_first()?;
        let tensors =
            if others.is_empty() { "1 tensor has".to_owned() } else { format!("{} tensors have", others.len() + 1) };
        let and_others = if others.is_empty() { "" } else { " and others" };
        let (kind, why) = (file_type.name(), "since rows do not fill its blocks");
        Some(format!("{tensors} another type than {kind} says, {why}: {first}{and_others}"))
    }
}

/// What a tensor is, as far as the mixes care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Category {
    Output,
    Embeddings,
    Qkv,
    V,
    K,
    AttentionOutput,
    Down,
    Other,
}

/// Chooses the types.
///
/// # Errors
/// The mix needs an importance matrix, and there is none; or a rule matches no tensor.
pub fn mix(
    model: &GgufModel,
    architecture: GgufArchitecture,
    tensors: &[NamedTensor],
    options: &GgufOptions,
) -> Result<Mixed> {
    if options.file_type == FileType::Q2_K_S && options.imatrix.is_none() {
        return Err(Error::input("q2_k_s needs an importance matrix").cause(Cause::NeedsImatrix));
    }
    let config = &model.config;
    let mixer = Mixer {
        file_type: options.file_type,
        has_imatrix: options.imatrix.is_some(),
        layers: model.layers(),
        experts: model.description.decoder.experts().map_or(0, |experts| experts.experts),
        grouped: config.heads / config.kv_heads.max(1),
        tied: model.description.decoder.tied_embeddings,
        // Llama 2 70B's shape, by which llama.cpp tells 70B models.
        is_70b: model.layers() == 80 && config.heads != config.kv_heads && architecture == GgufArchitecture::Llama
            || model.layers() == 80 && architecture == GgufArchitecture::Qwen2,
    };
    let without_effect = rules_without_effect(&options.rules, tensors)?;
    let mut mixed = Mixed { encodings: Vec::with_capacity(tensors.len()), fallbacks: Vec::new(), without_effect };
    for tensor in tensors {
        let encoding = match stays_f32(tensor) {
            true => Encoding::Plain(Dtype::F32),
            false => mixer.encoding(tensor, &options.rules),
        };
        let fitting = fitting(encoding, tensor.shape.last().copied().unwrap_or(1));
        if fitting != encoding {
            mixed.fallbacks.push(tensor.name.clone());
        }
        mixed.encodings.push(fitting);
    }
    Ok(mixed)
}

/// The patterns that match only tensors that stay f32.
///
/// # Errors
/// A pattern matches no tensor at all.
fn rules_without_effect(rules: &[TypeRule], tensors: &[NamedTensor]) -> Result<Vec<String>> {
    let mut without_effect = Vec::new();
    for TypeRule { pattern, .. } in rules {
        let mut matching = tensors.iter().filter(|tensor| pattern.is_match(&tensor.name)).peekable();
        if matching.peek().is_none() {
            let example = tensors.iter().find(|tensor| category(&tensor.name) == Category::Down);
            let example = example.map_or("blk.0.ffn_down.weight", |tensor| tensor.name.as_str());
            return Err(Error::input(format!("no tensor matches `{pattern}`"))
                .hint(format!("tensors have llama.cpp's names, such as {example}")));
        }
        if matching.all(stays_f32) {
            without_effect.push(pattern.to_string());
        }
    }
    Ok(without_effect)
}

/// Vectors, norms and routers stay as they are.
fn stays_f32(tensor: &NamedTensor) -> bool {
    let name = tensor.name.as_str();
    tensor.shape.len() < 2
        || name.ends_with("_norm.weight")
        || !name.ends_with(".weight")
        || name.contains("ffn_gate_inp")
}

/// The type that is taken where rows do not fill blocks.
fn fitting(encoding: Encoding, columns: usize) -> Encoding {
    let Encoding::Blocks(block) = encoding else { return encoding };
    if columns.is_multiple_of(block.elements()) {
        return encoding;
    }
    let smaller = match block {
        IQ4_XS => IQ4_NL,
        Q2_K | Q3_K => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL => return Encoding::Plain(Dtype::F16),
    };
    if columns.is_multiple_of(smaller.elements()) { smaller.into() } else { Encoding::Plain(Dtype::F16) }
}

fn category(name: &str) -> Category {
    match name {
        "output.weight" => Category::Output,
        "token_embd.weight" => Category::Embeddings,
        _ if name.contains("attn_qkv.weight") => Category::Qkv,
        _ if name.contains("attn_v.weight") => Category::V,
        _ if name.contains("attn_k.weight") => Category::K,
        _ if name.contains("attn_output.weight") => Category::AttentionOutput,
        _ if name.contains("ffn_down") => Category::Down,
        _ => Category::Other,
    }
}

struct Mixer {
    file_type: FileType,
    has_imatrix: bool,
    layers: usize,
    /// 0 of a dense model.
    experts: usize,
    /// Query heads for each key/value head.
    grouped: usize,
    tied: bool,
    is_70b: bool,
}

impl Mixer {
    fn encoding(&self, tensor: &NamedTensor, rules: &[TypeRule]) -> Encoding {
        if let Some(rule) = rules.iter().find(|rule| rule.pattern.is_match(&tensor.name)) {
            return rule.encoding;
        }
        let default = self.file_type.encoding();
        let Encoding::Blocks(block) = default else { return default };
        let layer = layer_of(&tensor.name).unwrap_or(0);
        let (ftype, eight) = (self.file_type, self.experts == 8);
        let chosen = match category(&tensor.name) {
            Category::Output => self.output(tensor, block),
            Category::Embeddings if self.tied => self.output(tensor, block),
            Category::V | Category::Qkv => self.v(layer, block),
            Category::K if eight => Q8_0,
            Category::Down => self.down(layer, block),
            Category::AttentionOutput if eight => match ftype {
                FileType::Q2_K
                | FileType::Q3_K_S
                | FileType::Q3_K_M
                | FileType::IQ4_NL
                | FileType::Q4_K_S
                | FileType::Q4_K_M
                | FileType::IQ4_XS => Q5_K,
                _ => block,
            },
            Category::AttentionOutput => match ftype {
                FileType::Q2_K => Q3_K,
                FileType::Q3_K_M => Q4_K,
                FileType::Q3_K_L => Q5_K,
                _ => block,
            },
            Category::Embeddings | Category::K | Category::Other => block,
        };
        chosen.into()
    }

    fn output(&self, tensor: &NamedTensor, block: BlockType) -> BlockType {
        let fills = tensor.shape.last().is_some_and(|columns| columns.is_multiple_of(block.elements()));
        if fills && block != Q8_0 { Q6_K } else { Q8_0 }
    }

    fn v(&self, layer: usize, block: moerge_checkpoint::BlockType) -> moerge_checkpoint::BlockType {
        let mut chosen = match self.file_type {
            FileType::Q2_K => {
                if self.grouped >= 4 {
                    Q4_K
                } else {
                    Q3_K
                }
            }
            FileType::Q2_K_S if self.grouped >= 4 => Q4_K,
            FileType::Q3_K_M => {
                if layer < 2 {
                    Q5_K
                } else {
                    Q4_K
                }
            }
            FileType::Q3_K_L => Q5_K,
            FileType::IQ4_NL | FileType::IQ4_XS if self.grouped >= 4 => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if self.wants_more_bits(layer) => Q6_K,
            FileType::Q4_K_S if layer < 4 => Q5_K,
            _ => block,
        };
        if self.is_70b && matches!(chosen, Q3_K | Q4_K) {
            chosen = Q5_K;
        }
        if self.experts == 8 { Q8_0 } else { chosen }
    }

    fn down(&self, layer: usize, block: BlockType) -> BlockType {
        let first_eighth = layer < self.layers / 8;
        match self.file_type {
            FileType::Q2_K => Q3_K,
            FileType::Q2_K_S if first_eighth => Q4_K,
            FileType::Q3_K_M if layer < self.layers / 16 => Q5_K,
            FileType::Q3_K_M => Q4_K,
            FileType::Q3_K_L => Q5_K,
            FileType::Q4_K_M | FileType::Q5_K_M if self.wants_more_bits(layer) => Q6_K,
            FileType::IQ4_NL | FileType::IQ4_XS if first_eighth && !self.has_imatrix => Q5_K,
            FileType::Q4_K_S if first_eighth => Q5_K,
            FileType::Q4_0 if first_eighth && self.has_imatrix => Q4_1,
            FileType::Q5_0 if first_eighth && self.has_imatrix => Q5_1,
            _ => block,
        }
    }

    /// The first eighth of the layers, the last, and every third between.
    fn wants_more_bits(&self, layer: usize) -> bool {
        let eighth = self.layers / 8;
        layer < eighth || layer >= 7 * self.layers / 8 || (layer - eighth) % 3 == 2
    }
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
