//! `routing_report.json`: how well fitted routers route.
//!
//! A plan includes an upper bound on the file's length before anything is computed.

use std::io;

use serde::{Deserialize, Serialize};

use super::{balance::Balance, fit::LayerFit, sharpness::Sharpness, validation::Validation};
use crate::following::Following;
use moerge_core::{
    error::{Error, Result},
    plan::{MoePlan, Slots, moe::SameFfn},
    recipe::GateMode,
    suggest::ranges,
};

/// The file's name in the model folder.
pub const ROUTING_REPORT: &str = "routing_report.json";

/// Maximum number of experts for which layers have a confusion matrix: a larger one would outgrow the routers.
const CONFUSION_UP_TO: usize = 64;

/// The performance of the routers on text that was held out from their fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutingReport {
    /// The gate mode, spelled as in the recipe.
    pub gate_mode: String,
    /// The fraction of tokens whose own expert is the first choice: the median over the layers.
    pub median_accuracy: f64,
    /// The text of each expert.
    pub experts: Vec<ExpertReport>,
    /// The layers.
    pub layers: Vec<LayerReport>,
    /// Experts that are identical in some layers, where the choice between them changes nothing.
    pub same_ffn: Vec<SameFfn>,
    /// For each expert, the difference of its attention, norms, embeddings and head from the base's: the norm of the
    /// difference divided by the norm of the base's, on a sample of rows.
    pub shared_difference: Vec<f64>,
    /// How fast the routers follow a text that begins or changes its subject.
    #[serde(default)]
    pub following: Following,
    /// How sharply the routers decide, if a token has more than one expert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<Sharpness>,
    /// The result of balancing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// Perplexities on the validation text of the recipe, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// The text of an expert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertReport {
    /// Number of tokens.
    pub tokens: u64,
    /// Number of held-out tokens.
    pub held_out: u64,
}

/// The router of a layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The fraction of held-out tokens whose own expert is the first choice, averaged over the experts.
    pub accuracy: f64,
    /// Whether that is less than halfway between chance and certainty.
    pub degenerate: bool,
    /// The temperature that calibrates the softmax; the rows are divided by it.
    pub temperature: f64,
    /// The penalty of the logistic regression; 0 if the rows are those of the discriminant.
    #[serde(default)]
    pub penalty: f64,
    /// The expert in each slot, if not every expert is in every layer. An expert may occur twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<u64>,
    /// The fraction of all choices that each expert gets; 0 for experts that are not in the layer.
    pub load: Vec<f64>,
    /// `[own][first]`: for each expert, the fraction of its tokens whose first choice is each expert.
    pub confusion: Vec<Vec<f64>>,
}

impl LayerReport {
    /// The report of `layer` for its `fit`; `load` is the fraction of each slot.
    pub(super) fn new(slots: &Slots, layer: usize, fit: &LayerFit, load: &[f64]) -> Self {
        let members = slots.members(layer);
        let mut report = Self::empty(slots, layer);
        let shares = fit.confusion.shares();
        for (own, shares) in members.iter().zip(&shares) {
            let Some(row) = report.confusion.get_mut(*own) else { continue };
            members.iter().zip(shares).for_each(|(first, share)| row[*first] = *share);
        }
        let accuracy = fit.confusion.accuracy();
        let chance = 1.0 / members.len().max(1) as f64;
        Self {
            accuracy,
            degenerate: accuracy < (1.0 + chance) / 2.0,
            temperature: fit.temperature,
            penalty: fit.penalty,
            load: slots.by_expert(layer, load),
            ..report
        }
    }

    /// An empty report of `layer`.
    fn empty(slots: &Slots, layer: usize) -> Self {
        let experts = slots.experts();
        let here = slots.in_layer(layer).iter().map(|expert| *expert as u64);
        Self {
            slots: if slots.are_plain() { Vec::new() } else { here.collect() },
            load: vec![0.0; experts],
            confusion: if experts <= CONFUSION_UP_TO { vec![vec![0.0; experts]; experts] } else { Vec::new() },
            ..Self::default()
        }
    }
}

impl RoutingReport {
    pub(super) fn new(
        plan: &MoePlan,
        experts: Vec<ExpertReport>,
        layers: Vec<LayerReport>,
        following: Following,
    ) -> Self {
        Self {
            gate_mode: plan.routing.gate_mode.name().to_owned(),
            median_accuracy: median(layers.iter().map(|l| l.accuracy).collect()),
            shared_difference: vec![0.0; experts.len()],
            experts,
            layers,
            same_ffn: plan.same_ffn.clone(),
            following,
            sharpness: None,
            balance: None,
            validation: None,
        }
    }

    /// An upper bound on the file's length in bytes, whatever its content.
    pub fn max_bytes(plan: &MoePlan) -> u64 {
        let (experts, layers) = (plan.routing.slots.experts() as u64, plan.routing.slots.layers() as u64);
        let matrix = if experts <= CONFUSION_UP_TO as u64 { experts * experts } else { 0 };
        let (number, fields) = (16, 512);
        (layers + 1) * (fields + number * (3 * experts + matrix)) + experts * fields + 16 * fields
    }

    /// Adds the result of balancing; `load` is per layer the fraction of each expert afterwards.
    pub fn set_balance(&mut self, balance: Balance, load: Vec<Vec<f64>>) {
        self.layers.iter_mut().zip(load).for_each(|(layer, load)| layer.load = load);
        self.balance = Some(balance);
    }

    /// The fraction of all choices that each expert gets, averaged over the layers.
    pub fn load(&self) -> Vec<f64> {
        let mean = |e: usize| {
            let loads = self.layers.iter().filter_map(|l| l.load.get(e));
            loads.sum::<f64>() / self.layers.len().max(1) as f64
        };
        (0..self.experts.len()).map(mean).collect()
    }

    /// The layers by ascending accuracy.
    pub fn worst_layers(&self) -> Vec<(usize, f64)> {
        let mut layers: Vec<(usize, f64)> = self.layers.iter().map(|l| l.accuracy).enumerate().collect();
        layers.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        layers
    }

    /// The warnings; `names` are the experts' names in order.
    pub fn warnings(&self, names: &[String]) -> Vec<String> {
        let name = |e: usize| format!("expert {e} ({})", names.get(e).map_or("", String::as_str));
        let mut warnings = Vec::new();
        let degenerate: Vec<usize> = (0..self.layers.len()).filter(|l| self.layers[*l].degenerate).collect();
        if !degenerate.is_empty() {
            let pair = self.most_confused(&degenerate);
            let who = pair.map_or("its experts".to_owned(), |(a, b)| format!("{} from {}", name(a), name(b)));
            let advice = if self.gate_mode == GateMode::SelfCalibrated.name() {
                "`gate_mode: calibrated`, with text that is typical of each, may tell them apart"
            } else {
                "give them more text, or text that differs more"
            };
            warnings.push(format!(
                "the router hardly distinguishes {who} in {} of {} layers ({}); {advice}",
                degenerate.len(),
                self.layers.len(),
                ranges(&degenerate)
            ));
        }
        warnings
    }

    /// The two experts that are confused most in these layers.
    fn most_confused(&self, layers: &[usize]) -> Option<(usize, usize)> {
        let experts = self.experts.len();
        let share = |a: usize, b: usize| {
            let of = |l: &usize| Some(self.layers[*l].confusion.get(a)?.get(b).copied().unwrap_or_default());
            layers.iter().filter_map(of).sum::<f64>()
        };
        let pairs = (0..experts).flat_map(|a| (a + 1..experts).map(move |b| (a, b)));
        let counted = pairs.map(|(a, b)| ((a, b), share(a, b) + share(b, a))).filter(|(_, s)| *s > 0.0);
        counted.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(pair, _)| pair)
    }

    /// Encodes the file.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, ObjectPerLine::default());
        // Writing to memory cannot fail, and there are no maps with other keys than strings.
        let _ = self.serialize(&mut serializer);
        bytes.push(b'\n');
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Decodes the result of [`RoutingReport::to_text`].
    ///
    /// # Errors
    /// It is not a report.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::input(format!("{ROUTING_REPORT} cannot be read: {e}")))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => (values[middle - 1] + upper) / 2.0,
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

/// JSON with one object per line and numbers of four digits, which is the accuracy of what is measured.
#[derive(Default)]
struct ObjectPerLine {
    depth: usize,
}

impl serde_json::ser::Formatter for ObjectPerLine {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let places = match value.abs() {
            x if x < 10.0 => 4,
            x if x < 100_000.0 => 2,
            _ => return write!(writer, "{value:.2e}"),
        };
        write!(writer, "{value:.places$}")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth == 2 { writer.write_all(b"\n  {") } else { writer.write_all(b"{") }
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(if self.depth == 0 { b"\n}" } else { b"}" })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        if self.depth == 1 { writer.write_all(b"\n ") } else { writer.write_all(if first { b"" } else { b" " }) }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
