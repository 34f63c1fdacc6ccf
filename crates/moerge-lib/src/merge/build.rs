//! From a plan to a finished folder: make the routers, write, check, publish.

use std::{collections::HashMap, path::Path, sync::Arc, time::Instant};

use moerge_checkpoint::{Fingerprint, OutputDir, OutputStorage, ReadStorage};

use super::{MergeOptions, MergeReport, Prepared};
use crate::{
    memory::MemoryNeed,
    publication::{Publication, Step},
    routers::{self, ROUTING_REPORT, Routers, RoutingReport, SELF_TEXT_FILE},
    verify::small_files,
};
use moerge_core::{
    error::Result,
    execute,
    model::{config::ModelConfig, families::describe, files::read_text, source::Source},
    ops::Identity,
    output::files::OutputFile,
    plan::{OutputTensor, PlanSummary, moe::same_ffn},
    progress::Progress,
    recipe::GateMode,
};
use moerge_infer::tokenizer::Tokenizer;

/// Routers that are ready to be written, and what the user should know of them.
pub(super) struct MadeRouters {
    pub routers: Routers,
    pub routing: Option<RoutingReport>,
    pub warnings: Vec<String>,
}

impl Prepared {
    /// Builds the output in the folder `out` of `storage`; `sources` is where the models are.
    ///
    /// # Errors
    /// Something cannot be read or written, or the run was stopped.
    pub fn build(
        &self,
        sources: &dyn ReadStorage,
        storage: &Arc<dyn OutputStorage>,
        out: &Path,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MergeReport> {
        let start = Instant::now();
        let files = self.models.sources.iter().flat_map(Source::files).collect();
        let own_files = &[ROUTING_REPORT, SELF_TEXT_FILE];
        let publication = Publication::new(storage, out, &self.plan.output, files, own_files)?;
        let (files, max_bytes) = self.files(sources, out, options.optional_files)?;
        let id = self.id(&files, options)?;
        let report = |warnings, routing, bytes, already_there| MergeReport {
            unfinished: None,
            summary: PlanSummary::new(&self.recipe, &self.models, &self.plan),
            out: out.to_owned(),
            bytes,
            warnings,
            elapsed: start.elapsed(),
            routing,
            already_there,
            gguf_files: Vec::new(),
        };
        let already_there = || {
            let routing = published_report(storage.as_ref(), out);
            report(self.plan.output.warnings.clone(), routing, publication.published_bytes(), true)
        };
        if publication.is_built(&id)? {
            return Ok(already_there());
        }
        if options.step.part().is_some() && !publication.is_begun(&id)? {
            self.refuse_missing_routers()?;
        }
        let tokenizer = self.tokenizer(sources)?;
        let memory = self.memory_with(sources, tokenizer.as_ref(), options, progress)?;
        if let Some(budget) = options.memory {
            memory.within(budget)?;
        }
        let Some(output) = publication.open(&id, options.step, options.force, max_bytes, progress)? else {
            return Ok(already_there());
        };
        let made = match self.routers_with_warnings(&output, &files, tokenizer.as_ref(), &memory, options, progress) {
            Ok(made) => made,
            Err(error) => return Err(publication.failed(output, error)),
        };
        let MadeRouters { routers, routing, mut warnings } = made;
        if options.step == Step::Routers {
            let unfinished = Some(publication.unfinished(None, &output)?);
            return Ok(MergeReport { unfinished, ..report(warnings, routing, 0, false) });
        }
        let (computed, part) = (routers.computed(&self.plan), options.step.part());
        let written = match execute::write_shards(&self.plan.output, &computed, &output, part, memory.workers, progress)
        {
            Ok(written) => written,
            Err(error) => return Err(publication.failed(output, error)),
        };
        if part.is_some() {
            let unfinished = publication.unfinished(part, &output)?;
            let bytes = unfinished.bytes;
            // The warnings of the plan come when the output is finished.
            return Ok(MergeReport { unfinished: Some(unfinished), ..report(written.warnings, None, bytes, false) });
        }
        warnings.extend(written.warnings);
        warnings.extend(self.equal_experts(&written.fingerprints));
        let mut beside = files.clone();
        beside.push(self.record(&id, &written.fingerprints));
        if let Some(report) = &routing {
            beside.push(OutputFile { name: ROUTING_REPORT.to_owned(), bytes: report.to_text().into_bytes() });
        }
        if !self.writers().is_empty() {
            beside.push(OutputFile { name: SELF_TEXT_FILE.to_owned(), bytes: self.self_text_file(&output)? });
        }
        // A config that its own reader refuses is found here rather than by the user.
        let check_config =
            |path: &Path| describe(&ModelConfig::parse(&read_text(storage.as_ref(), path)?, path)?).map(drop);
        let bytes = publication.finish(output, &beside, check_config, progress)?;
        Ok(report(warnings, routing, bytes, false))
    }

    /// Makes the routers, or takes those that an interrupted run left, and looks at what could be wrong with the MoE.
    pub(super) fn routers_with_warnings(
        &self,
        output: &OutputDir,
        files: &[OutputFile],
        tokenizer: Option<&Tokenizer>,
        memory: &MemoryNeed,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MadeRouters> {
        self.log(files, progress);
        let (routers, routing) = self.routers(output, tokenizer, memory, options, progress)?;
        if self.recipe.gate_mode == GateMode::Hidden && !self.recipe.gate_mode_given {
            progress.note(
                "the recipe names no gate_mode, so its prompts make `hidden` gates, as in mergekit; \
                 `gate_mode: self_calibrated` fits them to what the experts write, which routes much better",
            );
        }
        let mut warnings = self.plan.output.warnings.clone();
        warnings.extend(self.broken_files(files));
        warnings.extend(self.prompt_warnings_with(tokenizer, progress)?);
        let names: Vec<_> =
            (0..self.plan.routing.experts.len()).map(|e| self.models.expert(e).short_name().to_owned()).collect();
        let shared = match &routing {
            Some(report) => report.shared_difference.clone(),
            None if options.measure_shared => self.shared_differences()?,
            None => Vec::new(),
        };
        warnings.extend(self.shared_warning(&shared, &names));
        match &routing {
            Some(report) => warnings.extend(report.warnings(&names)),
            None => warnings.extend(routers::warnings(&routers, &self.plan.routing.slots, &names)),
        }
        Ok(MadeRouters { routers, routing, warnings })
    }

    /// Notes what of the adapters is unused; in detail, also what was chosen and why.
    fn log(&self, files: &[OutputFile], progress: &dyn Progress) {
        progress.detail(&format!("{}: {}", self.plan.family.class, self.plan.why));
        for source in &self.models.sources {
            if let Some(adapter) = &source.adapter {
                progress.detail(&format!("adapter of {}: {}", source.reference, adapter.numbers()));
            }
        }
        for unused in &self.plan.output.unused {
            match unused.of_adapter() {
                Some(line) => progress.note(&line),
                None => {
                    let (count, what) = (unused.names.len(), &unused.what);
                    progress.detail(&format!("{}: {count} tensors are not used: {what}", unused.source));
                }
            }
        }
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        progress.detail(&format!("files beside the weights: {}", names.join(", ")));
    }

    /// Warnings about experts with equal FFNs that are made from different files.
    fn equal_experts(&self, fingerprints: &[(String, Fingerprint)]) -> Vec<String> {
        let fingerprints: HashMap<_, _> = fingerprints.iter().map(|(name, f)| (name.as_str(), f)).collect();
        let slots = &self.plan.routing.slots;
        let content = |tensor: &OutputTensor| fingerprints.get(tensor.name.as_str()).map(ToString::to_string);
        let found = same_ffn(slots, self.plan.tensors(), content);
        found.iter().filter(|s| !self.plan.same_ffn.contains(s)).map(|s| s.warning(&self.models, slots)).collect()
    }

    /// Warnings about copied files that readers will refuse.
    fn broken_files(&self, files: &[OutputFile]) -> Vec<String> {
        let warning = |file: &OutputFile| {
            let problem = small_files::problem(&file.name, &file.bytes)?;
            let path = self.models.base().dir.join(&file.name);
            Some(format!("{} {problem}; it is copied as it is, and readers will refuse it", path.display()))
        };
        files.iter().filter_map(warning).collect()
    }

    /// Equal ids, equal bytes in the output, on any machine.
    pub(super) fn id(&self, files: &[OutputFile], options: &MergeOptions) -> Result<String> {
        let mut id = Identity::default();
        self.plan.identify(&mut id)?;
        id.optional(options.rounding, |id, rounding| {
            id.text(rounding.name());
        });
        id.list(files.iter(), |id, file| {
            id.text(&file.name).bytes(&file.bytes);
        });
        Ok(id.finish())
    }
}

/// The report of an output that is there already.
fn published_report(storage: &dyn ReadStorage, out: &Path) -> Option<RoutingReport> {
    RoutingReport::parse(&read_text(storage, &out.join(ROUTING_REPORT)).ok()?).ok()
}
