//! Who is merged with whom: the inputs of a slice in the order of the method, the base first where the method has one.

use std::ops::Range;

use super::DenseModels;
use crate::{
    error::{Error, Result},
    ops::Base,
    recipe::{
        DenseRecipe, Located,
        dense::{Input, Parameters, Slice},
    },
};

/// A slice whose base, if the method has one, is its first input.
pub struct ResolvedSlice<'a> {
    /// What is merged.
    pub inputs: Vec<ResolvedInput<'a>>,
    /// Whether the first input is a base.
    pub base: bool,
    /// Parameters of the slice.
    pub parameters: &'a Parameters,
    /// Its number in the recipe.
    pub number: usize,
}

/// An input of a slice.
pub struct ResolvedInput<'a> {
    /// Index of the model.
    pub model: usize,
    /// Its layers; `None` for all.
    pub layers: Option<Range<usize>>,
    /// Its entry in the recipe; `None` of a base that joins by itself.
    pub entry: Option<&'a Input>,
}

impl<'a> ResolvedSlice<'a> {
    /// All slices of a recipe.
    pub fn all(recipe: &'a DenseRecipe, models: &DenseModels) -> Result<Vec<Self>> {
        recipe.slices.iter().enumerate().map(|slice| Self::new(recipe, slice, models)).collect()
    }

    fn new(recipe: &'a DenseRecipe, (number, slice): (usize, &'a Slice), models: &DenseModels) -> Result<Self> {
        let mut inputs = Vec::new();
        for entry in &slice.inputs {
            let model = models.find(&entry.model)?;
            if let Some(layers) = &entry.layers {
                check_layers(recipe, models, model, layers)?;
            }
            let layers = entry.layers.as_ref().map(|layers| layers.value.clone());
            inputs.push(ResolvedInput { model, layers, entry: Some(entry) });
        }
        let base = match recipe.merge_method.base {
            Base::Unused => None,
            Base::Optional | Base::Required => slice.base_model.as_ref().or(recipe.base_model.as_ref()),
        };
        if let Some(base) = base {
            let model = models.find(base)?;
            let joined = match inputs.iter().position(|input| input.model == model) {
                Some(index) => inputs.remove(index),
                None => {
                    let layers = inputs.first().and_then(|input| input.layers.clone());
                    if let Some(value) = &layers {
                        let located = Located { value: value.clone(), span: base.span.clone() };
                        check_layers(recipe, models, model, &located)?;
                    }
                    ResolvedInput { model, layers, entry: None }
                }
            };
            inputs.insert(0, joined);
        }
        Ok(Self { inputs, base: base.is_some(), parameters: &slice.parameters, number })
    }

    /// How many layers it gives the output; 0 of whole models.
    pub fn layers(&self) -> usize {
        self.inputs.first().and_then(|input| input.layers.as_ref()).map_or(0, ExactSizeIterator::len)
    }
}

fn check_layers(
    recipe: &DenseRecipe,
    models: &DenseModels,
    model: usize,
    layers: &Located<Range<usize>>,
) -> Result<()> {
    let model = &models.0[model];
    let there = model.main_stack().map_or(0, |stack| model.layers_of(stack));
    if layers.end <= there {
        return Ok(());
    }
    let message = format!("{} has {there} layers, the slice ends before layer {}", model.reference, layers.end);
    Err(Error::input(message).at(recipe.snippet(&layers.span, "")).hint(if layers.start < there {
        format!("`layer_range: [{}, {there}]` goes to its last layer", layers.start)
    } else {
        format!("`layer_range: [0, {there}]` are all of its layers")
    }))
}
