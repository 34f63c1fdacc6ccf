//! The importance matrix of an export: read from a file, or measured on text while the file is made.

use std::path::PathBuf;

use moerge_checkpoint::LocalStorage;
use moerge_core::{
    error::{Error, Result},
    model::families::Description,
    ops::{ComputedValues, Identity},
    plan::{
        OutputPlan, Prompts,
        gguf::{GgufModel, ImatrixFacts, Importance, ImportanceMatrix},
    },
    progress::{Progress, Stage},
    recipe::SelfText,
};
use moerge_infer::{
    decoder::{InputSquares, Pass, Quantisation, forward, generation_memory, pass_memory},
    tokenizer::Tokenizer,
};

use super::weights::PlannedWeights;
use crate::{
    evaluate::Text,
    memory::{CHOOSING_THREADS, PROGRAM, TENSOR, TOKENIZER, USUAL_MEMORY},
    routers::write_samples,
};

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

/// The memory of measuring an importance matrix.
#[derive(Debug, Clone, Copy)]
pub struct ImatrixMemory {
    /// An upper bound in bytes.
    pub needed: u64,
    /// Bytes for the activations of a pass; one sequence is run even if it needs more.
    room: u64,
    /// How the weights are stored while the model writes text.
    way: Quantisation,
}

impl Default for ImatrixMemory {
    fn default() -> Self {
        Self { needed: 0, room: USUAL_MEMORY, way: Quantisation::Q8_0 }
    }
}

/// Tokens of a sequence, as llama-imatrix has them.
const WINDOW: usize = 512;
/// Tokens of a pass over the weights.
const PASS: usize = 8192;
/// Texts that the model writes where nothing else did.
const OWN_SAMPLES: usize = 24;
/// Bytes per byte of text: the text, and ids of at most as many tokens, twice.
const TEXT: u64 = 1 + 2 * size_of::<u32>() as u64;

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

    /// The memory of measuring the matrix of a model within `budget` bytes; `None` if it is known. `own` is the longest
    /// text that experts write, in tokens, if they do.
    pub fn memory(
        &self,
        description: &Description,
        tokenizer_bytes: u64,
        own: Option<usize>,
        budget: Option<u64>,
    ) -> Option<ImatrixMemory> {
        let (text, longest) = match (&self.numbers, own) {
            (Numbers::Known(_), _) => return None,
            (Numbers::OnTexts(texts), _) => {
                let documents = texts.iter().flat_map(|text| &text.documents);
                (TEXT * documents.map(|document| document.len() as u64).sum::<u64>(), WINDOW)
            }
            (Numbers::OnOwnText, own) => (0, WINDOW.max(own.unwrap_or(own_settings().tokens + 1))),
        };
        let tensors = TENSOR * description.tensors.len() as u64;
        let fixed = PROGRAM + tensors + TOKENIZER * tokenizer_bytes + ImportanceMatrix::bytes(description) + text;
        let room = budget.unwrap_or(USUAL_MEMORY).saturating_sub(fixed);
        let threads = rayon::current_num_threads();
        let pass = |lengths: &[usize], threads| pass_memory(description, lengths, size_of::<f32>(), threads);
        // As many sequences as fit into a pass on a usual number of threads, but at least one.
        let largest = vec![longest; PASS.div_ceil(longest)];
        let of_more_threads = pass(&largest, threads).saturating_sub(pass(&largest, CHOOSING_THREADS));
        let passes = pass(&largest, threads).min(room.saturating_add(of_more_threads)).max(pass(&[longest], threads));
        let (way, generation) = match (&self.numbers, own) {
            (Numbers::OnOwnText, None) => writing(description, budget.map(|_| room)),
            _ => (Quantisation::Q8_0, 0),
        };
        Some(ImatrixMemory { needed: fixed + passes.max(generation), room, way })
    }

    /// The importance matrix for `model`, whose routers are `computed`. `own` is the text of the experts, if there is
    /// any.
    ///
    /// # Errors
    /// Weights cannot be read, or the run was stopped.
    pub fn matrix(
        &self,
        model: &GgufModel,
        computed: &dyn ComputedValues,
        tokenizer: &dyn Fn() -> Result<Tokenizer>,
        own: Option<Vec<Vec<u32>>>,
        memory: Option<ImatrixMemory>,
        progress: &dyn Progress,
    ) -> Result<ImportanceMatrix> {
        let dataset = self.facts.dataset.clone();
        let memory = memory.unwrap_or_default();
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
                None => own_text(model, computed, &tokenizer()?, memory.way, progress)?,
            },
        };
        let mut matrix = measure(model, computed, &sequences, memory.room, progress)?;
        matrix.datasets.extend(dataset);
        Ok(matrix)
    }
}

/// The importance of the tensors of `plans`, which are of one model, with what the user should know.
///
/// # Errors
/// The matrix is of another model.
pub(super) fn importance<'a>(
    matrix: &ImportanceMatrix,
    plans: impl Iterator<Item = &'a OutputPlan>,
) -> Result<(Importance, Vec<String>)> {
    let (mut all, mut warnings) = (Importance::default(), Vec::new());
    for plan in plans {
        let (importance, missing) = matrix.of(&plan.tensors)?;
        all.extend(importance);
        warnings.extend(missing.filter(|missing| !warnings.contains(missing)));
    }
    match matrix.idle_experts() {
        0 => {}
        1 => warnings.push(
            "1 expert saw no token of the text: the columns of its weights count alike in the importance matrix"
                .to_owned(),
        ),
        idle => warnings.push(format!(
            "{idle} experts saw no token of the text: the columns of their weights count alike in the importance matrix"
        )),
    }
    Ok((all, warnings))
}

fn own_settings() -> SelfText {
    SelfText { samples: OWN_SAMPLES, ..SelfText::default() }
}

/// How the model's weights are stored while it writes text within `room`, and the bytes that it then takes. Chosen by the
/// budget alone, so that the text is the same on every machine.
fn writing(description: &Description, room: Option<u64>) -> (Quantisation, u64) {
    let settings = own_settings();
    let lengths = vec![settings.tokens + 1; settings.samples];
    let bytes = |way, threads| generation_memory(description, way, &lengths, 1, threads);
    let fits = room.is_none_or(|room| bytes(Quantisation::Q8_0, CHOOSING_THREADS) <= room);
    let way = if fits { Quantisation::Q8_0 } else { Quantisation::Q4K };
    (way, bytes(way, rayon::current_num_threads()))
}

/// What the model itself writes.
fn own_text(
    model: &GgufModel,
    computed: &dyn ComputedValues,
    tokenizer: &Tokenizer,
    way: Quantisation,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>> {
    let weights = PlannedWeights::new(model, computed)?;
    let settings = own_settings();
    progress.start(Stage::SelfText, (settings.samples * settings.tokens) as u64, 0);
    let samples = write_samples(&weights, tokenizer, &Prompts::default(), &settings, model.seed, way, progress)?;
    progress.finish(Stage::SelfText, &format!("{} samples of {} tokens", settings.samples, settings.tokens));
    Ok(samples.into_iter().map(|sample| sample.tokens).collect())
}

/// Runs the model over `sequences`, as many at once as fit into `room` bytes.
fn measure(
    model: &GgufModel,
    computed: &dyn ComputedValues,
    sequences: &[Vec<u32>],
    room: u64,
    progress: &dyn Progress,
) -> Result<ImportanceMatrix> {
    let description = &model.description;
    let vocabulary = description.decoder.vocabulary;
    if let Some(token) = sequences.iter().flatten().find(|token| **token as usize >= vocabulary) {
        return Err(Error::input(format!("the text has token {token}, and the embeddings {vocabulary} rows")));
    }
    let weights = PlannedWeights::new(model, computed)?;
    // Sums are rounded pass by pass, so what a pass holds must not depend on the machine either.
    let bytes = |lengths: &[usize]| pass_memory(description, lengths, size_of::<f32>(), CHOOSING_THREADS);
    let fits = |lengths: &[usize]| lengths.iter().sum::<usize>() <= PASS && bytes(lengths) <= room;
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
