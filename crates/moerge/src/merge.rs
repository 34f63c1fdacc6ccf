//! From a recipe to a finished folder: open, plan, make the routers, write, check, publish.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use checkpoint::{Checkpoint, Dtype, Found, OutputDir, Storage};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    architecture::describe,
    error::{Error, ErrorKind, Result},
    execute,
    memory::{MemoryNeed, PromptTokens},
    model_config::ModelConfig,
    model_source::{HubCache, NotHere, locate},
    moerge_json::{MOERGE_JSON, MoergeJson},
    output_files::{OutputFile, Wanted, copied_files, made_files, output_files, record},
    plan::{Models, Plan, PlanOptions, PlanSummary},
    progress::{Progress, Stage},
    recipe::{GateMode, Label, ModelRef, Recipe},
    recipe_check::{self, CheckOptions},
    router::{self, Calibration, ExpertText, ExpertTokens, ROUTING_REPORT, Routers, RoutingReport, SELF_TEXT_FILE},
    source::{Source, Vocabulary},
    tokenizer::Tokenizer,
    transformer::WeightRounding,
};

mod difference;

/// Name of the file that keeps the routers for a resumed run.
const ROUTERS: &str = "routers.safetensors";

/// What the user can set besides the recipe.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Largest shard in bytes.
    pub shard_bytes: u64,
    /// Seed of noise and random gates; the recipe's where it is not given.
    pub random_seed: Option<u64>,
    /// Worker threads; by the machine where it is not given.
    pub threads: Option<usize>,
    /// Memory to stay within, in bytes: fewer threads write where it is small, and what cannot do with it is refused
    /// before anything is written.
    pub memory: u64,
    /// Rounding of the base's weights in the prompt pass.
    pub rounding: Option<WeightRounding>,
    /// What merged LoRA weights are rounded to.
    pub lora_dtype: Option<Dtype>,
    /// Whether an existing output folder is replaced.
    pub force: bool,
    /// Whether all experts may be the same model.
    pub allow_same_experts: bool,
    /// Which files are written beside the weights.
    pub wanted: Wanted,
    /// Whether the experts' tokenizers are read, to warn of tokens that mean something else than in the base.
    pub compare_vocabularies: bool,
    /// Whether some rows of the experts' attention, norms and embeddings are read, to warn of experts that were trained
    /// in what the MoE takes from the base. Where routers are fitted that is always done.
    pub measure_shared: bool,
    /// Where downloaded models lie.
    pub cache: HubCache,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            shard_bytes: 5_000_000_000,
            random_seed: None,
            threads: None,
            memory: 2 << 30,
            rounding: None,
            lora_dtype: None,
            force: false,
            allow_same_experts: false,
            wanted: Wanted { tokenizer: true, card: true },
            compare_vocabularies: true,
            measure_shared: true,
            cache: HubCache::default(),
        }
    }
}

/// A recipe with its models opened and its plan made. Nothing is written yet.
#[derive(Debug)]
pub struct Prepared {
    /// What the user wrote.
    pub recipe: Recipe,
    /// The opened models.
    pub models: Models,
    /// What will be written.
    pub plan: Plan,
}

/// What came of a merge.
#[derive(Debug)]
pub struct MergeReport {
    /// The plan in numbers.
    pub summary: PlanSummary,
    /// The folder.
    pub out: PathBuf,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// What the user should know, the plan's warnings among them.
    pub warnings: Vec<String>,
    /// Wall time.
    pub elapsed: Duration,
    /// How well fitted routers route, where they were fitted.
    pub routing: Option<RoutingReport>,
    /// Whether the folder was there already, made by the same recipe from the same sources.
    pub already_there: bool,
}

/// Opens the models of `recipe` and makes the plan. Reads headers and configs only.
pub fn prepare(
    storage: &Arc<dyn Storage>,
    recipe: Recipe,
    recipe_dir: &Path,
    options: &MergeOptions,
) -> Result<Prepared> {
    let mut warnings = recipe_check::check(&recipe, &CheckOptions { allow_same_experts: options.allow_same_experts })?;
    let models = open_models(storage, &recipe, recipe_dir, &options.cache)?;
    let plan_options = PlanOptions {
        shard_bytes: options.shard_bytes,
        seed: options.random_seed.or(recipe.random_seed).unwrap_or(0),
        lora_dtype: options.lora_dtype,
    };
    let mut plan = Plan::new(&recipe, &models, &plan_options)?;
    warnings.append(&mut plan.warnings);
    if options.compare_vocabularies {
        warnings.extend(vocabulary_warnings(storage.as_ref(), &models));
    }
    plan.warnings = warnings;
    Ok(Prepared { recipe, models, plan })
}

fn open_models(storage: &Arc<dyn Storage>, recipe: &Recipe, recipe_dir: &Path, cache: &HubCache) -> Result<Models> {
    let mut sources: Vec<Source> = Vec::new();
    let mut open = |reference: &crate::recipe::Located<ModelRef>| -> Result<usize> {
        let name = reference.value.to_string();
        if let Some(index) = sources.iter().position(|s| s.reference == name) {
            return Ok(index);
        }
        let folders = locate(&reference.value, recipe_dir, cache)
            .map_err(|e: NotHere| Error::from(e).at(recipe.snippet(&reference.span, "")))?;
        let source = Source::open(storage, &name, &folders.model, folders.adapter.as_deref())
            .map_err(|e| if e.parts().snippet.is_some() { e } else { e.at(recipe.snippet(&reference.span, "")) })?;
        sources.push(source);
        Ok(sources.len() - 1)
    };
    let base = open(&recipe.base_model)?;
    let experts = recipe.experts.iter().map(|e| open(&e.source_model)).collect::<Result<_>>()?;
    let shared_expert = recipe.shared_experts.first().map(|e| open(&e.source_model)).transpose()?;
    Ok(Models { sources, base, experts, shared_expert })
}

fn vocabulary_warnings(storage: &dyn Storage, models: &Models) -> Vec<String> {
    let tokenizer = |s: &Source| crate::source::read_bytes(storage, &s.dir.join("tokenizer.json")).ok();
    let base_bytes = tokenizer(models.base());
    let mut base: Option<Vocabulary> = None;
    let mut warnings = Vec::new();
    for source in models.sources.iter().filter(|s| s.dir != models.base().dir) {
        let bytes = tokenizer(source);
        if bytes.is_none() || bytes == base_bytes {
            continue;
        }
        drop(bytes);
        if base.is_none() {
            base = Vocabulary::read(storage, &models.base().dir);
        }
        let (Some(base), Some(own)) = (&base, Vocabulary::read(storage, &source.dir)) else { continue };
        warnings.extend(own.differs_from(base).map(|what| format!("{}: {what}", source.reference)));
    }
    warnings
}

impl Prepared {
    /// Every file beside the weights, and the number of bytes of the finished folder.
    pub fn files(&self, storage: &dyn Storage, out: &Path, wanted: Wanted) -> Result<(Vec<OutputFile>, u64)> {
        let files = output_files(storage, &self.recipe, &self.models, &self.plan, out, wanted)?;
        let beside = files.iter().map(|f| f.bytes.len() as u64).sum::<u64>();
        Ok((files, beside + self.weight_and_report_bytes()))
    }

    /// The number of bytes of the finished folder, without reading what is copied into it.
    pub fn output_bytes(&self, storage: &dyn Storage, out: &Path, wanted: Wanted) -> Result<u64> {
        let made = made_files(&self.recipe, &self.models, &self.plan, out, wanted);
        let copied = copied_files(storage, &self.models, wanted)?;
        let beside = made.iter().map(|f| f.bytes.len() as u64).chain(copied.into_iter().map(|(_, len)| len));
        Ok(beside.sum::<u64>() + self.weight_and_report_bytes())
    }

    fn weight_and_report_bytes(&self) -> u64 {
        let record = record(&"0".repeat(32), &self.recipe, &self.models, &self.plan, &[]);
        let routing =
            if self.plan.routing.gate_mode.is_fitted() { RoutingReport::blank(&self.plan).to_text().len() } else { 0 };
        self.plan.layout.total_file_bytes() + (record.bytes.len() + routing) as u64
    }

    /// What a build will hold in memory at the most. Reads the base's tokenizer where prompts are asked for; without
    /// one, a prompt is taken to have as many tokens as bytes.
    pub fn memory(&self, storage: &dyn Storage, options: &MergeOptions) -> Result<MemoryNeed> {
        let tokenizer = self.tokenizer(storage).unwrap_or_default();
        self.memory_with(storage, tokenizer.as_ref(), options)
    }

    fn memory_with(
        &self,
        storage: &dyn Storage,
        tokenizer: Option<&Tokenizer>,
        options: &MergeOptions,
    ) -> Result<MemoryNeed> {
        let routing = &self.plan.routing;
        let lengths = match tokenizer {
            Some(tokenizer) => router::prompt_lengths(routing, tokenizer)?,
            None => routing.texts().map(|text| text.len() + 1).collect(),
        };
        let path = self.models.base().dir.join("tokenizer.json");
        let tokenizer_bytes = tokenizer.and_then(|_| storage.facts(&path).ok()).map_or(0, |facts| facts.len);
        let prompts = PromptTokens { lengths, tokenizer_bytes };
        let multiplying = rayon::current_num_threads() + 1;
        let workers = options.threads.unwrap_or_else(default_threads);
        Ok(MemoryNeed::of(&self.plan, &self.models, &prompts, (workers, multiplying), options.memory))
    }

    /// The base's tokenizer, where the routers are made of what the base says to prompts.
    fn tokenizer(&self, storage: &dyn Storage) -> Result<Option<Tokenizer>> {
        let mode = self.plan.routing.gate_mode;
        let needed = mode.needs_prompts() && !mode.is_fitted();
        needed.then(|| Tokenizer::open(storage, &self.models.base().dir)).transpose()
    }

    /// Builds the output in `out`.
    pub fn build(
        &self,
        storage: &Arc<dyn Storage>,
        out: &Path,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<MergeReport> {
        let start = Instant::now();
        let (files, bytes) = self.files(storage.as_ref(), out, options.wanted)?;
        let id = self.id(&files, options);
        let report = |warnings, routing, already_there| MergeReport {
            summary: PlanSummary::new(&self.recipe, &self.models, &self.plan),
            out: out.to_owned(),
            bytes,
            warnings,
            elapsed: start.elapsed(),
            routing,
            already_there,
        };
        if is_built(storage, out, &id) {
            return Ok(report(self.plan.warnings.clone(), published_report(storage.as_ref(), out), true));
        }
        let tokenizer = self.tokenizer(storage.as_ref())?;
        let memory = self.memory_with(storage.as_ref(), tokenizer.as_ref(), options)?;
        memory.within(options.memory)?;
        let (output, found) = OutputDir::open(storage, out, &id, options.force)?;
        match found {
            Found::AlreadyPublished => {
                output.publish()?;
                return Ok(report(self.plan.warnings.clone(), published_report(storage.as_ref(), out), true));
            }
            Found::Resumed => {}
            Found::OtherPlanDiscarded => progress.note("the unfinished build found there was of another recipe, of other sources or of another version; starting anew"),
            Found::Fresh => {}
        }
        let output = self.check_space(output, bytes, found)?;
        let (routers, routing) = self.routers(storage.as_ref(), &output, tokenizer.as_ref(), options, progress)?;
        if self.recipe.gate_mode == GateMode::Hidden && !self.recipe.gate_mode_given {
            progress.note(
                "the recipe names no gate_mode, so its prompts make `hidden` gates, as in mergekit; \
                 `gate_mode: self_calibrated` fits them to what the experts write, which routes much better",
            );
        }
        let mut warnings = self.plan.warnings.clone();
        let names: Vec<_> =
            (0..self.plan.shape.experts).map(|e| self.models.expert(e).short_name().to_owned()).collect();
        let shared = match &routing {
            Some(report) => report.shared_difference.clone(),
            None if options.measure_shared => self.shared_differences()?,
            None => Vec::new(),
        };
        warnings.extend(self.shared_warning(&shared, &names));
        match &routing {
            Some(report) => warnings.extend(report.warnings(&names)),
            None => warnings.extend(router::warnings(&routers, &names)),
        }

        let fingerprints = execute::write_shards(&self.plan, &routers, &output, memory.workers, progress)?;
        for file in files.iter().chain([&record(&id, &self.recipe, &self.models, &self.plan, &fingerprints)]) {
            output.write_file(&file.name, &file.bytes)?;
        }
        if let Some(report) = &routing {
            output.write_file(ROUTING_REPORT, report.to_text().as_bytes())?;
        }
        let mut bytes = bytes;
        if self.plan.routing.gate_mode == GateMode::SelfCalibrated {
            let text = self.self_text_file(&output)?;
            bytes += text.len() as u64;
            output.write_file(SELF_TEXT_FILE, &text)?;
        }
        self.check_output(storage, &output, progress)?;
        for source in &self.models.sources {
            source.checkpoint.check_unchanged()?;
        }
        output.publish()?;
        Ok(MergeReport { bytes, ..report(warnings, routing, false) })
    }

    /// Equal ids, equal bytes in the output.
    fn id(&self, files: &[OutputFile], options: &MergeOptions) -> String {
        let mut hash = Xxh3::new();
        hash.update(self.plan.id().as_bytes());
        hash.update(format!("{:?}", options.rounding).as_bytes());
        for file in files {
            hash.update(file.name.as_bytes());
            hash.update(&file.bytes);
        }
        format!("{:032x}", hash.digest128())
    }

    fn check_space(&self, output: OutputDir, bytes: u64, found: Found) -> Result<OutputDir> {
        let finished = output.finished_shards(&self.plan.layout)?;
        let shards = finished.iter().zip(&self.plan.layout.shards);
        let done: u64 = shards.filter(|(f, _)| f.is_some()).map(|(_, s)| s.file_len).sum();
        let (needed, free) = (bytes.saturating_sub(done), output.free_space()?);
        if free >= needed {
            return Ok(output);
        }
        let error = Error::new(ErrorKind::Io, format!("not enough room for {}", output.out().display()))
            .fact("needed", format!("{needed} bytes ({:.1} GB)", needed as f64 / 1e9))
            .fact("free", format!("{free} bytes ({:.1} GB)", free as f64 / 1e9))
            .hint("make room, or choose a folder on another disk");
        if found != Found::Resumed {
            output.discard()?;
        }
        Err(error)
    }

    /// The routers, and how well they route where they were fitted: made, or kept from the run before.
    fn routers(
        &self,
        storage: &dyn Storage,
        output: &OutputDir,
        tokenizer: Option<&Tokenizer>,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Routers, Option<RoutingReport>)> {
        let fitted = self.plan.routing.gate_mode.is_fitted();
        if let Some((routers, report)) = self.kept_routers(output)?
            && report.is_some() == fitted
        {
            progress.note("the routers are there from the run before");
            return Ok((routers, report));
        }
        let (routers, report) = if fitted {
            let (routers, report) = self.fit_routers(storage, output, options, progress)?;
            output.keep(ROUTING_REPORT, report.to_text().as_bytes())?;
            (routers, Some(report))
        } else {
            let weights = crate::source::SourceWeights::new(self.models.base())?;
            let routing = &self.plan.routing;
            (router::make_routers(routing, &weights, tokenizer, options.rounding, progress)?, None)
        };
        output.keep(ROUTERS, &routers.to_bytes()?)?;
        Ok((routers, report))
    }

    fn kept_routers(&self, output: &OutputDir) -> Result<Option<(Routers, Option<RoutingReport>)>> {
        let Some(kept) = output.kept(ROUTERS)? else { return Ok(None) };
        let routers = Routers::from_bytes(&kept)?;
        let fits = routers.experts == self.plan.shape.experts && routers.hidden == self.plan.description.decoder.hidden;
        let report = output.kept(ROUTING_REPORT)?;
        let report = report.map(|kept| RoutingReport::parse(&String::from_utf8_lossy(&kept))).transpose()?;
        Ok(fits.then_some((routers, report)))
    }

    /// What the experts write, the shared one's last where it has a gate. Each one's text is kept when it is there.
    fn self_texts(
        &self,
        output: &OutputDir,
        tokenizer: &Tokenizer,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Vec<ExpertTokens>, Option<ExpertTokens>)> {
        let routing = &self.plan.routing;
        let settings = &routing.fit.self_text;
        let experts = (0..self.plan.shape.experts).map(|e| self.models.expert(e)).zip(&routing.experts);
        let shared = routing.shared_expert.as_ref().and_then(|p| Some((self.models.shared_expert()?, p)));
        let all: Vec<_> = experts.chain(shared).collect();
        let each = (settings.samples * settings.tokens) as u64;
        progress.start(Stage::SelfText, each * all.len() as u64, 0);
        let mut texts = Vec::new();
        for (expert, (source, prompts)) in all.into_iter().enumerate() {
            let name = self_text_of(expert);
            if let Some(kept) = output.kept(&name)?.and_then(|kept| serde_json::from_slice(&kept).ok()) {
                progress.advance(Stage::SelfText, each);
                texts.push(kept);
                continue;
            }
            let weights = crate::source::SourceWeights::new(source)?;
            let seed = settings.seed.unwrap_or(self.plan.seed) ^ (expert as u64).rotate_right(16);
            let samples =
                router::write_samples(&weights, tokenizer, prompts, settings, seed, options.memory, progress)?;
            let text = ExpertText { expert, model: source.reference.clone(), samples };
            output.keep(&name, &serde_json::to_vec(&text).map_err(|e| Error::input(e.to_string()))?)?;
            texts.push(text);
        }
        progress.finish(
            Stage::SelfText,
            &format!("{} samples of {} tokens by each expert", settings.samples, settings.tokens),
        );
        let mut tokens: Vec<ExpertTokens> = texts.into_iter().map(ExpertTokens::from).collect();
        let shared = tokens.split_off(self.plan.shape.experts).pop();
        Ok((tokens, shared))
    }

    /// What the experts wrote, to lie beside the output.
    fn self_text_file(&self, output: &OutputDir) -> Result<Vec<u8>> {
        let mut lines = Vec::new();
        for expert in 0.. {
            let Some(kept) = output.kept(&self_text_of(expert))? else { break };
            lines.push(String::from_utf8_lossy(&kept).into_owned());
        }
        Ok(format!("[{}]\n", lines.join(",\n")).into_bytes())
    }

    fn fit_routers(
        &self,
        storage: &dyn Storage,
        output: &OutputDir,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Routers, RoutingReport)> {
        let routing = &self.plan.routing;
        let tokenizer = Tokenizer::open(storage, &self.models.base().dir)?;
        let (experts, shared) = if routing.gate_mode == GateMode::SelfCalibrated {
            self.self_texts(output, &tokenizer, options, progress)?
        } else {
            router::recipe_texts(routing, &tokenizer)?
        };
        let mut calibration = Calibration::new(&experts, shared.as_ref());
        if routing.fit.label == Label::Loss {
            router::label_by_loss(&self.plan, &mut calibration, options.rounding, progress)?;
        }
        let (routers, mut report) = router::fit_routers(&self.plan, &calibration, options.rounding, progress)?;
        let base = crate::source::SourceWeights::new(self.models.base())?;
        report.shared_difference = self.shared_differences()?;
        report.validation = router::validate(&self.plan, &routers, &base, &tokenizer, options.rounding, progress)?;
        Ok((routers, report))
    }

    /// Reads back headers, index and config of what was written. The weights' fingerprints were taken on their way.
    fn check_output(&self, storage: &Arc<dyn Storage>, output: &OutputDir, progress: &dyn Progress) -> Result<()> {
        let dir = output.model_dir();
        progress.start(Stage::Verify, self.plan.tensors.len() as u64, 0);
        let written = Checkpoint::open(storage, &dir)?;
        let config = ModelConfig::parse(
            &crate::source::read_text(storage.as_ref(), &dir.join("config.json"))?,
            &dir.join("config.json"),
        )?;
        let described = describe(&config)?;
        for tensor in &described.tensors {
            let fits = written.get(&tensor.name).is_some_and(|view| view.shape == tensor.shape);
            if !fits || described.tensors.len() != written.len() {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("{} was not written as planned ({})", dir.display(), tensor.name),
                )
                .hint("the disk may be failing; run `moerge merge` again"));
            }
        }
        progress.advance(Stage::Verify, described.tensors.len() as u64);
        progress.finish(Stage::Verify, &format!("{} tensors", described.tensors.len()));
        Ok(())
    }
}

/// Name of the file that keeps an expert's text for a resumed run.
fn self_text_of(expert: usize) -> String {
    format!("self_text_{expert}.json")
}

/// The report of an output that is there already.
fn published_report(storage: &dyn Storage, out: &Path) -> Option<RoutingReport> {
    RoutingReport::parse(&crate::source::read_text(storage, &out.join(ROUTING_REPORT)).ok()?).ok()
}

/// Whether `out` is the finished output of the build with this id.
fn is_built(storage: &Arc<dyn Storage>, out: &Path, id: &str) -> bool {
    let path = out.join(MOERGE_JSON);
    if Checkpoint::open(storage, out).is_err() {
        return false;
    }
    let text = crate::source::read_text(storage.as_ref(), &path).ok();
    text.and_then(|t| MoergeJson::parse(&t, MOERGE_JSON).ok()).is_some_and(|record| record.plan_id == id)
}

/// Reads and writes wait for the disk: more workers than cores.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(4, |n| n.get().clamp(4, 16))
}
