//! The importance matrix of an export: read from a file, or measured on text while the file is made.

use std::path::{Path, PathBuf};

use moerge_checkpoint::LocalStorage;
use moerge_core::{
    error::{Error, Result},
    ops::{ComputedValues, Identity},
    plan::{
        Prompts,
        gguf::{GgufPlan, ImatrixFacts, Importance, ImportanceMatrix},
    },
    progress::{Progress, Stage},
    recipe::SelfText,
};
use moerge_infer::{
    decoder::{InputSquares, Pass, Quantisation, forward, pass_memory},
    tokenizer::Tokenizer,
};

use super::weights::PlannedWeights;
use crate::{evaluate::Text, memory::USUAL_MEMORY, routers::write_samples};

/// Where an importance matrix comes from.
#[derive(Debug, Clone)]
pub enum ImatrixSource {
    /// A file of llama.cpp's.
    File(PathBuf),
    /// Measured on these texts.
    Texts(Vec<PathBuf>),
    /// Measured on text that the model, or its experts, write.
    OwnText,
}

/// An importance matrix before it is needed.
#[derive(Debug)]
pub struct Imatrix {
    /// What the plan needs to know.
    pub facts: ImatrixFacts,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    Known(ImportanceMatrix),
    OnTexts(Vec<Text>),
    OnOwnText,
}

/// Tokens of a sequence, as llama-imatrix has them.
const WINDOW: usize = 512;
/// Tokens of a pass over the weights.
const PASS: usize = 8192;

impl Imatrix {
    /// Reads what is there: the file, or the texts.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(source: &ImatrixSource) -> Result<Self> {
        match source {
            ImatrixSource::File(path) => {
                let (matrix, facts) = ImportanceMatrix::open(&LocalStorage, path)?;
                Ok(Self { facts, numbers: Numbers::Known(matrix) })
            }
            ImatrixSource::Texts(paths) => {
                let texts = paths.iter().map(|path| Text::load(path)).collect::<Result<Vec<_>>>()?;
                let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
                let dataset = paths.iter().filter_map(name).collect::<Vec<_>>().join(", ");
                let mut id = Identity::default();
                id.list(texts.iter(), |id, text| {
                    id.list(text.documents.iter(), |id, document| {
                        id.text(document);
                    });
                });
                let facts = ImatrixFacts {
                    name: "moerge".to_owned(),
                    dataset: Some(dataset),
                    identity: id.finish(),
                    ..ImatrixFacts::default()
                };
                Ok(Self { facts, numbers: Numbers::OnTexts(texts) })
            }
            ImatrixSource::OwnText => {
                let facts = ImatrixFacts {
                    name: "moerge".to_owned(),
                    dataset: Some("self".to_owned()),
                    identity: "self".to_owned(),
                    ..ImatrixFacts::default()
                };
                Ok(Self { facts, numbers: Numbers::OnOwnText })
            }
        }
    }

    /// The importance matrix for `plan`, whose routers are `computed`. `own` is the text of the experts, if there is
    /// any.
    ///
    /// # Errors
    /// Weights cannot be read, or the run was stopped.
    pub fn matrix(
        &self,
        plan: &GgufPlan,
        computed: &dyn ComputedValues,
        tokenizer: &dyn Fn() -> Result<Tokenizer>,
        own: Option<Vec<Vec<u32>>>,
        memory: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<ImportanceMatrix> {
        let dataset = self.facts.dataset.clone();
        let sequences = match &self.numbers {
            Numbers::Known(matrix) => return Ok(matrix.clone()),
            Numbers::OnTexts(texts) => {
                let tokenizer = tokenizer()?;
                let documents = texts.iter().flat_map(|text| &text.documents);
                let windows = documents.map(|text| tokenizer.encode_windows(text, WINDOW));
                windows.collect::<Result<Vec<_>>>()?.concat()
            }
            Numbers::OnOwnText => match own {
                Some(own) => own,
                None => own_text(plan, computed, &tokenizer()?, progress)?,
            },
        };
        let mut matrix = measure(plan, computed, &sequences, memory, progress)?;
        matrix.datasets.extend(dataset);
        Ok(matrix)
    }
}

/// The importance of the tensors of `plan`, with what the user should know.
///
/// # Errors
/// The matrix is of another model.
pub fn importance(matrix: &ImportanceMatrix, plan: &GgufPlan) -> Result<(Importance, Vec<String>)> {
    let (importance, missing) = matrix.of(&plan.output.tensors)?;
    let idle = matrix.idle_experts();
    let idle = (idle > 0).then(|| {
        format!(
            "{idle} experts saw no token of the text: the columns of their weights count alike in the importance matrix"
        )
    });
    Ok((importance, missing.into_iter().chain(idle).collect()))
}

/// What the model itself writes.
fn own_text(
    plan: &GgufPlan,
    computed: &dyn ComputedValues,
    tokenizer: &Tokenizer,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>> {
    let weights = PlannedWeights::new(&plan.model, computed)?;
    let settings = SelfText { samples: 24, ..SelfText::default() };
    progress.start(Stage::SelfText, (settings.samples * settings.tokens) as u64, 0);
    let prompts = Prompts::default();
    let samples =
        write_samples(&weights, tokenizer, &prompts, &settings, plan.model.seed, Quantisation::Q8_0, progress)?;
    progress.finish(Stage::SelfText, &format!("{} samples of {} tokens", settings.samples, settings.tokens));
    Ok(samples.into_iter().map(|sample| sample.tokens).collect())
}

/// Runs the model over `sequences`, as many at once as fit into `memory`.
fn measure(
    plan: &GgufPlan,
    computed: &dyn ComputedValues,
    sequences: &[Vec<u32>],
    memory: Option<u64>,
    progress: &dyn Progress,
) -> Result<ImportanceMatrix> {
    let description = &plan.model.description;
    let vocabulary = description.decoder.vocabulary;
    if let Some(token) = sequences.iter().flatten().find(|token| **token as usize >= vocabulary) {
        return Err(Error::input(format!("the text has token {token}, and the embeddings {vocabulary} rows")));
    }
    let weights = PlannedWeights::new(&plan.model, computed)?;
    let (budget, threads) = (memory.unwrap_or(USUAL_MEMORY), rayon::current_num_threads());
    let fits = |lengths: &[usize]| {
        lengths.iter().sum::<usize>() <= PASS && pass_memory(description, lengths, size_of::<f32>(), threads) <= budget
    };
    let mut squares = InputSquares::default();
    let layers = description.decoder.layers.len() as u64;
    let passes = passes(sequences, fits);
    progress.start(Stage::Prompts, layers * passes.len() as u64, 0);
    for pass in &passes {
        forward(&weights, pass, Pass { squares: Some(&mut squares), ..Pass::default() }, &mut (), progress)?;
    }
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    progress.finish(Stage::Prompts, &format!("importance of columns on {tokens} tokens"));
    let experts = description.decoder.experts().map_or(1, |experts| experts.experts);
    let mut matrix = ImportanceMatrix {
        chunk_size: WINDOW as u32,
        chunks: u32::try_from(tokens.div_ceil(WINDOW)).unwrap_or(u32::MAX),
        ..ImportanceMatrix::default()
    };
    for tensor in &description.tensors {
        if let Some(sums) = squares.get(tensor.role) {
            matrix.add(tensor, &sums.squares, sums.tokens, experts);
        }
    }
    Ok(matrix)
}

/// The sequences of each pass: as many as `fits` allows, at least one.
fn passes(sequences: &[Vec<u32>], fits: impl Fn(&[usize]) -> bool) -> Vec<Vec<Vec<u32>>> {
    let mut passes: Vec<Vec<Vec<u32>>> = Vec::new();
    let mut lengths = Vec::new();
    for sequence in sequences {
        lengths.push(sequence.len());
        if passes.is_empty() || !fits(&lengths) {
            lengths = vec![sequence.len()];
            passes.push(Vec::new());
        }
        if let Some(pass) = passes.last_mut() {
            pass.push(sequence.clone());
        }
    }
    passes
}

/// Writes the file of an importance matrix.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(matrix: &ImportanceMatrix, path: &Path) -> Result<()> {
    let bytes = matrix.to_bytes()?;
    std::fs::write(path, bytes).map_err(|error| Error::io("write", path, &error))
}
