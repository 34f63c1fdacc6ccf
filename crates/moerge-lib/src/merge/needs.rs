//! What a build needs, known before it starts: bytes on disk, bytes in memory, the base's tokenizer.

use std::path::Path;

use moerge_checkpoint::{Fingerprint, ReadStorage};

use super::{MergeOptions, Prepared};
use crate::{
    memory::{MemoryInputs, MemoryNeed, default_threads},
    routers::{self, RoutingReport, TextLengths},
};
use moerge_core::{
    error::Result,
    model::source::Source,
    output::files::{OptionalFiles, OutputFile, copied_files, made_files, output_files, record},
    progress::Progress,
    recipe::GateMode,
};
use moerge_infer::tokenizer::Tokenizer;

/// An upper bound on the bytes of a token in the file of self-written text: its id and its escaped text.
const TOKEN_BYTES: u64 = 96;

impl Prepared {
    /// All files besides the weights that are known before a run, and an upper bound on the bytes of the finished
    /// folder.
    ///
    /// # Errors
    /// The files of the base or of a source's card cannot be read.
    pub fn files(
        &self,
        storage: &dyn ReadStorage,
        out: &Path,
        optional: OptionalFiles,
    ) -> Result<(Vec<OutputFile>, u64)> {
        let files = output_files(storage, &self.recipe, &self.models, &self.plan, out, optional)?;
        let beside = files.iter().map(|f| f.bytes.len() as u64).sum::<u64>();
        Ok((files, beside + self.max_bytes_of_results()))
    }

    /// An upper bound on the bytes of the finished folder, without reading the files that are copied. Weights are
    /// exact.
    ///
    /// # Errors
    /// The card of a source cannot be read, or the storage cannot say whether a file of the base is there.
    pub fn max_bytes(&self, storage: &dyn ReadStorage, out: &Path, optional: OptionalFiles) -> Result<u64> {
        let base = self.models.base();
        let made = made_files(storage, &self.recipe, &self.models, &self.plan, out, optional)?;
        let copied = copied_files(storage, &base.dir, optional)?;
        let replaced = match &base.overrides.vocabulary {
            // `tokenizer_config.json` lists some of the tokens, too.
            Some(merged) => 2 * merged.to_text().len() as u64,
            None => 0,
        };
        let template = base.overrides.chat_template.as_ref().map_or(0, |template| 8 * template.len() as u64);
        let beside = made.iter().map(|f| f.bytes.len() as u64).chain(copied.into_iter().map(|(_, len)| len));
        Ok(beside.sum::<u64>() + replaced + template + self.max_bytes_of_results())
    }

    /// An upper bound on the bytes of weights, record, routing report and self-written text.
    fn max_bytes_of_results(&self) -> u64 {
        let record = self.record(&"0".repeat(32), &[]);
        let fitted = self.plan.routing.gate_mode.is_fitted();
        let report = if fitted { RoutingReport::max_bytes(&self.plan) } else { 0 };
        let text = &self.plan.routing.fit.self_text;
        let written = (self.writers().len() * text.samples * text.tokens) as u64 * TOKEN_BYTES;
        self.plan.output.layout.total_file_bytes() + record.bytes.len() as u64 + report + written
    }

    /// The record of the build with this id.
    pub(super) fn record(&self, id: &str, fingerprints: &[(String, Fingerprint)]) -> OutputFile {
        let sources: Vec<_> = self.models.sources.iter().flat_map(Source::files).collect();
        record(id, &self.recipe.text, &sources, &self.plan.output, fingerprints)
    }

    /// An upper bound on the memory of a build. Reads the base's tokenizer if there are prompts; without a tokenizer, a
    /// prompt counts as one token per byte.
    ///
    /// # Errors
    /// A prompt cannot be tokenized, or the user stops the run.
    pub fn memory(
        &self,
        storage: &dyn ReadStorage,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MemoryNeed> {
        let tokenizer = self.tokenizer(storage).unwrap_or_default();
        self.memory_with(storage, tokenizer.as_ref(), options, progress)
    }

    /// The number of tokens that run through a model to make the routers.
    ///
    /// # Errors
    /// A prompt cannot be tokenized, or the user stops the run.
    pub fn router_tokens(&self, storage: &dyn ReadStorage, progress: &dyn Progress) -> Result<usize> {
        let tokenizer = self.tokenizer(storage).unwrap_or_default();
        Ok(self.lengths(tokenizer.as_ref(), progress)?.0.into_iter().sum())
    }

    pub(super) fn memory_with(
        &self,
        storage: &dyn ReadStorage,
        tokenizer: Option<&Tokenizer>,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MemoryNeed> {
        let (lengths, written) = self.lengths(tokenizer, progress)?;
        let base = self.models.base();
        let tokenizer_bytes = tokenizer.map_or(0, |_| base.overrides.tokenizer_bytes(storage, &base.dir));
        let inputs = MemoryInputs {
            lengths,
            written,
            tokenizer_bytes,
            earlier_tokenizers: self.earlier_tokenizers,
            workers: options.threads.unwrap_or_else(default_threads),
            threads: rayon::current_num_threads() + 1,
            budget: options.memory,
            storages: options.storages,
        };
        Ok(MemoryNeed::of(&self.plan, &self.models, &inputs))
    }

    /// The lengths in tokens of the sequences that run through a model to make the routers, and of the samples that one
    /// expert writes.
    pub(super) fn lengths(
        &self,
        tokenizer: Option<&Tokenizer>,
        progress: &dyn Progress,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let routing = &self.plan.routing;
        let (settings, writers) = (&routing.fit.self_text, self.writers());
        let all = routing.experts.iter().chain(&routing.shared_expert).enumerate();
        let of = |(_, prompts)| match tokenizer {
            Some(tokenizer) => routers::sample_lengths(tokenizer, prompts, settings),
            None => Ok(vec![settings.tokens + 1; settings.samples]),
        };
        let each: Vec<Vec<usize>> =
            all.filter(|(writer, _)| writers.contains(writer)).map(of).collect::<Result<_>>()?;
        let longest = each.iter().max_by_key(|lengths| lengths.iter().sum::<usize>()).cloned().unwrap_or_default();
        if !routing.gate_mode.is_fitted() {
            let lengths = match tokenizer {
                Some(tokenizer) => routers::prompt_lengths(routing, tokenizer, progress)?,
                None => routing.texts().map(|text| text.len() + 1).collect(),
            };
            return Ok((lengths, longest));
        }
        let mut texts = match tokenizer {
            _ if routing.gate_mode == GateMode::SelfCalibrated => TextLengths::default(),
            Some(tokenizer) => TextLengths::of_recipe(routing, tokenizer, progress)?,
            None => TextLengths {
                experts: routing.experts.iter().map(|p| p.positive.iter().map(|t| t.len() + 1).collect()).collect(),
                others: routing.texts().map(|text| text.len() + 1).collect(),
            },
        };
        texts.experts.extend(each);
        Ok((routers::fit_lengths(&self.plan, &texts), longest))
    }

    /// Warnings about prompts that exceed the base's context or have no tokens.
    ///
    /// # Errors
    /// A prompt cannot be tokenized, or the run is stopped.
    pub fn prompt_warnings(&self, storage: &dyn ReadStorage, progress: &dyn Progress) -> Result<Vec<String>> {
        match self.tokenizer(storage) {
            Ok(Some(tokenizer)) => self.prompt_warnings_with(Some(&tokenizer), progress),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn prompt_warnings_with(
        &self,
        tokenizer: Option<&Tokenizer>,
        progress: &dyn Progress,
    ) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let (lengths, _) = self.lengths(tokenizer, progress)?;
        let (longest, context) = (lengths.into_iter().max().unwrap_or(0), self.models.base().config.max_positions);
        if longest > context {
            warnings.push(format!(
                "a prompt has {longest} tokens, and the base's context is {context}; what comes after that adds little"
            ));
        }
        let routing = &self.plan.routing;
        if let (Some(tokenizer), true, false) =
            (tokenizer, routing.gate_mode.needs_prompts(), routing.gate_mode.is_fitted())
        {
            let ignored = routers::experts_with_ignored_prompts(routing, tokenizer)?;
            if !ignored.is_empty() {
                warnings.push(format!(
                    "the empty prompts of {} are ignored: the base's tokenizer has no bos token to stand for them",
                    ignored.join(", ")
                ));
            }
        }
        Ok(warnings)
    }

    /// The base's tokenizer, if the routers are made from text.
    pub(super) fn tokenizer(&self, storage: &dyn ReadStorage) -> Result<Option<Tokenizer>> {
        let mode = self.plan.routing.gate_mode;
        let needed = mode.needs_prompts() || mode.is_fitted();
        let open = || {
            self.open_tokenizer(storage).map_err(|error| {
                error.fact("needed for", format!("`gate_mode: {}`", mode.name())).hint("`gate_mode: random` needs none")
            })
        };
        needed.then(open).transpose()
    }

    /// The base's tokenizer.
    pub(super) fn open_tokenizer(&self, storage: &dyn ReadStorage) -> Result<Tokenizer> {
        let base = self.models.base();
        let opened = Tokenizer::open_with(storage, &base.dir, &base.overrides)?;
        Ok(opened.with_rows(base.config.vocab_size))
    }
}
