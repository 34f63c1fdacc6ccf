//! The routers of a build: made, fitted, or kept from an interrupted run, and the text that the experts write for them.

use moerge_checkpoint::OutputDir;

use super::{MergeOptions, Prepared, Step};
use crate::{
    memory::MemoryNeed,
    routers::{self, Calibration, ExpertText, ExpertTokens, ROUTING_REPORT, Routers, RoutingReport, Validation},
};
use moerge_core::{
    error::{Cause, Error, Result},
    plan::Prompts,
    progress::{Progress, Stage},
    recipe::{GateMode, Label},
};
use moerge_infer::{PartialExpert, SourceWeights, decoder::Quantisation, tokenizer::Tokenizer};

/// The kept file with the routers, for a resumed run.
const ROUTERS: &str = "routers.safetensors";
/// The kept file with the balanced routers. It is separate, so that a run that is interrupted between this file and the
/// report does not balance twice.
const BALANCED: &str = "balanced_routers.safetensors";

impl Prepared {
    /// Makes the routers, with a report if they are fitted, in the memory of `need`; or uses those of an interrupted
    /// run.
    pub(super) fn routers(
        &self,
        output: &OutputDir,
        tokenizer: Option<&Tokenizer>,
        need: &MemoryNeed,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Routers, Option<RoutingReport>)> {
        let (mut routers, mut report) = match self.kept_routers(output)? {
            Some(kept) => {
                if options.step == Step::Whole {
                    progress.note("the routers are there from the run before");
                }
                kept
            }
            None => {
                if options.step.part().is_some() {
                    self.refuse_missing_routers()?;
                }
                self.make_routers(output, tokenizer, need, options, progress)?
            }
        };
        if let Some(report) = report.as_mut().filter(|report| report.balance.is_none() && self.plan.routing.balance) {
            let calibration = self.calibration(output, text_tokenizer(tokenizer)?, need.expert, progress)?;
            let balanced = routers::balance(&self.plan, &routers, &calibration, options.rounding, progress)?;
            report.set_balance(balanced.balance, balanced.load);
            routers = balanced.routers;
            output.keep(BALANCED, &routers.to_bytes()?)?;
            output.keep(ROUTING_REPORT, report.to_text().as_bytes())?;
        }
        if let Some(report) =
            report.as_mut().filter(|report| report.validation.is_none() && self.plan.routing.validates())
        {
            report.validation = Some(self.validate(&routers, text_tokenizer(tokenizer)?, options, progress)?);
            output.keep(ROUTING_REPORT, report.to_text().as_bytes())?;
        }
        Ok((routers, report))
    }

    /// Refuses to write a part before there are routers, unless they are random: on another machine, a pass over text
    /// may differ in the last bits.
    pub(super) fn refuse_missing_routers(&self) -> Result<()> {
        match self.plan.routing.gate_mode.is_random() {
            true => Ok(()),
            false => Err(Error::input("the routers are not made yet, and all parts need the same ones")
                .cause(Cause::RoutersMissing)),
        }
    }

    /// Makes the routers and keeps them for a resumed run.
    fn make_routers(
        &self,
        output: &OutputDir,
        tokenizer: Option<&Tokenizer>,
        need: &MemoryNeed,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Routers, Option<RoutingReport>)> {
        let (routers, report) = if self.plan.routing.gate_mode.is_fitted() {
            let (routers, report) = self.fit_routers(output, text_tokenizer(tokenizer)?, need, options, progress)?;
            output.keep(ROUTING_REPORT, report.to_text().as_bytes())?;
            (routers, Some(report))
        } else {
            let weights = SourceWeights::new(self.models.base())?;
            let routing = &self.plan.routing;
            (routers::make_routers(routing, &weights, tokenizer, options.rounding, progress)?, None)
        };
        output.keep(ROUTERS, &routers.to_bytes()?)?;
        Ok((routers, report))
    }

    /// The routers of the run before, with their report where they were fitted.
    fn kept_routers(&self, output: &OutputDir) -> Result<Option<(Routers, Option<RoutingReport>)>> {
        let report = output.kept(ROUTING_REPORT)?;
        let report = report.map(|kept| RoutingReport::parse(&String::from_utf8_lossy(&kept))).transpose()?;
        let balanced = report.as_ref().is_some_and(|report| report.balance.is_some());
        let Some(kept) = output.kept(if balanced { BALANCED } else { ROUTERS })? else { return Ok(None) };
        let routers = Routers::from_bytes(&kept)?;
        let fits = routers.experts == self.plan.shape.experts && routers.hidden == self.plan.description.decoder.hidden;
        let whole = report.is_some() == self.plan.routing.gate_mode.is_fitted();
        Ok((fits && whole).then_some((routers, report)))
    }

    /// The models that write text: experts by their numbers, and after them the shared one where it has a gate.
    pub(super) fn writers(&self) -> Vec<usize> {
        let routing = &self.plan.routing;
        let writes = |prompts: &Prompts| match routing.gate_mode {
            GateMode::SelfCalibrated => true,
            GateMode::PhatGoose => prompts.positive.is_empty(),
            _ => false,
        };
        let all = routing.experts.iter().chain(&routing.shared_expert).enumerate();
        all.filter(|(_, prompts)| writes(prompts)).map(|(writer, _)| writer).collect()
    }

    /// What each of `writers` writes. Its text is kept when it is there.
    fn self_texts(
        &self,
        writers: &[usize],
        output: &OutputDir,
        tokenizer: &Tokenizer,
        quantisation: Quantisation,
        progress: &dyn Progress,
    ) -> Result<Vec<ExpertTokens>> {
        let routing = &self.plan.routing;
        let (settings, slots) = (&routing.fit.self_text, &routing.slots);
        let experts = (0..routing.experts.len()).map(|e| self.models.expert(e)).zip(&routing.experts);
        let shared = routing.shared_expert.as_ref().and_then(|p| Some((self.models.shared_expert()?, p)));
        let all: Vec<_> = experts.chain(shared).enumerate().filter(|(writer, _)| writers.contains(writer)).collect();
        let each = (settings.samples * settings.tokens) as u64;
        progress.start(Stage::SelfText, each * all.len() as u64, 0);
        let mut texts = Vec::new();
        for (expert, (source, prompts)) in all {
            let name = self_text_of(expert);
            if let Some(kept) = output.kept(&name)?.and_then(|kept| serde_json::from_slice(&kept).ok()) {
                progress.advance(Stage::SelfText, each);
                texts.push(kept);
                continue;
            }
            let absent = |layer: &usize| expert < slots.experts() && slots.slot(*layer, expert).is_none();
            let absent = (0..slots.layers()).filter(absent).collect();
            let weights = PartialExpert::new(source, self.models.base(), absent)?;
            let seed = settings.seed.unwrap_or(self.plan.output.seed) ^ (expert as u64).rotate_right(16);
            let samples = routers::write_samples(&weights, tokenizer, prompts, settings, seed, quantisation, progress)?;
            let text = ExpertText { expert, model: source.reference.clone(), samples };
            output.keep(&name, &serde_json::to_vec(&text).map_err(|e| Error::input(e.to_string()))?)?;
            texts.push(text);
        }
        progress.finish(
            Stage::SelfText,
            &format!("{} samples of {} tokens by each expert", settings.samples, settings.tokens),
        );
        Ok(texts.into_iter().map(ExpertTokens::from).collect())
    }

    /// What the experts wrote, to lie beside the output.
    pub(super) fn self_text_file(&self, output: &OutputDir) -> Result<Vec<u8>> {
        let mut lines = Vec::new();
        for expert in self.writers() {
            let Some(kept) = output.kept(&self_text_of(expert))? else { continue };
            lines.push(String::from_utf8_lossy(&kept).into_owned());
        }
        Ok(format!("[{}]\n", lines.join(",\n")).into_bytes())
    }

    /// The text of the experts that routers are fitted to; `None` if they are not.
    pub(super) fn texts_of_experts(
        &self,
        output: &OutputDir,
        tokenizer: Option<&Tokenizer>,
        need: &MemoryNeed,
        progress: &dyn Progress,
    ) -> Result<Option<Vec<Vec<u32>>>> {
        if !self.plan.routing.gate_mode.is_fitted() {
            return Ok(None);
        }
        let calibration = self.calibration(output, text_tokenizer(tokenizer)?, need.expert, progress)?;
        Ok(Some(calibration.texts_of_experts(usize::MAX)))
    }

    /// The text that routers are fitted to, its tokens labelled by whose it is.
    fn calibration(
        &self,
        output: &OutputDir,
        tokenizer: &Tokenizer,
        expert: Quantisation,
        progress: &dyn Progress,
    ) -> Result<Calibration> {
        let (mut experts, mut shared) = routers::recipe_texts(&self.plan.routing, tokenizer, progress)?;
        let writers = self.writers();
        if !writers.is_empty() {
            let texts = self.self_texts(&writers, output, tokenizer, expert, progress)?;
            for (writer, text) in writers.into_iter().zip(texts) {
                match experts.get_mut(writer) {
                    Some(own) => *own = text,
                    None => shared = Some(text),
                }
            }
        }
        Ok(Calibration::new(&experts, shared.as_ref()))
    }

    fn fit_routers(
        &self,
        output: &OutputDir,
        tokenizer: &Tokenizer,
        need: &MemoryNeed,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<(Routers, RoutingReport)> {
        let mut calibration = self.calibration(output, tokenizer, need.expert, progress)?;
        if self.plan.routing.fit.label == Label::Loss {
            routers::label_by_loss(&self.plan, &mut calibration, options.rounding, progress)?;
        }
        let trained = self.trained_gates(&calibration, need.room, output, options, progress)?;
        let (routers, mut report) =
            routers::fit_routers(&self.plan, &calibration, trained.as_ref(), options.rounding, progress)?;
        report.shared_difference = self.shared_differences()?;
        Ok((routers, report))
    }

    fn validate(
        &self,
        routers: &Routers,
        tokenizer: &Tokenizer,
        options: &MergeOptions,
        progress: &dyn Progress,
    ) -> Result<Validation> {
        let base = SourceWeights::new(self.models.base())?;
        routers::validate(&self.plan, routers, &base, tokenizer, options.rounding, progress)
    }
}

/// The tokenizer, which is there wherever routers are fitted.
fn text_tokenizer(tokenizer: Option<&Tokenizer>) -> Result<&Tokenizer> {
    tokenizer.ok_or_else(|| Error::input("routers are fitted to text, which needs the base's tokenizer"))
}

/// Name of the file that keeps an expert's text for a resumed run.
fn self_text_of(expert: usize) -> String {
    format!("self_text_{expert}.json")
}
