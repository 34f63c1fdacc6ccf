//! What the card of a dense merge says.

use std::path::Path;

use moerge_checkpoint::{Dtype, ReadStorage};
use moerge_core::{
    error::Result,
    model::{gguf::quantised_sources, named_model::NamedModel},
    output::{
        card::{DenseCardFacts, DenseCardModel, source_licence},
        files::local_folders,
    },
    recipe::dense::{Condition, Input, Parameters, Setting, Slice},
};

use super::PreparedDense;

impl PreparedDense {
    pub(super) fn card(&self, storage: &dyn ReadStorage, out: &Path) -> Result<DenseCardFacts> {
        let recipe = &self.recipe;
        let inputs = recipe.slices.iter().flat_map(|slice| slice.inputs.iter().map(move |input| (slice, input)));
        let model = |(slice, input): (&Slice, &Input)| {
            let layers = input.layers.as_ref().map(|layers| match layers.end - layers.start {
                1 => layers.start.to_string(),
                _ => format!("{}-{}", layers.start, layers.end - 1),
            });
            let parameters = in_words(&input.parameters).into_iter().chain(in_words(&slice.parameters)).collect();
            DenseCardModel { reference: input.model.value.to_string(), layers, parameters }
        };
        let sources = || self.models.0.iter().flat_map(NamedModel::files);
        let dirs = sources().flat_map(|files| files.dirs());
        let made = |model: &&NamedModel| model.files().iter().all(|files| files.reference != model.reference);
        let documents = self.models.0.iter().filter(made).map(|model| model.reference.clone());
        let mut dtypes = self.plan.output.tensors.iter().filter_map(|t| t.encoding.dtype());
        let dtype = dtypes.find(|dtype| dtype.is_float()).and_then(Dtype::torch_name);
        let summary = self.summary();
        Ok(DenseCardFacts {
            name: out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            method: recipe.merge_method.name.to_owned(),
            method_title: recipe.merge_method.title.to_owned(),
            base: recipe.base_model.as_ref().map(|base| base.value.to_string()),
            models: inputs.map(model).collect(),
            parameters_of_all: in_words(&recipe.parameters),
            sources: sources().map(|files| files.reference.to_owned()).collect(),
            folders: local_folders(sources()).into_iter().chain(documents).collect(),
            licences: dirs.map(|dir| source_licence(storage, dir)).collect::<Result<_>>()?,
            architecture: summary.architecture,
            parameters: summary.parameters,
            dtype: dtype.unwrap_or_default().to_owned(),
            recipe: recipe.text.to_string(),
            moerge_version: env!("CARGO_PKG_VERSION").to_owned(),
            quantised: quantised_sources(storage, sources()),
            remote_code: self.plan.output.config.contains_key("auto_map"),
        })
    }
}

/// `weight 0.5`, `t 0 to 1 over the layers (self_attn), 0.5`.
fn in_words(parameters: &Parameters) -> Vec<String> {
    let values = |values: &[f64]| match values {
        [one] => one.to_string(),
        many => format!("{} over the layers", many.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")),
    };
    let setting = |setting: &Setting| {
        let condition = |condition: &Condition| {
            let filter = condition.filter.as_ref().map(|filter| format!(" in {filter}")).unwrap_or_default();
            format!("{}{filter}", values(&condition.values))
        };
        setting.0.iter().map(condition).collect::<Vec<_>>().join("; ")
    };
    parameters.iter().map(|(name, value)| format!("{name} {}", setting(&value.value))).collect()
}
