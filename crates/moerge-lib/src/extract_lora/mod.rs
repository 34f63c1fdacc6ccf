//! A LoRA adapter from two dense models: what must be added to the base so that it becomes the other one, each matrix cut to
//! its largest singular values.
//!
//! One matrix per thread is in memory. Its factors go to the work folder beside the output at once, so a run that was
//! interrupted is resumed by the next one, and the output appears only when it is complete.

mod adapter_files;
mod kept;
mod svd;
mod targets;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use moerge_checkpoint::{Dtype, Found, OutputDir, OutputStorage, workers};
use moerge_core::{
    error::{Cause, Error, Result},
    model::{named_model::NamedModel, source_files::SourceFiles, token_tensors::is_head},
    numeric::sums,
    ops::{Evaluator, Identity},
    progress::{Progress, Stage},
    recipe::ModelRef,
};
use serde::Serialize;

use crate::{
    diff::{Distance, compare_others, read_rows},
    memory::StorageMemory,
    publication::check_outside,
};
use kept::Kept;
pub use svd::Truncation;
use targets::{Target, target_modules, targets};

/// Elements that are read at once.
const AT_ONCE: usize = 256 << 10;
/// The program itself, and what a thread holds besides its matrix.
const PROGRAM: u64 = 48 << 20;
const WORKER: u64 = 8 << 20;

/// What the user can set.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// How many singular values are kept.
    pub truncation: Truncation,
    /// Whether embeddings and head are adapted, too.
    pub embeddings: bool,
    /// Type of the factors: f32, f16 or bf16.
    pub dtype: Dtype,
    /// Threads, if there is memory for them.
    pub threads: usize,
    /// Bytes of memory to stay within.
    pub memory: Option<u64>,
    /// The part of it that the storages take.
    pub storages: StorageMemory,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct ExtractReport {
    /// The folder.
    pub out: PathBuf,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Rank of most matrices, `r` in `adapter_config.json`.
    pub rank: u64,
    /// Every matrix that differs, by name.
    pub matrices: Vec<MatrixReport>,
    /// Weights of linear layers that are equal in both models; the adapter does not change them.
    pub equal: usize,
    /// The fraction of the energy of all differences of linear layers that the adapter keeps.
    pub energy: f64,
    /// What differs and is not in the adapter.
    pub left_out: Vec<LeftOut>,
    /// Whether the adapter changes embeddings that are also the head: PEFT must merge it to change both.
    pub tied_embeddings: bool,
    /// Bytes of memory that the run was expected to need.
    pub memory: u64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// One matrix of the adapter.
#[derive(Debug, Clone, Serialize)]
pub struct MatrixReport {
    /// The module that it changes.
    pub module: String,
    /// Whether it is an embedding, whose factors PEFT stores transposed.
    pub embedding: bool,
    /// Rows and columns of the weight.
    pub shape: [usize; 2],
    /// Singular values that are kept.
    pub rank: usize,
    /// The fraction of the energy (sum of squared singular values) that they keep.
    pub energy: f64,
    /// `|model - base| / |base|`; `None` where the base is zero.
    pub relative: Option<f64>,
    /// `|model - base - B A| / |base|`: what the adapter does not recover, apart from rounding its factors.
    pub remaining: Option<f64>,
    /// The singular values that are kept, the largest first.
    pub singular_values: Vec<f64>,
    #[serde(skip)]
    norms: (f64, f64),
}

/// Tensors that differ and that the adapter cannot hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// `norms`, `embeddings`, ...
    pub module: String,
    /// How many differ.
    pub tensors: usize,
    /// How far they are apart; `None` where their shapes differ or only one model has them.
    pub distance: Option<Distance>,
}

/// Writes the adapter that turns `base` into `model` to `out`.
///
/// # Errors
/// The models do not fit each other or are equal, something cannot be read or written, or the user stops the run.
pub fn extract_lora(
    storage: &Arc<dyn OutputStorage>,
    model: &NamedModel,
    base: &NamedModel,
    out: &Path,
    options: &ExtractOptions,
    progress: &dyn Progress,
) -> Result<ExtractReport> {
    let start = Instant::now();
    check_base(base)?;
    let files: Vec<_> = [model, base].into_iter().flat_map(NamedModel::files).collect();
    check_outside(out, files.iter().flat_map(SourceFiles::dirs))?;
    let by_name = targets(model, base, options.embeddings)?;
    let targets: Vec<&Target<'_>> = by_name.values().collect();
    let (threads, memory) = threads(&targets, options)?;
    let (output, found) = OutputDir::open(storage, out, &plan_id(model, base, options), false).map_err(existing)?;
    if found == Found::AlreadyPublished {
        output.publish()?;
        return Err(Error::input(format!("{} already exists, built from these models", out.display())));
    }
    let done = decompose(&targets, &output, options, threads, progress)?;
    let (matrices, numbers): (Vec<MatrixReport>, Vec<usize>) =
        done.into_iter().enumerate().filter(|(_, report)| report.rank > 0).map(|(at, report)| (report, at)).unzip();
    let left_out = compare_others(model, base, |name, _| !by_name.contains_key(name), threads, progress)?
        .into_iter()
        .map(|(module, tensors, distance)| LeftOut { module, tensors, distance })
        .collect();
    if matrices.is_empty() {
        output.discard()?;
        return Err(Error::input("the linear layers of the two models are equal, so an adapter would change nothing")
            .fact("model", model.reference.as_str())
            .fact("base", base.reference.as_str()));
    }
    let modules: Vec<&str> = matrices.iter().map(|m| m.module.as_str()).collect();
    let reference =
        ModelRef::parse(&base.reference).ok().filter(|r| r.revision.is_some() && !Path::new(&base.reference).exists());
    let facts = adapter_files::ConfigFacts {
        base: reference.as_ref().map_or_else(|| base.reference.clone(), |r| r.model.clone()),
        revision: reference.and_then(|r| r.revision),
        target_modules: target_modules(model, &modules),
    };
    let config = adapter_files::config(&facts, &matrices);
    let bytes = adapter_files::write(&output, &config, &matrices, options.dtype, |number| {
        progress.check()?;
        let at = numbers[number];
        let kept = output.kept(&kept_name(at))?;
        let kept = kept.and_then(|bytes| Kept::from_bytes(&bytes, targets[at].shape));
        let kept = kept.ok_or_else(|| Error::input(format!("the work folder of {} was changed", out.display())))?;
        Ok((kept.a, kept.b))
    })?;
    for files in model.files().iter().chain(&base.files()) {
        files.checkpoints().try_for_each(|checkpoint| checkpoint.check_unchanged())?;
    }
    output.publish()?;
    let matrices_of_embeddings = matrices.iter().any(|matrix| matrix.embedding);
    let has_head = model.tensors.keys().any(|name| is_head(name));
    let energies = |of: fn(&MatrixReport) -> f64| matrices.iter().map(|m| of(m) * m.norms.1.powi(2)).sum::<f64>();
    Ok(ExtractReport {
        out: out.to_owned(),
        bytes,
        rank: config["r"].as_u64().unwrap_or(0),
        equal: targets.len() - matrices.len(),
        energy: energies(|m| m.energy) / energies(|_| 1.0),
        matrices,
        left_out,
        tied_embeddings: matrices_of_embeddings && model.ties_head() != Some(false) && !has_head,
        memory,
        seconds: Duration::as_secs_f64(&start.elapsed()),
    })
}

/// Decomposes every target's difference, or finds it in what an earlier run kept. The factors are kept, not returned.
fn decompose(
    targets: &[&Target<'_>],
    output: &OutputDir,
    options: &ExtractOptions,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<MatrixReport>> {
    let bytes = |target: &Target<'_>| {
        let views = target.model.expr.reads().into_iter().chain(target.base.expr.reads());
        views.map(|view| view.len).sum::<u64>()
    };
    progress.start(Stage::Decompose, targets.len() as u64, 0);
    let numbered: Vec<(usize, &Target<'_>)> = targets.iter().copied().enumerate().collect();
    let one = |(at, target): &(usize, &Target<'_>)| {
        let name = kept_name(*at);
        let kept = output.kept(&name)?.and_then(|bytes| Kept::from_bytes(&bytes, target.shape));
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let kept = difference(target, options.truncation, progress)?;
                output.keep(&name, &kept.to_bytes())?;
                kept
            }
        };
        progress.bytes_read(Stage::Decompose, bytes(target));
        progress.advance(Stage::Decompose, 1);
        Ok(report(target, &kept))
    };
    let reports = workers::try_map(&numbered, threads, one).map_err(|(_, error): (usize, Error)| error)?;
    progress.finish(Stage::Decompose, "");
    Ok(reports)
}

/// The factors of one difference.
fn difference(target: &Target<'_>, truncation: Truncation, progress: &dyn Progress) -> Result<Kept> {
    let (rows, columns) = target.shape;
    let (model, base) = (Evaluator::new(&target.model.expr, 0)?, Evaluator::new(&target.base.expr, 0)?);
    let mut matrix = Vec::with_capacity(rows * columns);
    let (mut raw, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    let mut norm = 0.0;
    let at_once = (AT_ONCE / columns).max(1);
    for first in (0..rows).step_by(at_once) {
        progress.check()?;
        let now = first..(first + at_once).min(rows);
        read_rows(&model, now.clone(), &mut raw, &mut left)?;
        read_rows(&base, now, &mut raw, &mut right)?;
        norm += sums::dot(&right, &right);
        matrix.extend(left.iter().zip(&right).map(|(model, base)| model - base));
    }
    if let Some(at) = matrix.iter().position(|x| !x.is_finite()) {
        return Err(Error::input(format!("the difference of {}.weight is not finite", target.module))
            .fact("row and column", format!("{}, {}", at / columns, at % columns))
            .hint("one of the models has NaN or infinite values there"));
    }
    let norm_of_difference = matrix.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let factors = svd::factors(matrix, target.shape, truncation, target.module, &|| progress.check())?;
    Ok(Kept::new(norm.sqrt(), norm_of_difference, factors))
}

fn report(target: &Target<'_>, kept: &Kept) -> MatrixReport {
    let share = |x: f64| (kept.norm > 0.0).then(|| x / kept.norm);
    MatrixReport {
        module: target.module.to_owned(),
        embedding: target.embedding,
        shape: [target.shape.0, target.shape.1],
        rank: kept.rank,
        energy: kept.energy,
        relative: share(kept.norm_of_difference),
        remaining: share(kept.norm_of_difference * (1.0 - kept.energy).max(0.0).sqrt()),
        singular_values: kept.singular_values.clone(),
        norms: (kept.norm, kept.norm_of_difference),
    }
}

fn kept_name(number: usize) -> String {
    format!("matrix-{number:05}.factors")
}

/// An adapter belongs to a model that others can load.
fn check_base(base: &NamedModel) -> Result<()> {
    if base.files().iter().all(|files| files.adapter.is_none()) {
        return Ok(());
    }
    Err(Error::input(format!("the base, {}, is a model with an adapter", base.reference))
        .hint("merge it first: PEFT loads an adapter onto a plain model"))
}

/// Nothing is replaced here, so an existing folder is the user's to remove.
fn existing(error: moerge_checkpoint::Error) -> Error {
    let error = Error::from(error);
    match error.parts().cause {
        Cause::OutputExists { .. } => error.cause(Cause::Other).hint("choose another folder, or remove this one"),
        _ => error,
    }
}

/// How many threads there is memory for, and what they hold at most.
fn threads(targets: &[&Target<'_>], options: &ExtractOptions) -> Result<(usize, u64)> {
    let largest = targets.iter().map(|t| svd::memory(t.shape, options.truncation)).max().unwrap_or(0);
    let each = largest + WORKER + options.storages.per_worker;
    let fixed = PROGRAM + options.storages.fixed;
    let budget = options.memory.unwrap_or(crate::memory::USUAL_MEMORY);
    let room = budget.saturating_sub(fixed) / each;
    let threads = options.threads.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
    let needed = fixed + each * threads as u64;
    match options.memory {
        Some(budget) if needed > budget => {
            let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
            Err(Error::input("decomposing the largest matrix exceeds the memory budget")
                .fact("needed", mib(needed))
                .fact("budget", mib(budget))
                .cause(Cause::OverMemoryBudget { needed }))
        }
        _ => Ok((threads, needed)),
    }
}

/// What an interrupted run is resumed by: the options, and where and when the sources were last written.
fn plan_id(model: &NamedModel, base: &NamedModel, options: &ExtractOptions) -> String {
    let mut id = Identity::default();
    id.text("extract-lora").text(env!("CARGO_PKG_VERSION")).text(options.dtype.name()).text(&base.reference);
    id.flag(options.embeddings);
    match options.truncation {
        Truncation::Rank(rank) => id.number(rank as u64),
        Truncation::Energy { share, max_rank } => id.float(share).number(max_rank as u64),
    };
    for files in model.files().iter().chain(&base.files()) {
        for file in files.checkpoints().flat_map(|checkpoint| checkpoint.files().to_vec()) {
            id.text(&file.path.to_string_lossy()).number(file.len).number(file.modified_ns as u64);
        }
    }
    id.finish()
}
