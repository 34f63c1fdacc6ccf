//! Importance matrices ("imatrix"): for each matrix of a model the mean square of what it is multiplied with, column by
//! column. The search for a block's scales weighs errors by it.
//!
//! Files are llama.cpp's: GGUF since 2025 (`{name}.in_sum2` and `{name}.counts`), `.dat` before.

mod read;
mod write;

use std::collections::{BTreeMap, HashMap};

use moerge_checkpoint::{Encoding, gguf::Value};

use crate::{
    error::{Error, Result},
    model::{
        families::{Description, LayerRole, Role, RoleTensor},
        gguf::names::name_of,
    },
    ops::ComputedValues,
    plan::OutputTensor,
};

/// The importance matrix of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportanceMatrix {
    /// By the names of tensors in GGUF files.
    pub entries: BTreeMap<String, InputSums>,
    /// What it was computed on.
    pub datasets: Vec<String>,
    /// Tokens of a chunk of text.
    pub chunk_size: u32,
    /// The number of chunks.
    pub chunks: u32,
}

/// Sums over the inputs of a tensor, which may be a stack of matrices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputSums {
    /// Sums of squares, `[matrices, columns]`.
    pub squares: Vec<f32>,
    /// The number of tokens of each matrix.
    pub tokens: Vec<f32>,
}

/// What the metadata of a quantised file says of the importance matrix, and what tells it from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImatrixFacts {
    /// The name of its file; `moerge` if it is measured while the file is made.
    pub name: String,
    /// What it was computed on.
    pub dataset: Option<String>,
    /// The number of tensors, where it is known.
    pub entries: Option<usize>,
    /// The number of chunks, where it is known.
    pub chunks: Option<u32>,
    /// A hash of what it is made of.
    pub identity: String,
}

/// The importance of every column of the tensors that have one, by their names.
#[derive(Debug, Default)]
pub struct Importance(HashMap<String, Vec<f32>>);

impl Importance {
    /// Adds that of other tensors of the same matrix.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl InputSums {
    /// The mean squares, `[matrices, columns]`. A matrix that saw no token counts all columns alike.
    fn means(&self) -> Vec<f32> {
        let columns = self.squares.len() / self.tokens.len().max(1);
        let matrices = self.squares.chunks(columns.max(1)).zip(&self.tokens);
        matrices
            .flat_map(|(sums, tokens)| sums.iter().map(move |x| if *tokens > 0.0 { x / tokens } else { 1.0 }))
            .collect()
    }
}

impl ImportanceMatrix {
    /// Adds the sums of a matrix: those of an expert to the stack of `experts`.
    pub fn add(&mut self, tensor: &RoleTensor, squares: &[f64], tokens: u64, experts: usize) {
        let (at, matrices) = match tensor.role {
            Role::Layer(_, LayerRole::Expert(expert, _)) => (expert, experts),
            _ => (0, 1),
        };
        let entry = self.entries.entry(name_of(tensor)).or_default();
        let columns = squares.len();
        entry.squares.resize(matrices * columns, 0.0);
        entry.tokens.resize(matrices, 0.0);
        let own = entry.squares[at * columns..].iter_mut();
        own.zip(squares).for_each(|(sum, x)| *sum = *x as f32);
        entry.tokens[at] = tokens as f32;
    }

    /// The number of experts that saw no token, each layer's counted apart.
    pub fn idle_experts(&self) -> usize {
        let down = self.entries.iter().filter(|(name, _)| name.ends_with("ffn_down_exps.weight"));
        down.flat_map(|(_, sums)| &sums.tokens).filter(|tokens| **tokens == 0.0).count()
    }

    /// The number of bytes of its sums while they are added up, and as f32.
    pub fn bytes(description: &Description) -> u64 {
        let columns = description.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
        let columns = columns.filter_map(|tensor| tensor.shape.last()).map(|columns| *columns as u64);
        columns.sum::<u64>() * (size_of::<f64>() + 2 * size_of::<f32>()) as u64
    }

    /// The importance for `tensors`, with a warning for the user if some have none.
    ///
    /// # Errors
    /// It is of another model.
    pub fn of(&self, tensors: &[OutputTensor]) -> Result<(Importance, Option<String>)> {
        let (mut found, mut missing) = (HashMap::new(), Vec::new());
        for tensor in tensors.iter().filter(|tensor| matches!(tensor.encoding, Encoding::Blocks(_))) {
            let is_of_text = matches!(tensor.name.as_str(), "token_embd.weight" | "output.weight");
            let (columns, matrices) = match *tensor.shape.as_slice() {
                [matrices, _, columns] => (columns, matrices),
                [_, columns] => (columns, 1),
                _ => continue,
            };
            match self.entries.get(&tensor.name) {
                Some(entry) if entry.squares.len() == columns * matrices => {
                    found.insert(tensor.name.clone(), entry.means());
                }
                Some(_) | None if is_of_text => {}
                Some(entry) => {
                    return Err(Error::input(format!("the importance matrix does not fit {}", tensor.name))
                        .fact("expected", format!("{matrices} times {columns} numbers"))
                        .fact("found", format!("{} numbers", entry.squares.len()))
                        .hint("it was made for another model, or for a file that stores experts one by one"));
                }
                None => missing.push(tensor.name.as_str()),
            }
        }
        if found.is_empty() && !missing.is_empty() {
            return Err(Error::input("the importance matrix has none of the model's tensors")
                .fact("the model has", missing[0])
                .fact("it has", self.entries.keys().next().map_or("nothing", String::as_str)));
        }
        let warning = missing.first().map(|first| match missing.len() {
            1 => format!("1 tensor is not in the importance matrix: {first}"),
            count => format!("{count} tensors are not in the importance matrix: {first} and others"),
        });
        Ok((Importance(found), warning))
    }
}

impl ImatrixFacts {
    /// The keys that llama-quantize writes.
    pub(super) fn metadata(&self) -> impl Iterator<Item = (String, Value)> {
        let text = |text: &str| Value::String(text.to_owned());
        let number = |number: usize| Value::Int32(i32::try_from(number).unwrap_or(i32::MAX));
        let keys = [
            ("file", Some(text(&self.name))),
            ("dataset", self.dataset.as_deref().map(text)),
            ("entries_count", self.entries.map(number)),
            ("chunks_count", self.chunks.map(|chunks| number(chunks as usize))),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((format!("quantize.imatrix.{key}"), value?)))
    }
}

/// Values of computed tensors, with the importance of the columns of others.
pub struct WithImportance<'a> {
    /// The values.
    pub values: &'a dyn ComputedValues,
    /// The importance.
    pub importance: &'a Importance,
}

impl ComputedValues for WithImportance<'_> {
    fn values(&self, name: &str) -> Option<&[f32]> {
        self.values.values(name)
    }

    fn importance(&self, name: &str) -> Option<&[f32]> {
        self.importance.0.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::families::FfnMatrix, ops::Expr};

    fn tensor(name: &str, shape: &[usize]) -> OutputTensor {
        let encoding = moerge_checkpoint::BlockType::Q4_0.into();
        let expr = Expr::Fill { value: 0.0, shape: shape.to_vec() };
        OutputTensor { name: name.to_owned(), encoding, shape: shape.to_vec(), expr }
    }

    fn of_experts() -> ImportanceMatrix {
        let mut matrix = ImportanceMatrix::default();
        let role = |expert| RoleTensor {
            role: Role::Layer(1, LayerRole::Expert(expert, FfnMatrix::Down)),
            name: String::new(),
            shape: Vec::new(),
            part_of: None,
        };
        matrix.add(&role(2), &[4.0, 8.0], 4, 3);
        matrix.add(&role(0), &[1.0, 3.0], 2, 3);
        matrix
    }

    #[test]
    fn experts_are_one_entry_and_those_without_tokens_count_columns_alike() {
        let matrix = of_experts();
        let tensors = [tensor("blk.1.ffn_down_exps.weight", &[3, 5, 2]), tensor("output.weight", &[7, 2])];
        let (importance, warning) = matrix.of(&tensors).unwrap();
        assert_eq!(importance.0["blk.1.ffn_down_exps.weight"], [0.5, 1.5, 1.0, 1.0, 1.0, 2.0]);
        assert_eq!((warning, matrix.idle_experts()), (None, 1));
    }

    #[test]
    fn that_of_another_model_is_refused() {
        let matrix = of_experts();
        let refuse = |shape: &[usize], name: &str| matrix.of(&[tensor(name, shape)]).unwrap_err().to_string();
        assert!(refuse(&[2, 5, 2], "blk.1.ffn_down_exps.weight").contains("does not fit blk.1.ffn_down_exps.weight"));
        assert!(refuse(&[5, 2], "blk.0.ffn_down.weight").contains("none of the model's tensors"));
        let some = [tensor("blk.1.ffn_down_exps.weight", &[3, 5, 2]), tensor("blk.0.attn_q.weight", &[7, 2])];
        let warning = matrix.of(&some).unwrap().1;
        assert_eq!(warning.as_deref(), Some("1 tensor is not in the importance matrix: blk.0.attn_q.weight"));
    }
}
