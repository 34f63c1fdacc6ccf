//! The values of a method's parameters for one tensor.

use std::ops::Range;

use super::{DenseModels, inputs::ResolvedSlice};
use crate::{
    error::{Cause, Error, Result},
    ops::{Method, ParameterSpec, Scope, Sort, Values},
    recipe::{DenseRecipe, dense::Parameters},
};

/// The tensor that parameters are asked for.
pub struct Target<'a> {
    /// What the keys of random masks begin with.
    pub mask_key: &'a str,
    /// Its name in the output.
    pub name: &'a str,
    /// Its name in each input.
    pub names: &'a [String],
    /// Its place between the first layer of its slice, 0, and the last, 1; 0 outside of layers.
    pub t: f64,
}

/// The method for one tensor.
///
/// # Errors
/// A parameter is missing, or out of its range, or the method takes another number of inputs.
pub fn method(
    recipe: &DenseRecipe,
    models: &DenseModels,
    slice: &ResolvedSlice<'_>,
    target: &Target<'_>,
) -> Result<Method> {
    let spec = recipe.merge_method.value;
    let values = spec.parameters.iter().map(|parameter| values_of(recipe, models, slice, target, parameter));
    let values = Values {
        tensor: format!("{}{}", target.mask_key, target.name),
        base: slice.base,
        values: values.collect::<Result<_>>()?,
    };
    let method = spec.method(&values);
    method.check(slice.inputs.len()).map_err(|error| {
        let of_values = error.parts().cause != Cause::NumberOfModels;
        let span = of_values.then(|| given_at(recipe, slice, target)).flatten();
        let error = error.at(recipe.snippet(span.unwrap_or(&recipe.merge_method.span), ""));
        error.fact("tensor", target.name).fact("inputs", input_names(models, slice))
    })?;
    Ok(method)
}

/// Parameters whose values may not fit each other although each is in its range.
const JOINTLY_CHECKED: [&str; 2] = ["epsilon", "weight"];

/// Where the recipe gives one of these for the tensor.
fn given_at<'a>(recipe: &'a DenseRecipe, slice: &ResolvedSlice<'a>, target: &Target<'_>) -> Option<&'a Range<usize>> {
    let of_inputs = slice.inputs.iter().filter_map(|input| input.entry.map(|entry| &entry.parameters));
    let levels: Vec<&Parameters> = of_inputs.chain([slice.parameters, &recipe.parameters]).collect();
    JOINTLY_CHECKED.iter().filter(|name| recipe.merge_method.parameter(name).is_some()).find_map(|name| {
        let setting = levels.iter().find_map(|level| level.get(*name))?;
        Some(&setting.0.get(setting.deciding(target.name)?)?.span)
    })
}

fn values_of(
    recipe: &DenseRecipe,
    models: &DenseModels,
    slice: &ResolvedSlice<'_>,
    target: &Target<'_>,
    parameter: &ParameterSpec,
) -> Result<Vec<f64>> {
    let shared = [slice.parameters, &recipe.parameters];
    if parameter.scope == Scope::Tensor {
        let value = lookup(&shared, parameter, target.name, target.t);
        return value.map(|value| vec![value]).ok_or_else(|| missing(recipe, parameter, target.name));
    }
    let inputs = slice.inputs.iter().zip(target.names).skip(usize::from(slice.base));
    let value = |(input, name): (&super::inputs::ResolvedInput<'_>, &String)| {
        let own = input.entry.map(|entry| &entry.parameters);
        let levels: Vec<&Parameters> = own.into_iter().chain(shared).collect();
        lookup(&levels, parameter, name, target.t).ok_or_else(|| {
            let error = missing(recipe, parameter, name);
            let error = error.fact("model", models.0[input.model].reference.clone());
            match input.entry {
                Some(entry) => error.at(recipe.snippet(&entry.model.span, "")),
                None => error,
            }
        })
    };
    inputs.map(value).collect()
}

/// The value of the first level that has one for the tensor, or the default.
fn lookup(levels: &[&Parameters], parameter: &ParameterSpec, name: &str, t: f64) -> Option<f64> {
    let discrete = parameter.sort == Sort::Flag;
    let at = |level: &&Parameters| level.get(parameter.name)?.at(name, t, discrete);
    levels.iter().find_map(at).or(parameter.default)
}

fn missing(recipe: &DenseRecipe, parameter: &ParameterSpec, tensor: &str) -> Error {
    let name = parameter.name;
    let error = Error::input(format!("`{name}` is missing"))
        .at(recipe.snippet(&recipe.merge_method.span, format!("`{}` needs it", recipe.merge_method.name)))
        .fact("tensor", tensor);
    error.hint(match parameter.scope {
        Scope::Model => format!("write `parameters: {{{name}: 0.5}}` for each model, or at the top for all of them"),
        Scope::Tensor => format!("write `parameters: {{{name}: 0.5}}` at the top"),
    })
}

fn input_names(models: &DenseModels, slice: &ResolvedSlice<'_>) -> String {
    let names: Vec<&str> = slice.inputs.iter().map(|input| models.0[input.model].reference.as_str()).collect();
    names.join(", ")
}
