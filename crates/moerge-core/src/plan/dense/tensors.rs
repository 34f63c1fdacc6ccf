//! Every tensor of the output, and the expression it is made by.

use std::collections::BTreeMap;

use moerge_checkpoint::Dtype;

use super::{
    DenseModels, DensePlanOptions, VocabularyMap,
    doubts::Doubts,
    inputs::{ResolvedInput, ResolvedSlice},
    values::{self, Target},
};
use crate::{
    error::{Error, Result},
    model::{
        foreign_weights::is_plain,
        named_model::{LayerPlace, NamedModel},
        named_tensor::NamedTensor,
        token_tensors::{TIED_HEADS, can_be_tied, has_row_per_token},
    },
    ops::Expr,
    plan::OutputTensor,
    recipe::DenseRecipe,
};

/// What of a name says that a tensor belongs before the layers: it comes from the first slice, others from the last.
const BEFORE_LAYERS: [&str; 5] = ["embed", "wte.", "wpe.", "vision", "visual"];

/// The tensors of a plan.
pub struct Planned {
    /// Every tensor.
    pub tensors: Vec<OutputTensor>,
    /// Whether a head is written beside the embeddings.
    pub head: bool,
    /// Rows of the embeddings.
    pub vocabulary: Option<usize>,
    /// What the parameters' values give reason to doubt.
    pub doubts: Doubts,
}

/// What a plan is made from, and as much of it as there is.
pub(super) struct Planner<'a> {
    recipe: &'a DenseRecipe,
    pub models: &'a DenseModels,
    map: Option<&'a VocabularyMap>,
    pub options: &'a DensePlanOptions,
    planned: Planned,
}

/// Plans every tensor.
pub fn plan(
    recipe: &DenseRecipe,
    models: &DenseModels,
    slices: &[ResolvedSlice<'_>],
    map: Option<&VocabularyMap>,
    options: &DensePlanOptions,
) -> Result<Planned> {
    let planned = Planned { tensors: Vec::new(), head: false, vocabulary: None, doubts: Doubts::new(slices.len()) };
    let mut planner = Planner { recipe, models, map, options, planned };
    if let ([first, .., last] | [first @ last], true) = (slices, recipe.has_slices()) {
        let models = |slice: &ResolvedSlice<'_>| slice.inputs.iter().map(|input| input.model).collect::<Vec<_>>();
        planner.outside_of_layers(first, true, false)?;
        let mut layer = 0;
        for slice in slices {
            planner.slice(slice, layer)?;
            layer += slice.layers();
        }
        planner.outside_of_layers(last, false, models(first) != models(last))?;
    } else if let [whole] = slices {
        planner.whole_models(whole)?;
    }
    Ok(planner.planned)
}

impl<'a> Planner<'a> {
    /// Models with the same layers, merged tensor by tensor.
    fn whole_models(&mut self, slice: &ResolvedSlice<'_>) -> Result<()> {
        let lead = self.lead(slice)?;
        for name in self.names(slice, lead) {
            let place = LayerPlace::of(&name);
            let t = place.map_or(0.0, |place| position(place.layer, lead.layers_of(place.stack)));
            if let Some(place) = place {
                self.check_same_depth(slice, lead, place.stack)?;
            }
            let names = vec![name.clone(); slice.inputs.len()];
            self.tensor(slice, name, names, t)?;
        }
        Ok(())
    }

    /// The layers of a slice, as layers from `first` on of the output.
    fn slice(&mut self, slice: &ResolvedSlice<'_>, first: usize) -> Result<()> {
        let lead = self.lead(slice)?;
        let stack = self.stack(lead)?;
        let begin = |input: &ResolvedInput<'_>| input.layers.as_ref().map_or(0, |layers| layers.start);
        let own = slice.inputs.first().map_or(0, begin);
        let mut of_layers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for name in self.names(slice, lead) {
            if let Some(place) = LayerPlace::of(&name).filter(|place| place.stack == stack) {
                of_layers.entry(place.layer).or_default().push(place.rest.to_owned());
            }
        }
        for offset in 0..slice.layers() {
            let t = position(offset, slice.layers());
            self.check_same_layer(slice, stack, offset)?;
            for rest in of_layers.get(&(own + offset)).into_iter().flatten() {
                let in_layer = |layer: usize| format!("{stack}.{layer}.{rest}");
                let names = slice.inputs.iter().map(|input| in_layer(begin(input) + offset)).collect();
                self.tensor(slice, in_layer(first + offset), names, t)?;
            }
        }
        Ok(())
    }

    /// Tensors outside of the stack that is sliced: those before it, or those after it. With `own_head`, a head that is
    /// tied is written all the same, since the embeddings are another model's.
    fn outside_of_layers(&mut self, slice: &ResolvedSlice<'_>, before: bool, own_head: bool) -> Result<()> {
        let lead = self.lead(slice)?;
        let stack = self.stack(lead)?;
        let mut names = self.names(slice, lead);
        let is_there = |name: &str| names.iter().any(|n| n == name);
        let tied = TIED_HEADS.iter().find(|(head, embeddings)| own_head && is_there(embeddings) && !is_there(head));
        names.extend(tied.map(|(head, _)| (*head).to_owned()));
        for name in names {
            let place = LayerPlace::of(&name);
            let belongs_before = BEFORE_LAYERS.iter().any(|part| name.contains(part)) || place.is_some();
            if place.is_some_and(|place| place.stack == stack) || belongs_before != before {
                continue;
            }
            let t = place.map_or(0.0, |place| position(place.layer, lead.layers_of(place.stack)));
            let names = vec![name.clone(); slice.inputs.len()];
            self.tensor(slice, name, names, t)?;
        }
        Ok(())
    }

    /// The model whose tensors are looked for in the others.
    fn lead(&self, slice: &ResolvedSlice<'_>) -> Result<&'a NamedModel> {
        let first = slice.inputs.first().ok_or_else(|| Error::input("a slice has no sources"))?;
        Ok(&self.models.0[first.model])
    }

    fn stack<'m>(&self, lead: &'m NamedModel) -> Result<&'m str> {
        if lead.config.get("is_encoder_decoder").and_then(serde_json::Value::as_bool) == Some(true) {
            let message =
                format!("{} has an encoder and a decoder, and a `layer_range` cannot say which", lead.reference);
            return Err(Error::input(message).hint("merge such models whole, as `models`").unsupported());
        }
        lead.main_stack().ok_or_else(|| {
            Error::input(format!("{} has no layers that could be sliced", lead.reference))
                .fact("expected", "tensor names with a number, such as `model.layers.0.mlp.up_proj.weight`")
        })
    }

    /// The names of the tensors of all inputs, so that one that some model lacks is noticed whoever it is, and the
    /// head's where one model ties it and another does not.
    fn names(&self, slice: &ResolvedSlice<'_>, lead: &NamedModel) -> Vec<String> {
        let models = || slice.inputs.iter().map(|input| &self.models.0[input.model]);
        // Frequencies of rotary embeddings: old checkpoints store them, and every reader computes them.
        let merged = |name: &&String| !name.ends_with("rotary_emb.inv_freq");
        let own = |name: &str| lead.get(name).is_some();
        let mut names: Vec<String> = lead.tensors.keys().filter(merged).cloned().collect();
        let mut more: Vec<&String> = models().flat_map(|model| model.tensors.keys()).filter(merged).collect();
        more.sort_unstable();
        more.dedup();
        let in_layers = |name: &str| slice.layers() > 0 && LayerPlace::of(name).is_some();
        names.extend(more.into_iter().filter(|name| !own(name) && !can_be_tied(name) && !in_layers(name)).cloned());
        let head = TIED_HEADS.iter().find(|(head, embeddings)| {
            !own(head) && own(embeddings) && models().any(|model| model.get(head).is_some())
        });
        names.extend(head.map(|(head, _)| (*head).to_owned()));
        names
    }

    /// All inputs have the same tensors in a layer of a slice.
    fn check_same_layer(&self, slice: &ResolvedSlice<'_>, stack: &str, offset: usize) -> Result<()> {
        let tensors = |input: &ResolvedInput<'_>| -> Vec<&'a str> {
            let layer = input.layers.as_ref().map_or(0, |layers| layers.start) + offset;
            let prefix = format!("{stack}.{layer}.");
            let names = self.models.0[input.model].tensors.range(prefix.clone()..).map(|(name, _)| name.as_str());
            let of_layer = names.take_while(|name| name.starts_with(&prefix)).map(|name| &name[prefix.len()..]);
            of_layer.filter(|rest| !rest.ends_with("rotary_emb.inv_freq")).collect()
        };
        let Some((first, others)) = slice.inputs.split_first() else { return Ok(()) };
        let own = tensors(first);
        for other in others {
            let theirs = tensors(other);
            let only = |a: &[&'a str], b: &[&'a str]| a.iter().find(|name| !b.contains(name)).copied();
            let (lacking, name) = match (only(&own, &theirs), only(&theirs, &own)) {
                (Some(name), _) => (other, name),
                (None, Some(name)) => (first, name),
                (None, None) => continue,
            };
            let layer = lacking.layers.as_ref().map_or(0, |layers| layers.start) + offset;
            let reference = &self.models.0[lacking.model].reference;
            let error = Error::input(format!("{reference} has no tensor {stack}.{layer}.{name}"));
            return Err(self.at(error.hint("only models of one architecture can be merged"), lacking));
        }
        Ok(())
    }

    fn check_same_depth(&self, slice: &ResolvedSlice<'_>, lead: &NamedModel, stack: &str) -> Result<()> {
        let depth = lead.layers_of(stack);
        let models = slice.inputs.iter().map(|input| (input, &self.models.0[input.model]));
        let Some((input, other)) = models.into_iter().find(|(_, model)| model.layers_of(stack) != depth) else {
            return Ok(());
        };
        let error = Error::input(format!(
            "{} has {} layers in `{stack}`, {} has {depth}",
            other.reference,
            other.layers_of(stack),
            lead.reference
        ));
        let error = error.hint("models of different depth are merged as `slices` with a `layer_range` each");
        Err(self.at(error, input))
    }

    /// Plans one tensor. `names` are its names in the inputs.
    fn tensor(&mut self, slice: &ResolvedSlice<'_>, name: String, names: Vec<String>, t: f64) -> Result<()> {
        let mut views = Vec::with_capacity(names.len());
        for (input, name) in slice.inputs.iter().zip(&names) {
            views.push(self.source(slice, input, name)?);
        }
        let map = self.map.filter(|_| has_row_per_token(&name));
        let shape = match map {
            Some(map) => self.mapped_shape(map, slice, &name, &views)?,
            None => self.common_shape(slice, &name, &views)?,
        };
        let dtype = self.dtype(&views);
        self.planned.head |= can_be_tied(&name);
        if has_row_per_token(&name) && self.planned.vocabulary.is_none() {
            self.planned.vocabulary = shape.first().copied();
        }
        let first = views.first().ok_or_else(|| Error::input(format!("{name} has no inputs")))?;
        if !is_plain(first.dtype) {
            // Masks and tables of whole numbers: there is nothing to merge.
            let expr = first.expr.clone();
            self.planned.tensors.push(OutputTensor { name, encoding: first.dtype.into(), shape, expr });
            return Ok(());
        }
        let method = values::method(
            self.recipe,
            self.models,
            slice,
            &Target { mask_key: &self.options.mask_key, name: &name, names: &names, t },
        )?;
        self.planned.doubts.see(slice.number, &name, &names, &method);
        let mut inputs = Vec::with_capacity(views.len());
        for tensor in &views {
            let expr = tensor.expr.clone();
            inputs.push(if map.is_some() || tensor.shape() == shape { expr } else { first_rows(expr, &shape) });
        }
        if let Some(map) = map {
            let own = |model: usize| self.stored(model, &name).map(|tensor| tensor.expr.clone());
            let of_input = |input: &ResolvedInput<'_>| map.rows_of(input.model, &shape, &own);
            inputs = slice.inputs.iter().map(of_input).collect();
        }
        let expr = if method.copies() { inputs.remove(0) } else { Expr::Combine { method, inputs } };
        self.planned.tensors.push(OutputTensor { name, encoding: dtype.into(), shape, expr });
        Ok(())
    }

    /// The tensor `name` of an input; a tied head is the embeddings.
    fn source(&self, slice: &ResolvedSlice<'_>, input: &ResolvedInput<'_>, name: &str) -> Result<&'a NamedTensor> {
        let model = &self.models.0[input.model];
        if let Some(tensor) = self.stored(input.model, name) {
            return Ok(tensor);
        }
        let has = slice.inputs.iter().map(|other| &self.models.0[other.model]);
        let has = has.into_iter().find(|other| other.get(name).is_some());
        let error = Error::input(format!("{} has no tensor {name}", model.reference));
        let error = error.fact("which is in", has.map_or("another slice", |other| other.reference.as_str()));
        Err(self.at(error.hint("only models of one architecture can be merged"), input))
    }

    /// The tensor `name` of a model; a tied head is the embeddings.
    fn stored(&self, model: usize, name: &str) -> Option<&'a NamedTensor> {
        let model = self.models.0.get(model)?;
        let tied =
            || TIED_HEADS.iter().filter(|(head, _)| *head == name).find_map(|(_, embeddings)| model.get(embeddings));
        model.get(name).or_else(|| tied().filter(|_| model.ties_head() != Some(false)))
    }

    /// The recipe's type, or the one that holds all inputs.
    fn dtype(&self, views: &[&NamedTensor]) -> Dtype {
        let set = self.recipe.out_dtype.or(self.recipe.dtype);
        let mut dtypes = views.iter().map(|view| view.dtype);
        let first = dtypes.next().unwrap_or(Dtype::F32);
        set.unwrap_or_else(|| if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 })
    }

    pub fn at(&self, error: Error, input: &ResolvedInput<'_>) -> Error {
        match input.entry {
            Some(entry) => error.at(self.recipe.snippet(&entry.model.span, "")),
            None => error,
        }
    }
}

/// 0 in the first of `layers`, 1 in the last; 1 where there is one only, as in mergekit.
fn position(layer: usize, layers: usize) -> f64 {
    if layers > 1 { layer as f64 / (layers - 1) as f64 } else { 1.0 }
}

/// The first rows of an expression, as many as `shape` has.
fn first_rows(expr: Expr, shape: &[usize]) -> Expr {
    let rows = shape.first().copied().unwrap_or(0);
    Expr::RowMap { input: Box::new(expr), map: (0..rows).map(Some).collect(), shape: shape.to_vec() }
}
