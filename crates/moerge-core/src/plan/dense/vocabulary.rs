//! Merging models whose tokens differ: the output's tokens, and where each model's row for a token comes from.
//!
//! A token that a model has keeps that model's row. One that it lacks gets the row of the model that alone has it, else
//! the base's, else the mean of those that have it; a recipe may say otherwise for single tokens.

use std::collections::HashMap;

use super::DenseModels;
use crate::{
    error::{Error, Result},
    model::{named_model::NamedModel, token_tensors::has_row_per_token, tokenizer_file::TokenizerFile},
    ops::{Expr, Linear},
    recipe::{
        DenseRecipe, Located,
        dense::{TokenSource, Tokenizer, TokenizerSource},
    },
};

/// The output's tokens against those of every model.
#[derive(Debug)]
pub struct VocabularyMap {
    /// The output's tokenizer.
    pub tokenizer: TokenizerFile,
    /// Rows of the output's embeddings, padding included.
    pub rows: usize,
    /// For every id of the output where each model's row comes from: `[id][model]`.
    origins: Vec<Vec<Origin>>,
}

/// Where a row comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Origin {
    Zeros,
    /// Row of a model.
    Row(usize, usize),
    /// The mean of rows of models.
    Mean(Vec<(usize, usize)>),
}

/// Rows that come from one model, each counting for one part of `count`.
struct MappedRows {
    model: usize,
    count: usize,
    map: Vec<Option<usize>>,
}

impl VocabularyMap {
    /// Maps the vocabularies of `models`, whose tokenizers are `files`, as the recipe's `tokenizer` says. `base` is the
    /// base or the first model, whose tokenizer the output has. Warnings are added to `warnings`.
    ///
    /// # Errors
    /// A token's source does not have it, or a tokenizer cannot be cut to its embeddings.
    pub fn new(
        recipe: &DenseRecipe,
        tokenizer: &Located<Tokenizer>,
        models: &DenseModels,
        files: &[TokenizerFile],
        base: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let rows: Vec<usize> = models.0.iter().map(|model| embedding_rows(model).unwrap_or(usize::MAX)).collect();
        for ((model, file), rows) in models.0.iter().zip(files).zip(&rows) {
            warnings.extend(file.doubts(*rows).into_iter().map(|doubt| format!("{}: {doubt}", model.reference)));
        }
        let from = match &tokenizer.source {
            TokenizerSource::Model(model) => models.find(model)?,
            TokenizerSource::Base | TokenizerSource::Union => base,
        };
        let mut output = files.get(from).ok_or_else(|| Error::input("a tokenizer is missing"))?.clone();
        if !matches!(tokenizer.source, TokenizerSource::Model(_)) {
            output.cut(rows[base])?;
        }
        if tokenizer.source == TokenizerSource::Union {
            for (file, rows) in files.iter().zip(&rows) {
                for (_, token) in file.tokens().into_iter().filter(|(id, _)| (*id as usize) < *rows) {
                    output.add(token, file.added(token));
                }
            }
        }
        tokenizer.tokens.iter().for_each(|rule| output.add(&rule.token, None));
        let own = |model: usize, token: &str| {
            let id = files[model].id(token)? as usize;
            (id < rows[model]).then_some((model, id))
        };
        let rules: HashMap<&str, _> = tokenizer.tokens.iter().map(|rule| (rule.token.as_str(), rule)).collect();
        output.check_gaps()?;
        // An id without a token keeps the row that it has.
        let unnamed = |id: usize| if id < rows[from] { Origin::Row(from, id) } else { Origin::Zeros };
        let mut origins: Vec<Vec<Origin>> = (0..output.len()).map(|id| vec![unnamed(id); models.0.len()]).collect();
        let mut unknown = Vec::new();
        for (id, token) in output.tokens() {
            let rule = rules.get(token);
            let having: Vec<(usize, usize)> = (0..models.0.len()).filter_map(|model| own(model, token)).collect();
            let default = match rule.and_then(|rule| rule.source.as_ref()) {
                Some(source) => of_rule(recipe, models, files, source, token, &having)?,
                None => match having.as_slice() {
                    [] => {
                        unknown.push(token.to_owned());
                        Origin::Zeros
                    }
                    [(model, row)] => Origin::Row(*model, *row),
                    several => match several.iter().find(|(model, _)| recipe.base_model.is_some() && *model == base) {
                        Some((model, row)) => Origin::Row(*model, *row),
                        None => Origin::Mean(several.to_vec()),
                    },
                },
            };
            let force = rule.is_some_and(|rule| rule.force);
            for (model, origin) in origins[id as usize].iter_mut().enumerate() {
                *origin = match own(model, token).filter(|_| !force) {
                    Some((model, row)) => Origin::Row(model, row),
                    None => default.clone(),
                };
            }
        }
        if let Some(first) = unknown.first() {
            let count = unknown.len();
            warnings.push(format!("{count} tokens are in no model, so their rows are zeros, such as {first:?}"));
        }
        let pad = tokenizer.pad_to_multiple_of.unwrap_or(1).max(1);
        let rows = output.len().next_multiple_of(pad);
        Ok(Self { tokenizer: output, rows, origins })
    }

    /// Whether nothing has to be moved: every model has the output's rows in their order.
    pub fn is_identity(&self, rows_of_models: &[usize]) -> bool {
        let in_place = |(id, origins): (usize, &Vec<Origin>)| {
            origins.iter().enumerate().all(|(model, origin)| *origin == Origin::Row(model, id))
        };
        rows_of_models.iter().all(|rows| *rows == self.rows) && self.origins.iter().enumerate().all(in_place)
    }

    /// The rows of model number `model` in the output's order, as a tensor of `shape`. `own` gives the tensor of a model;
    /// rows of a model without one are zeros.
    pub fn rows_of(&self, model: usize, shape: &[usize], own: &dyn Fn(usize) -> Option<Expr>) -> Expr {
        let mut shape = shape.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = self.origins.len();
        }
        let mut parts: Vec<MappedRows> = Vec::new();
        let mut add = |id: usize, (model, row): (usize, usize), count: usize| {
            let index = parts.iter().position(|part| (part.model, part.count) == (model, count)).unwrap_or_else(|| {
                parts.push(MappedRows { model, count, map: vec![None; self.origins.len()] });
                parts.len() - 1
            });
            parts[index].map[id] = Some(row);
        };
        for (id, origins) in self.origins.iter().enumerate() {
            match origins.get(model) {
                None | Some(Origin::Zeros) => {}
                Some(Origin::Row(from, row)) => add(id, (*from, *row), 1),
                Some(Origin::Mean(rows)) => rows.iter().for_each(|row| add(id, *row, rows.len())),
            }
        }
        let mut weights = Vec::new();
        let mut inputs = Vec::new();
        for MappedRows { model, count, map } in parts {
            let Some(input) = own(model) else { continue };
            inputs.push(Expr::RowMap { input: Box::new(input), map: map.into(), shape: shape.clone() });
            weights.push(1.0 / count as f64);
        }
        let mapped = match (inputs.len(), weights.first()) {
            (0, _) => Expr::Fill { value: 0.0, shape: shape.clone() },
            (1, Some(1.0)) => inputs.remove(0),
            _ => Expr::Combine { method: Linear { weights, normalize: false }.into(), inputs },
        };
        if self.rows == self.origins.len() {
            return mapped;
        }
        if let Some(rows) = shape.first_mut() {
            *rows = self.rows;
        }
        Expr::PadWithMean { input: Box::new(mapped), shape }
    }
}

/// Where the recipe says that a token's row comes from.
fn of_rule(
    recipe: &DenseRecipe,
    models: &DenseModels,
    files: &[TokenizerFile],
    source: &Located<TokenSource>,
    token: &str,
    having: &[(usize, usize)],
) -> Result<Origin> {
    let wrong = |message: String| Error::input(message).at(recipe.snippet(&source.span, ""));
    let row_of = |model: usize, id: usize| {
        let rows = embedding_rows(&models.0[model]).unwrap_or(0);
        let reference = &models.0[model].reference;
        (id < rows)
            .then_some(Origin::Row(model, id))
            .ok_or_else(|| wrong(format!("{reference} has {rows} rows of embeddings, so none for token {id}")))
    };
    match &source.value {
        TokenSource::Zeros => Ok(Origin::Zeros),
        TokenSource::Model(reference) => {
            let model = models.find(reference)?;
            let own = having.iter().find(|(having, _)| *having == model);
            own.map(|(model, row)| Origin::Row(*model, *row))
                .ok_or_else(|| wrong(format!("{reference} has no token {token:?}")))
        }
        TokenSource::Token(reference, name) => {
            let model = models.find(reference)?;
            let id = files[model].id(name).ok_or_else(|| wrong(format!("{reference} has no token {name:?}")))?;
            row_of(model, id as usize)
        }
        TokenSource::Id(reference, id) => row_of(models.find(reference)?, *id),
    }
}

/// Rows of a model's embeddings: those of its first tensor with a row for each token.
pub fn embedding_rows(model: &NamedModel) -> Option<usize> {
    let mut tensors = model.tensors.iter().map(|(name, tensor)| (name, tensor.shape()));
    let (_, shape) = tensors.find(|(name, shape)| has_row_per_token(name) && shape.len() == 2)?;
    shape.first().copied()
}
