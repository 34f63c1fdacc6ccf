//! The output of a recipe as a single GGUF file: the expressions of the merge, under llama.cpp's names and in its types.
//! Nothing is written in between.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use moerge_checkpoint::{OutputStorage, ReadStorage};
use moerge_core::{
    error::Result,
    model::{files::TOKENIZER, named_model::NamedModel, source::Source, source_files::SourceFiles},
    output::{
        card::{common_licence, hub_ids, source_licence},
        files::{OptionalFiles, OutputFile, local_folders},
    },
    plan::{
        DenseSummary, OutputPlan, PlanSummary,
        gguf::{General, GgufModel},
    },
    progress::{Progress, Silent},
};

use super::{DenseReport, MergeOptions, MergeReport, Prepared, PreparedDense};
use crate::export::{ExportOptions, Imatrix, Job, ModelFacts, PlannedFiles};

/// What the file holds besides weights: the tokenizer.
const COPIED: OptionalFiles = OptionalFiles { tokenizer: true, card: false };

impl Prepared {
    /// Plans the MoE as a GGUF file, or as several of different types.
    ///
    /// # Errors
    /// The MoE or its tokenizer has no place in GGUF.
    pub fn gguf_plan(
        &self,
        sources: &dyn ReadStorage,
        out: &Path,
        export: &ExportOptions,
        imatrix: Option<&Imatrix>,
        options: &MergeOptions,
    ) -> Result<PlannedFiles> {
        let (files, _) = self.files(sources, out, COPIED)?;
        let text = match imatrix.is_some() && self.plan.routing.gate_mode.is_fitted() {
            true => {
                let tokenizer = self.tokenizer(sources).unwrap_or_default();
                let (lengths, _) = self.lengths(tokenizer.as_ref(), &Silent)?;
                lengths.into_iter().max()
            }
            false => None,
        };
        let merged = Merged {
            plan: &self.plan.output,
            dir: &self.models.base().dir,
            files: &files,
            references: self.models.sources.iter().map(|source| source.reference.as_str()).collect(),
            models: self.models.sources.iter().flat_map(Source::files).collect(),
            tag: "moe",
            id: self.id(&files, options)?,
            text,
            memory: options.memory,
        };
        merged.planned(sources, out, export, imatrix)
    }

    /// Builds the MoE as the GGUF file `out`, or as several of different types.
    ///
    /// # Errors
    /// Something cannot be read or written, or the run was stopped.
    pub fn build_gguf(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        export: &ExportOptions,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MergeReport> {
        let start = Instant::now();
        let imatrix = export.imatrix.as_ref().map(Imatrix::open).transpose()?;
        let planned = self.gguf_plan(sources, out, export, imatrix.as_ref(), options)?;
        let models: Vec<_> = self.models.sources.iter().flat_map(Source::files).collect();
        let job = Job::new(storage, &planned, &models, imatrix.as_ref(), export, options.force)?;
        let mut routing = None;
        let made = job.run(progress, |open| {
            let tokenizer = self.tokenizer(sources)?;
            let memory = self.memory_with(sources, tokenizer.as_ref(), options, progress)?;
            if let Some(budget) = options.memory {
                memory.within(budget)?;
            }
            planned.imatrix_within(options.memory)?;
            // What is kept for a resumed run is in the folder that is published last.
            let Some(keeper) = open.last().map(|open| &open.output) else { return Ok(Vec::new()) };
            let (files, _) = self.files(sources, out, COPIED)?;
            let made = self.routers_with_warnings(keeper, &files, tokenizer.as_ref(), &memory, options, progress)?;
            routing = made.routing;
            let computed = made.routers.computed(&self.plan);
            let own = || self.texts_of_experts(keeper, tokenizer.as_ref(), &memory, progress);
            let matrix = job.matrix(open, &computed, &|| self.open_tokenizer(sources), own, progress)?;
            let written = job.write(open, &computed, matrix.as_ref(), memory.workers, progress)?;
            Ok([made.warnings, written].concat())
        })?;
        let mut warnings = made.warnings;
        warnings.splice(0..0, self.plan.output.warnings.iter().cloned());
        Ok(MergeReport {
            summary: PlanSummary {
                tensors: tensors(&planned),
                ..PlanSummary::new(&self.recipe, &self.models, &self.plan)
            },
            out: made.files.first().map_or_else(|| out.to_owned(), |file| file.path.clone()),
            bytes: planned.bytes(),
            warnings,
            elapsed: start.elapsed(),
            routing,
            already_there: made.files.iter().all(|file| file.already_there),
            gguf_files: made.files,
            unfinished: None,
        })
    }
}

impl PreparedDense {
    /// Plans the merged model as a GGUF file, or as several of different types.
    ///
    /// # Errors
    /// The model or its tokenizer has no place in GGUF.
    pub fn gguf_plan(
        &self,
        sources: &dyn ReadStorage,
        out: &Path,
        export: &ExportOptions,
        imatrix: Option<&Imatrix>,
        options: &MergeOptions,
    ) -> Result<PlannedFiles> {
        let files = self.files(sources, out, COPIED)?;
        let merged = Merged {
            plan: &self.plan.output,
            dir: &self.models.0[self.plan.tokenizer].dir,
            files: &files,
            references: self.models.0.iter().map(|model| model.reference.as_str()).collect(),
            models: self.models.0.iter().flat_map(NamedModel::files).collect(),
            tag: "mergekit",
            id: self.id(&files)?,
            text: None,
            memory: options.memory,
        };
        merged.planned(sources, out, export, imatrix)
    }

    /// Builds the merged model as the GGUF file `out`, or as several of different types.
    ///
    /// # Errors
    /// Something cannot be read or written, or the run was stopped.
    pub fn build_gguf(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        export: &ExportOptions,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<DenseReport> {
        let start = Instant::now();
        let imatrix = export.imatrix.as_ref().map(Imatrix::open).transpose()?;
        let planned = self.gguf_plan(sources, out, export, imatrix.as_ref(), options)?;
        let models: Vec<_> = self.models.0.iter().flat_map(NamedModel::files).collect();
        let job = Job::new(storage, &planned, &models, imatrix.as_ref(), export, options.force)?;
        let computed: HashMap<String, Vec<f32>> = HashMap::new();
        let made = job.run(progress, |open| {
            let workers = job.workers(options.threads, options.memory, options.storages)?;
            let matrix = job.matrix(open, &computed, &|| self.open_tokenizer(sources), || Ok(None), progress)?;
            job.write(open, &computed, matrix.as_ref(), workers, progress)
        })?;
        let mut warnings = made.warnings;
        warnings.splice(0..0, self.plan.output.warnings.iter().cloned());
        Ok(DenseReport {
            summary: DenseSummary { tensors: tensors(&planned), ..self.summary() },
            out: made.files.first().map_or_else(|| out.to_owned(), |file| file.path.clone()),
            bytes: planned.bytes(),
            warnings,
            elapsed: start.elapsed(),
            already_there: made.files.iter().all(|file| file.already_there),
            gguf_files: made.files,
            unfinished: None,
        })
    }
}

/// The number of tensors of a file.
fn tensors(planned: &PlannedFiles) -> usize {
    planned.files.first().map_or(0, |file| file.plan.output.tensors.len())
}

/// A merge as it is planned for a folder.
struct Merged<'a> {
    plan: &'a OutputPlan,
    /// Where the tokenizer is from.
    dir: &'a Path,
    files: &'a [OutputFile],
    /// The models, as the recipe names them.
    references: Vec<&'a str>,
    models: Vec<SourceFiles<'a>>,
    tag: &'a str,
    /// The identity of the merge.
    id: String,
    /// Tokens of the longest text that experts write, if they do.
    text: Option<usize>,
    memory: Option<u64>,
}

impl Merged<'_> {
    fn planned(
        &self,
        sources: &dyn ReadStorage,
        out: &Path,
        export: &ExportOptions,
        imatrix: Option<&Imatrix>,
    ) -> Result<PlannedFiles> {
        let model = Arc::new(GgufModel::planned(self.plan, out, self.id.clone())?);
        let general = self.general(sources, out)?;
        let rows = model.config.vocab_size;
        let facts = ModelFacts::merged(sources, self.dir, self.files, rows, general, export)?;
        let tokenizer = self.files.iter().find(|file| file.name == TOKENIZER).map_or(0, |file| file.bytes.len() as u64);
        let memory = imatrix.and_then(|i| i.memory(&model.description, tokenizer, self.text, self.memory));
        PlannedFiles::new(&model, &facts, out, export, imatrix, memory)
    }

    /// What the metadata says about where the model comes from.
    fn general(&self, sources: &dyn ReadStorage, out: &Path) -> Result<General> {
        let dirs = self.models.iter().flat_map(|files| files.dirs());
        let licences = dirs.map(|dir| source_licence(sources, dir)).collect::<Result<Vec<_>>>()?;
        Ok(General {
            name: out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            licence: common_licence(&licences).map(str::to_owned),
            base_models: hub_ids(&local_folders(self.models.iter().cloned()), &self.references),
            tags: ["merge", self.tag].map(str::to_owned).into(),
            languages: Vec::new(),
        })
    }
}
