//! The files beside the weights: config, tokenizer, card, recipe, index. All known before a weight is read.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{Fingerprint, Index, ReadStorage};
use serde::Serialize;

pub use super::output_file::{OutputFile, file};
use super::{chat_template, tokenizer};
use crate::{
    error::{Error, Result},
    model::{
        files::{CONFIG, GENERATION_CONFIG, TOKENIZER_FILES, read_bytes},
        gguf::quantised_sources,
        source::Source,
        source_files::SourceFiles,
        tokenizer_overrides::TokenizerOverrides,
    },
    output::card::{CardExpert, CardFacts, MODEL_CARD, model_card, source_licence},
    plan::{Models, MoePlan, OutputPlan},
    recipe::{Expert, Recipe},
    record::{FileRecord, MOERGE_JSON, MoergeJson, SourceRecord, TensorRecord},
};

/// Name of the recipe in the output.
pub const RECIPE_FILE: &str = "moerge.yml";

/// Which of the files are written that an output can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalFiles {
    /// The base's tokenizer.
    pub tokenizer: bool,
    /// README.md and the recipe.
    pub card: bool,
}

/// Every file beside the weights of an MoE, except for [`record`]'s.
///
/// # Errors
/// As for [`made_files`] and [`copied`].
pub fn output_files(
    storage: &dyn ReadStorage,
    recipe: &Recipe,
    models: &Models,
    plan: &MoePlan,
    out: &Path,
    optional: OptionalFiles,
) -> Result<Vec<OutputFile>> {
    let mut files = made_files(storage, recipe, models, plan, out, optional)?;
    let base = models.base();
    files.extend(copied(storage, &base.dir, &base.overrides, optional)?);
    Ok(files)
}

/// The generation config and the tokenizer in `dir`, with what `overrides` replaces.
///
/// # Errors
/// A file cannot be read.
pub fn copied(
    storage: &dyn ReadStorage,
    dir: &Path,
    overrides: &TokenizerOverrides,
    optional: OptionalFiles,
) -> Result<Vec<OutputFile>> {
    let read = |(path, _): (PathBuf, u64)| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(OutputFile { name, bytes: read_bytes(storage, &path)? })
    };
    let paths = copied_files(storage, dir, optional)?;
    let mut files = paths.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    if optional.tokenizer {
        if let Some(merged) = &overrides.vocabulary {
            tokenizer::set(&mut files, merged);
        }
        if let Some(template) = &overrides.chat_template {
            chat_template::set(&mut files, template);
        }
    }
    Ok(files)
}

/// The files of an MoE that are made rather than copied.
///
/// # Errors
/// The facts for the card cannot be read.
pub fn made_files(
    storage: &dyn ReadStorage,
    recipe: &Recipe,
    models: &Models,
    plan: &MoePlan,
    out: &Path,
    optional: OptionalFiles,
) -> Result<Vec<OutputFile>> {
    let mut files = config_and_index(&plan.output);
    if optional.card {
        files.push(file(MODEL_CARD, model_card(&card_facts(storage, recipe, models, plan, out)?)));
        files.push(file(RECIPE_FILE, recipe.text.to_string()));
    }
    Ok(files)
}

/// `config.json`, and the index of several shards.
pub fn config_and_index(plan: &OutputPlan) -> Vec<OutputFile> {
    let mut files = vec![file(CONFIG, pretty(&plan.config))];
    if plan.layout.shards.len() > 1 {
        files.push(OutputFile {
            name: moerge_checkpoint::INDEX_FILE.to_owned(),
            bytes: Index::of(&plan.layout).encode(),
        });
    }
    files
}

/// Files in `dir` that go along as they are, and their lengths in bytes: the generation config and the tokenizer, whose
/// ids of tokens it names.
///
/// # Errors
/// The storage cannot say whether a file is there.
pub fn copied_files(storage: &dyn ReadStorage, dir: &Path, optional: OptionalFiles) -> Result<Vec<(PathBuf, u64)>> {
    let of_tokenizer = TOKENIZER_FILES.into_iter().filter(|_| optional.tokenizer).map(|name| dir.join(name));
    let mut copied = Vec::new();
    for path in std::iter::once(dir.join(GENERATION_CONFIG)).chain(of_tokenizer) {
        match storage.facts(&path) {
            Ok(facts) => copied.push((path, facts.len)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", &path, &error)),
        }
    }
    Ok(copied)
}

/// `moerge.json`. Its length does not depend on the fingerprints.
pub fn record(
    id: &str,
    recipe: &str,
    sources: &[SourceFiles<'_>],
    plan: &OutputPlan,
    fingerprints: &[(String, Fingerprint)],
) -> OutputFile {
    let mut record = MoergeJson::new(id, recipe);
    record.sources = sources.iter().map(source_record).collect();
    let by_name: std::collections::HashMap<_, _> = fingerprints.iter().map(|(n, f)| (n.as_str(), *f)).collect();
    let reference = |view: &moerge_checkpoint::TensorView| {
        let dir = view.file.path.parent();
        let source = sources.iter().find(|source| source.dirs().any(|own| Some(own) == dir));
        format!("{}: {}", source.map_or("", |source| source.reference), view.name)
    };
    record.tensors = plan
        .tensors
        .iter()
        .filter_map(|t| t.encoding.dtype().map(|dtype| (t, dtype)))
        .map(|(t, dtype)| TensorRecord {
            name: t.name.clone(),
            dtype,
            shape: t.shape.clone(),
            fingerprint: by_name.get(t.name.as_str()).copied().unwrap_or(Fingerprint(0)),
            from: t.expr.reads().into_iter().map(reference).collect(),
        })
        .collect();
    file(MOERGE_JSON, record.to_text())
}

/// JSON as Hugging Face writes it: two spaces, a newline at the end.
fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn source_record(source: &SourceFiles<'_>) -> SourceRecord {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let files = source.checkpoints().flat_map(|checkpoint| checkpoint.files());
    SourceRecord {
        reference: source.reference.to_owned(),
        folder: name(source.dir),
        files: files.map(|f| FileRecord { name: name(&f.path), bytes: f.len }).collect(),
    }
}

fn card_facts(
    storage: &dyn ReadStorage,
    recipe: &Recipe,
    models: &Models,
    plan: &MoePlan,
    out: &Path,
) -> Result<CardFacts> {
    let (parameters, active_parameters) = plan.parameters();
    let expert = |e: &Expert| CardExpert {
        reference: e.source_model.to_string(),
        layers: e.layers.as_ref().map(ToString::to_string),
        positive_prompts: e.positive_prompts.clone(),
        negative_prompts: e.negative_prompts.clone(),
    };
    let sources = || models.sources.iter().flat_map(Source::files);
    let dirs = sources().flat_map(|files| files.dirs());
    Ok(CardFacts {
        name: out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        base: recipe.base_model.to_string(),
        experts: recipe.experts.iter().map(expert).collect(),
        shared_experts: recipe.shared_experts.iter().map(expert).collect(),
        sources: sources().map(|files| files.reference.to_owned()).collect(),
        folders: local_folders(sources()).into_iter().chain(documents(&models.sources)).collect(),
        licences: dirs.map(|dir| source_licence(storage, dir)).collect::<Result<_>>()?,
        architecture: plan.family.class.to_owned(),
        parameters,
        active_parameters,
        experts_per_layer: plan.shape.experts,
        experts_per_token: plan.shape.top_k,
        shared_weights: recipe.shared_weights.name().to_owned(),
        gate_mode: plan.routing.gate_mode.name().to_owned(),
        dtype: plan
            .output
            .tensors
            .first()
            .and_then(|t| t.encoding.dtype()?.torch_name())
            .unwrap_or_default()
            .to_owned(),
        recipe: recipe.text.to_string(),
        moerge_version: env!("CARGO_PKG_VERSION").to_owned(),
        remote_code: plan.output.config.contains_key("auto_map"),
        quantised: quantised_sources(storage, sources()),
    })
}

/// Names of models that earlier documents of the recipe make.
fn documents(sources: &[Source]) -> impl Iterator<Item = String> {
    let made = |source: &&Source| source.files().iter().all(|files| files.reference != source.reference);
    sources.iter().filter(made).map(|source| source.reference.clone())
}

/// References that name a folder rather than a model on the Hub.
pub fn local_folders<'a>(sources: impl Iterator<Item = SourceFiles<'a>>) -> Vec<String> {
    let in_cache = |dir: &Path| dir.components().any(|c| c.as_os_str() == "snapshots");
    let mut folders = Vec::new();
    for source in sources {
        let parts = source.reference.split('+').zip(source.dirs());
        folders.extend(parts.filter(|(_, dir)| !in_cache(dir)).map(|(reference, _)| reference.to_owned()));
    }
    folders
}
