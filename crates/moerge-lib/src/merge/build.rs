//! From a plan to a finished folder: make the routers, write, check, publish.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use moerge_checkpoint::{Checkpoint, Fingerprint, Found, OutputDir, SourceFile, Storage};

use super::{MergeOptions, MergeReport, Prepared};
use crate::{
    routers::{self, ROUTING_REPORT, RoutingReport, SELF_TEXT_FILE},
    verify::small_files,
};
use moerge_core::{
    error::{Cause, Error, ErrorKind, Result},
    execute,
    model::{config::ModelConfig, families::describe, source::Source},
    ops::Identity,
    output::{
        files::{OutputFile, record},
        replaceable::not_written_by_moerge,
    },
    plan::{OutputTensor, PlanSummary, moe::same_ffn},
    progress::{Progress, Stage},
    recipe::GateMode,
    record::{MOERGE_JSON, MoergeJson},
};

impl Prepared {
    /// Builds the output in `out`.
    pub fn build(
        &self,
        storage: &Arc<dyn Storage>,
        out: &Path,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MergeReport> {
        let start = Instant::now();
        self.check_place(out)?;
        let (files, max_bytes) = self.files(storage.as_ref(), out, options.wanted)?;
        let id = self.id(&files, options)?;
        let resume_key = self.resume_key(&id);
        let report = |warnings, routing, bytes, already_there| MergeReport {
            summary: PlanSummary::new(&self.recipe, &self.models, &self.plan),
            out: out.to_owned(),
            bytes,
            warnings,
            elapsed: start.elapsed(),
            routing,
            already_there,
        };
        if self.is_built(storage, out, &id) {
            // A run that was killed just after the rename has left its work folder. Any other there is not ours.
            if let Ok((output, Found::AlreadyPublished)) = OutputDir::open(storage, out, &resume_key, false) {
                output.publish()?;
            }
            let bytes = folder_bytes(storage.as_ref(), out);
            return Ok(report(self.plan.output.warnings.clone(), published_report(storage.as_ref(), out), bytes, true));
        }
        let tokenizer = self.tokenizer(storage.as_ref())?;
        let memory = self.memory_with(storage.as_ref(), tokenizer.as_ref(), options, progress)?;
        if let Some(budget) = options.memory {
            memory.within(budget)?;
        }
        self.check_replaced(storage.as_ref(), out)?;
        let (output, found) = OutputDir::open(storage, out, &resume_key, options.force)?;
        match found {
            Found::AlreadyPublished => {
                output.publish()?;
                let bytes = folder_bytes(storage.as_ref(), out);
            return Ok(report(self.plan.output.warnings.clone(), published_report(storage.as_ref(), out), bytes, true));
            }
            Found::Resumed => {}
            Found::OtherPlanDiscarded => progress.note("the unfinished build found there was of another recipe, of other sources or of another version; starting anew"),
            Found::Fresh => {}
        }
        let output = self.check_space(output, max_bytes, found)?;
        self.tell(&files, progress);
        let (routers, routing) = self.routers(&output, tokenizer.as_ref(), &memory, options, progress)?;
        if self.recipe.gate_mode == GateMode::Hidden && !self.recipe.gate_mode_given {
            progress.note(
                "the recipe names no gate_mode, so its prompts make `hidden` gates, as in mergekit; \
                 `gate_mode: self_calibrated` fits them to what the experts write, which routes much better",
            );
        }
        let mut warnings = self.plan.output.warnings.clone();
        warnings.extend(self.broken_files(&files));
        warnings.extend(self.prompt_warnings(tokenizer.as_ref(), progress)?);
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

        let written =
            execute::write_shards(&self.plan.output, &routers.computed(&self.plan), &output, memory.workers, progress)?;
        warnings.extend(written.warnings);
        warnings.extend(self.equal_experts(&written.fingerprints));
        let mut beside = files.clone();
        beside.push(record(&id, &self.recipe, &self.models, &self.plan, &written.fingerprints));
        if let Some(report) = &routing {
            beside.push(OutputFile { name: ROUTING_REPORT.to_owned(), bytes: report.to_text().into_bytes() });
        }
        if !self.writers().is_empty() {
            beside.push(OutputFile { name: SELF_TEXT_FILE.to_owned(), bytes: self.self_text_file(&output)? });
        }
        let mut bytes = self.plan.output.layout.total_file_bytes();
        for file in &beside {
            output.write_file(&file.name, &file.bytes)?;
            bytes += file.bytes.len() as u64;
        }
        self.check_output(storage, &output, progress)?;
        for source in &self.models.sources {
            source.checkpoint.check_unchanged()?;
        }
        // Hours may have passed: files that were put into the old output since are not ours to delete.
        self.check_replaced(storage.as_ref(), output.out())?;
        output.publish()?;
        Ok(report(warnings, routing, bytes, false))
    }

    /// What is left out of adapters, and for those who ask for more: what was chosen, and from what.
    fn tell(&self, files: &[OutputFile], progress: &dyn Progress) {
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

    /// Experts that turned out to have equal feed-forward networks although they are made of different files.
    fn equal_experts(&self, fingerprints: &[(String, Fingerprint)]) -> Vec<String> {
        let fingerprints: HashMap<_, _> = fingerprints.iter().map(|(name, f)| (name.as_str(), f)).collect();
        let slots = &self.plan.routing.slots;
        let content = |tensor: &OutputTensor| fingerprints.get(tensor.name.as_str()).map(ToString::to_string);
        let found = same_ffn(slots, self.plan.tensors(), content);
        found.iter().filter(|s| !self.plan.same_ffn.contains(s)).map(|s| s.warning(&self.models, slots)).collect()
    }

    /// What is copied though no reader can take it.
    fn broken_files(&self, files: &[OutputFile]) -> Vec<String> {
        let warning = |file: &OutputFile| {
            let problem = small_files::problem(&file.name, &file.bytes)?;
            let path = self.models.base().dir.join(&file.name);
            Some(format!("{} {problem}; it is copied as it is, and readers will refuse it", path.display()))
        };
        files.iter().filter_map(warning).collect()
    }

    /// Equal ids, equal bytes in the output, on any machine.
    fn id(&self, files: &[OutputFile], options: &MergeOptions) -> Result<String> {
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

    /// What a build that was interrupted is resumed by: the output's id, and where and when the sources were last
    /// written on this machine, since the id does not cover all of their bytes.
    fn resume_key(&self, id: &str) -> String {
        let mut key = Identity::default();
        key.text(id);
        for file in self.source_files() {
            key.text(&file.path.to_string_lossy()).number(file.len).number(file.modified_ns as u64);
        }
        key.finish()
    }

    /// The files that weights are read from.
    fn source_files(&self) -> impl Iterator<Item = &SourceFile> {
        self.models.sources.iter().flat_map(Source::checkpoints).flat_map(|c| c.files()).map(|file| &**file)
    }

    /// Whether `out` is the finished output of this build: it has the same id, and no source was written to since.
    fn is_built(&self, storage: &Arc<dyn Storage>, out: &Path, id: &str) -> bool {
        let path = out.join(MOERGE_JSON);
        if Checkpoint::open(storage, out).is_err() {
            return false;
        }
        let text = moerge_core::model::source::read_text(storage.as_ref(), &path).ok();
        let record = text.and_then(|t| MoergeJson::parse(&t, MOERGE_JSON).ok());
        let written = storage.facts(&path).map_or(0, |facts| facts.modified_ns);
        record.is_some_and(|record| record.plan_id == id) && self.source_files().all(|f| f.modified_ns <= written)
    }

    /// Sources are never written to: `out` cannot lie in one.
    fn check_place(&self, out: &Path) -> Result<()> {
        let place = real(out);
        match self.source_dirs().find(|dir| place != real(dir) && place.starts_with(real(dir))) {
            Some(dir) => Err(Error::input(format!("{} would lie in a model that it is made of", out.display()))
                .fact("the model", dir.display().to_string())
                .hint("choose another folder; moerge writes nothing into the models that it reads")),
            None => Ok(()),
        }
    }

    /// The folders of the models and adapters that are read.
    fn source_dirs(&self) -> impl Iterator<Item = &Path> {
        let adapters = self.models.sources.iter().filter_map(|source| Some(&source.adapter.as_ref()?.dir));
        self.models.sources.iter().map(|source| &source.dir).chain(adapters).map(PathBuf::as_path)
    }

    /// What `force` may replace: an earlier output, and none that the models of this one lie in.
    fn check_replaced(&self, storage: &dyn Storage, out: &Path) -> Result<()> {
        let there = storage.list(out).unwrap_or_default();
        if there.is_empty() {
            return Ok(());
        }
        let refuse = |why: &str| Err(Error::input(format!("{} is not replaced: {why}", out.display())));
        if let Some(dir) = self.source_dirs().find(|dir| real(dir).starts_with(real(out))) {
            return refuse(&format!("{} lies in it", dir.display())).map_err(|e| e.hint("choose another folder"));
        }
        match not_written_by_moerge(storage, out, &[ROUTING_REPORT, SELF_TEXT_FILE])? {
            Some(why) => refuse(&why).map_err(|e| e.hint("choose another folder, or remove this one yourself")),
            None => Ok(()),
        }
    }

    fn check_space(&self, output: OutputDir, bytes: u64, found: Found) -> Result<OutputDir> {
        let finished = output.finished_shards(&self.plan.output.layout)?;
        let shards = finished.iter().zip(&self.plan.output.layout.shards);
        let done: u64 = shards.filter(|(f, _)| f.is_some()).map(|(_, s)| s.file_len).sum();
        let (needed, free) = (bytes.saturating_sub(done), output.free_space()?);
        if free >= needed {
            return Ok(output);
        }
        let error = Error::new(ErrorKind::Io, format!("not enough room for {}", output.out().display()))
            .fact("needed", format!("{needed} bytes ({:.1} GB)", needed as f64 / 1e9))
            .fact("free", format!("{free} bytes ({:.1} GB)", free as f64 / 1e9))
            .hint("make room, or choose a folder on another disk")
            .cause(Cause::DiskFull);
        if found != Found::Resumed {
            output.discard()?;
        }
        Err(error)
    }

    /// Reads back headers, index and config of what was written. The weights' fingerprints were taken on their way.
    fn check_output(&self, storage: &Arc<dyn Storage>, output: &OutputDir, progress: &dyn Progress) -> Result<()> {
        let dir = output.model_dir();
        let planned = &self.plan.output.tensors;
        progress.start(Stage::Verify, planned.len() as u64, 0);
        let written = Checkpoint::open(storage, &dir)?;
        let refuse = |what: String| {
            Error::new(ErrorKind::Io, format!("{} was not written as planned: {what}", dir.display()))
                .hint("the disk may be failing; merge again")
        };
        for tensor in planned {
            let found = written.get(&tensor.name).ok_or_else(|| refuse(format!("{} is missing", tensor.name)))?;
            if (found.dtype, &found.shape) != (tensor.dtype, &tensor.shape) {
                return Err(refuse(format!("{} has another dtype or shape", tensor.name))
                    .fact("planned", format!("{} {:?}", tensor.dtype.name(), tensor.shape))
                    .fact("written", format!("{} {:?}", found.dtype.name(), found.shape)));
            }
        }
        if written.len() != planned.len() {
            return Err(refuse(format!("{} tensors, {} planned", written.len(), planned.len())));
        }
        // A config that its own reader refuses is found here rather than by the user.
        let config = dir.join("config.json");
        describe(&ModelConfig::parse(&moerge_core::model::source::read_text(storage.as_ref(), &config)?, &config)?)?;
        progress.advance(Stage::Verify, planned.len() as u64);
        progress.finish(Stage::Verify, &format!("{} tensors", planned.len()));
        Ok(())
    }
}

/// Where `path` is, links followed; its end may not be there yet.
fn real(path: &Path) -> PathBuf {
    let missing = |ancestor: &Path| path.strip_prefix(ancestor).map(Path::to_owned).unwrap_or_default();
    for ancestor in path.ancestors() {
        let here = if ancestor == Path::new("") { Path::new(".") } else { ancestor };
        if let Ok(found) = here.canonicalize() {
            // Joining nothing would add a slash.
            return found.join(missing(ancestor)).components().collect();
        }
    }
    path.to_owned()
}

/// The report of an output that is there already.
fn published_report(storage: &dyn Storage, out: &Path) -> Option<RoutingReport> {
    RoutingReport::parse(&moerge_core::model::source::read_text(storage, &out.join(ROUTING_REPORT)).ok()?).ok()
}

/// The bytes of all files in `dir`.
fn folder_bytes(storage: &dyn Storage, dir: &Path) -> u64 {
    let names = storage.list(dir).unwrap_or_default();
    names.iter().filter_map(|name| storage.facts(&dir.join(name)).ok()).map(|facts| facts.len).sum()
}
