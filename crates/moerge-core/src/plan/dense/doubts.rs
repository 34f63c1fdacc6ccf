//! Parameters that are valid but probably unintended: filters that pick no tensor, and weights that cancel out where
//! the result is divided by their sum.

use std::{collections::BTreeSet, ops::Range};

use crate::{
    ops::Method,
    recipe::{
        DenseRecipe,
        dense::{Parameters, Setting},
    },
    suggest::shorten,
};

/// A sum of weights below this fraction of their absolute values is almost nothing.
const NEARLY_ZERO: f64 = 0.01;
/// Names that are compared with filters; a hostile recipe has millions of filters.
const MAX_COMPARISONS: usize = 20_000_000;

/// What was seen while tensors were planned.
#[derive(Debug, Default)]
pub struct Doubts {
    /// The names that filters are compared with, per slice.
    names: Vec<BTreeSet<String>>,
    /// The first tensor whose weights cancel, and the weights.
    cancelling: Option<(String, Vec<f64>)>,
}

impl Doubts {
    /// Nothing is seen yet of a recipe of so many slices.
    pub fn new(slices: usize) -> Self {
        Self { names: vec![BTreeSet::new(); slices], cancelling: None }
    }

    /// Takes note of the method for the tensor `name`, whose inputs are called `names`.
    pub fn see(&mut self, slice: usize, name: &str, names: &[String], method: &Method) {
        if let Some(seen) = self.names.get_mut(slice) {
            seen.insert(name.to_owned());
            seen.extend(names.iter().filter(|input| *input != name).cloned());
        }
        if self.cancelling.is_none()
            && let Some(weights) = method.divided_by_sum()
        {
            let (sum, size) = (weights.iter().sum::<f64>(), weights.iter().map(|w| w.abs()).sum::<f64>());
            if size > 0.0 && sum.abs() < NEARLY_ZERO * size {
                self.cancelling = Some((name.to_owned(), weights.to_vec()));
            }
        }
    }

    /// What the user should know.
    pub fn warnings(&self, recipe: &DenseRecipe) -> Vec<String> {
        let mut warnings: Vec<String> = self.unused_filters(recipe);
        if let Some((tensor, weights)) = &self.cancelling {
            let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
            warnings.push(format!(
                "`{}` divides by the sum of the weights, and those of {tensor} nearly cancel out ({}): what is left \
                 of the models grows out of proportion; `normalize: false` does not divide",
                recipe.merge_method.name,
                weights.join(", ")
            ));
        }
        warnings
    }

    fn unused_filters(&self, recipe: &DenseRecipe) -> Vec<String> {
        let mut budget = MAX_COMPARISONS;
        let mut warnings = Vec::new();
        let mut look = |parameters: &Parameters, names: &[&BTreeSet<String>]| {
            for (parameter, setting) in parameters {
                for (number, condition) in setting.0.iter().enumerate() {
                    let Some(filter) = &condition.filter else { continue };
                    let all: usize = names.iter().map(|names| names.len()).sum();
                    let Some(rest) = budget.checked_sub(all * (number + 1)) else { return };
                    budget = rest;
                    if let Some(why) = unused(setting, number, names) {
                        let line = line(recipe, &condition.span);
                        let filter = shorten(filter);
                        warnings.push(format!("line {line}: `filter: {filter}` of `{parameter}` has no effect: {why}"));
                    }
                }
            }
        };
        let all: Vec<&BTreeSet<String>> = self.names.iter().collect();
        look(&recipe.parameters, &all);
        for (slice, names) in recipe.slices.iter().zip(&self.names) {
            look(&slice.parameters, &[names]);
            slice.inputs.iter().for_each(|input| look(&input.parameters, &[names]));
        }
        warnings
    }
}

/// Why the value of this number decides over no tensor; `None` if it does over one.
fn unused(setting: &Setting, number: usize, names: &[&BTreeSet<String>]) -> Option<&'static str> {
    let names = || names.iter().copied().flatten();
    if names().any(|name| setting.deciding(name) == Some(number)) {
        return None;
    }
    let holds = names().any(|name| setting.0[number].holds(name));
    Some(if holds { "earlier filters match the same tensors" } else { "no tensor has it in its name" })
}

fn line(recipe: &DenseRecipe, span: &Range<usize>) -> usize {
    recipe.text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
}
