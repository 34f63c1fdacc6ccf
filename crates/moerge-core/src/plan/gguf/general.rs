//! What the metadata says about where a model comes from.

use moerge_checkpoint::gguf::{Metadata, Value};

use super::{GgufModel, Vocabulary};
use crate::{
    error::{Error, Result},
    model::families::LayerRole,
};

/// Where a model comes from.
#[derive(Debug, Clone, Default)]
pub struct General {
    /// Its name.
    pub name: String,
    /// Its licence, by the Hub's identifier.
    pub licence: Option<String>,
    /// Hub identifiers of the models that it was made of.
    pub base_models: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Languages, by the Hub's codes.
    pub languages: Vec<String>,
}

impl General {
    /// llama.cpp knows Phi-3 by its name, and refuses a model of this name without its special tokens.
    pub(super) fn check(&self, vocabulary: &Vocabulary) -> Result<()> {
        let name = self.name.to_lowercase();
        if !name.contains("phi-3") && !name.contains("phi3") {
            return Ok(());
        }
        match ["</s>", "<unk>", "<s>", "<|endoftext|>"].into_iter().find(|token| !vocabulary.has(token)) {
            Some(token) => {
                Err(Error::input(format!("llama.cpp refuses a model named {:?} without a token {token}", self.name))
                    .hint("give it a name without `phi3` or `phi-3`"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn metadata(&self) -> Metadata {
        let text = |text: &str| Value::String(text.to_owned());
        let mut metadata =
            vec![("general.type".to_owned(), text("model")), ("general.name".to_owned(), text(&self.name))];
        if let Some(licence) = &self.licence {
            metadata.push(("general.license".to_owned(), text(licence)));
        }
        if !self.base_models.is_empty() {
            let count = Value::Uint32(self.base_models.len() as u32);
            metadata.push(("general.base_model.count".to_owned(), count));
        }
        for (number, id) in self.base_models.iter().enumerate() {
            let key = |key: &str| format!("general.base_model.{number}.{key}");
            let (organization, name) = id.split_once('/').map_or((None, id.as_str()), |(o, n)| (Some(o), n));
            metadata.push((key("name"), text(&name.replace('-', " "))));
            if let Some(organization) = organization {
                metadata.push((key("organization"), text(organization)));
                metadata.push((key("repo_url"), Value::String(format!("https://huggingface.co/{id}"))));
            }
        }
        for (key, list) in [("general.tags", &self.tags), ("general.languages", &self.languages)] {
            if !list.is_empty() {
                metadata.push((key.to_owned(), Value::strings(list.iter().map(String::as_str))));
            }
        }
        metadata
    }
}

/// Adds the label of the model's size, such as `7B` or `4x7B`, after its name.
pub fn add_size(metadata: &mut Metadata, model: &GgufModel, parameters: u64) {
    let label = match model.description.decoder.experts() {
        Some(experts) => {
            let layers = model.description.decoder.layers.iter();
            let hidden = model.description.decoder.hidden;
            let all: u64 = layers
                .flat_map(|layer| layer.weights(hidden))
                .filter(|(role, _)| matches!(role, LayerRole::Expert(..)))
                .map(|(_, shape)| shape.iter().map(|dim| *dim as u64).product::<u64>())
                .sum();
            let one = parameters - all + all / experts.experts.max(1) as u64;
            format!("{}x{}", experts.experts, rounded(one))
        }
        None => rounded(parameters),
    };
    let after_name = metadata.iter().position(|(key, _)| key == "general.name").map_or(0, |at| at + 1);
    metadata.insert(after_name, ("general.size_label".to_owned(), Value::String(label)));
}

/// A number of parameters with two digits at least.
fn rounded(parameters: u64) -> String {
    let (scaled, unit) = match parameters as f64 {
        n if n > 1e12 => (n * 1e-12, "T"),
        n if n > 1e9 => (n * 1e-9, "B"),
        n if n > 1e6 => (n * 1e-6, "M"),
        n => (n * 1e-3, "K"),
    };
    let digits = format!("{}", scaled.round()).trim_start_matches('0').len();
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn sizes_have_two_digits_at_least() {
        let sizes = [7_241_732_096, 134_515_008, 1_500_000, 60_000].map(rounded);
        assert_eq!(sizes, ["7.2B", "135M", "1.5M", "60K"]);
    }
}
