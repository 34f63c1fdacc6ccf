//! The output of a recipe as a single GGUF file: the expressions of the merge, under llama.cpp's names and in its types.
//! Nothing is written in between.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use moerge_checkpoint::{OutputStorage, ReadStorage};
use moerge_core::{
    error::Result,
    model::{named_model::NamedModel, source::Source},
    output::{
        card::{common_licence, hub_ids, source_licence},
        files::{OutputFile, Wanted, local_folders},
    },
    plan::{
        DenseSummary, OutputPlan, PlanSummary,
        gguf::{General, GgufModel, GgufPlan},
    },
    progress::Progress,
};

use super::{DenseReport, MergeOptions, MergeReport, Prepared, PreparedDense};
use crate::{
    export::{ExportOptions, Imatrix, ModelFacts, gguf_options, write_weights},
    memory::workers_within,
    publication::Publication,
};

/// What the file holds besides weights: the tokenizer.
const WANTED: Wanted = Wanted { tokenizer: true, card: false };

impl Prepared {
    /// Plans the MoE as a GGUF file.
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
    ) -> Result<GgufPlan> {
        let (files, _) = self.files(sources, out, WANTED)?;
        let references = self.models.sources.iter().map(|source| source.reference.as_str()).collect();
        let models: Vec<_> = self.models.sources.iter().flat_map(Source::files).collect();
        let dirs = models.iter().flat_map(|files| files.dirs());
        let general = general(sources, out, references, dirs, &local_folders(models.iter().cloned()), "moe")?;
        let planned = Planned { plan: &self.plan.output, dir: &self.models.base().dir, files: &files };
        planned.gguf(sources, out, self.id(&files, options)?, general, export, imatrix)
    }

    /// Builds the MoE as the GGUF file `out`.
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
        let gguf = self.gguf_plan(sources, out, export, imatrix.as_ref(), options)?;
        let plan = &gguf.output;
        let models = self.models.sources.iter().flat_map(Source::files).collect();
        let publication = Publication::new(storage, out, plan, models, &[])?;
        let report = |warnings, routing, already_there| MergeReport {
            summary: PlanSummary {
                tensors: plan.tensors.len(),
                ..PlanSummary::new(&self.recipe, &self.models, &self.plan)
            },
            out: out.to_owned(),
            bytes: plan.layout.total_file_bytes(),
            warnings,
            elapsed: start.elapsed(),
            routing,
            already_there,
        };
        let already_there = || report([&self.plan.output.warnings[..], &plan.warnings].concat(), None, true);
        if publication.is_built_file(&gguf.id) {
            return Ok(already_there());
        }
        let tokenizer = self.tokenizer(sources)?;
        let memory = self.memory_with(sources, tokenizer.as_ref(), options, progress)?;
        if let Some(budget) = options.memory {
            memory.within(budget)?;
        }
        let Some(output) = publication.open_file(&gguf.id, options.force, progress)? else {
            return Ok(already_there());
        };
        let (files, _) = self.files(sources, out, WANTED)?;
        let made = self.routers_with_warnings(&output, &files, tokenizer.as_ref(), &memory, options, progress)?;
        let computed = made.routers.computed(&self.plan);
        let matrix = match &imatrix {
            Some(imatrix) => {
                let own = self.texts_of_experts(&output, tokenizer.as_ref(), &memory, progress)?;
                let open = || self.open_tokenizer(sources);
                Some(imatrix.matrix(&gguf, &computed, &open, own, options.memory, progress)?)
            }
            None => None,
        };
        let written = write_weights(&gguf, &computed, matrix, export, &output, memory.workers, progress)?;
        publication.finish_file(output, progress)?;
        let warnings = [made.warnings, plan.warnings.clone(), written.warnings].concat();
        Ok(report(warnings, made.routing, false))
    }
}

impl PreparedDense {
    /// Plans the merged model as a GGUF file.
    ///
    /// # Errors
    /// The model or its tokenizer has no place in GGUF.
    pub fn gguf_plan(
        &self,
        sources: &dyn ReadStorage,
        out: &Path,
        export: &ExportOptions,
        imatrix: Option<&Imatrix>,
    ) -> Result<GgufPlan> {
        let files = self.files(sources, out, WANTED)?;
        let references = self.models.0.iter().map(|model| model.reference.as_str()).collect();
        let models: Vec<_> = self.models.0.iter().flat_map(NamedModel::files).collect();
        let dirs = models.iter().flat_map(|files| files.dirs());
        let general = general(sources, out, references, dirs, &local_folders(models.iter().cloned()), "mergekit")?;
        let dir = &self.models.0[self.plan.tokenizer].dir;
        let planned = Planned { plan: &self.plan.output, dir, files: &files };
        planned.gguf(sources, out, self.id(&files)?, general, export, imatrix)
    }

    /// Builds the merged model as the GGUF file `out`.
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
        let gguf = self.gguf_plan(sources, out, export, imatrix.as_ref())?;
        let plan = &gguf.output;
        let models = self.models.0.iter().flat_map(NamedModel::files).collect();
        let publication = Publication::new(storage, out, plan, models, &[])?;
        let mut warnings = [&self.plan.output.warnings[..], &plan.warnings].concat();
        let report = |warnings, already_there| DenseReport {
            summary: DenseSummary { tensors: plan.tensors.len(), ..self.summary() },
            out: out.to_owned(),
            bytes: plan.layout.total_file_bytes(),
            warnings,
            elapsed: start.elapsed(),
            already_there,
        };
        if publication.is_built_file(&gguf.id) {
            return Ok(report(warnings, true));
        }
        let workers = workers_within(&plan.tensors, options.threads, options.memory)?;
        let Some(output) = publication.open_file(&gguf.id, options.force, progress)? else {
            return Ok(report(warnings, true));
        };
        let computed: HashMap<String, Vec<f32>> = HashMap::new();
        let tokenizer = || self.open_tokenizer(sources);
        let matrix =
            imatrix.map(|imatrix| imatrix.matrix(&gguf, &computed, &tokenizer, None, options.memory, progress));
        let written = write_weights(&gguf, &computed, matrix.transpose()?, export, &output, workers, progress)?;
        publication.finish_file(output, progress)?;
        warnings.extend(written.warnings);
        Ok(report(warnings, false))
    }
}

/// A merge as it is planned for a folder.
struct Planned<'a> {
    plan: &'a OutputPlan,
    /// Where the tokenizer is from.
    dir: &'a Path,
    files: &'a [OutputFile],
}

impl Planned<'_> {
    fn gguf(
        &self,
        sources: &dyn ReadStorage,
        out: &Path,
        id: String,
        general: General,
        export: &ExportOptions,
        imatrix: Option<&Imatrix>,
    ) -> Result<GgufPlan> {
        let model = GgufModel::planned(self.plan, out, id)?;
        let rows = model.config.vocab_size;
        let facts = ModelFacts::merged(sources, self.dir, self.files, rows, general, export)?;
        GgufPlan::new(model, &facts.vocabulary, &facts.general, &gguf_options(out, export, imatrix))
    }
}

/// What a merged model's metadata says about where it comes from.
fn general<'a>(
    sources: &dyn ReadStorage,
    out: &Path,
    references: Vec<&str>,
    dirs: impl Iterator<Item = &'a Path>,
    folders: &[String],
    tag: &str,
) -> Result<General> {
    let licences = dirs.map(|dir| source_licence(sources, dir)).collect::<Result<Vec<_>>>()?;
    Ok(General {
        name: out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        licence: common_licence(&licences).map(str::to_owned),
        base_models: hub_ids(folders, &references),
        tags: ["merge", tag].map(str::to_owned).into(),
    })
}
