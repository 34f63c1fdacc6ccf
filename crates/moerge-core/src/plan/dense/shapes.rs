//! Whether tensors that are merged fit each other, and the shape of what comes of them.

use super::{VocabularyMap, inputs::ResolvedSlice, tensors::Planner};
use crate::{
    error::{Cause, Error, Result},
    model::{named_tensor::NamedTensor, token_tensors::has_row_per_token},
};

impl Planner<'_> {
    /// The shape of a tensor with a row for each token of the output.
    pub(super) fn mapped_shape(
        &self,
        map: &VocabularyMap,
        slice: &ResolvedSlice<'_>,
        name: &str,
        views: &[&NamedTensor],
    ) -> Result<Vec<usize>> {
        let width = |tensor: &&NamedTensor| tensor.shape().get(1..).unwrap_or_default().to_vec();
        let first = views.first().map(width).unwrap_or_default();
        match views.iter().position(|tensor| width(tensor) != first) {
            None => Ok([&[map.rows], first.as_slice()].concat()),
            // The error about the widths.
            Some(_) => self.common_shape(slice, name, views),
        }
    }

    /// The shape of all views, where embeddings may be cut to the shortest.
    pub(super) fn common_shape(
        &self,
        slice: &ResolvedSlice<'_>,
        name: &str,
        views: &[&NamedTensor],
    ) -> Result<Vec<usize>> {
        let first = views.first().map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
        let Some(other) = views.iter().position(|tensor| tensor.shape() != first) else { return Ok(first) };
        let (input, shape) = (&slice.inputs[other], views[other].shape());
        let names = |index: usize| self.models.0[slice.inputs[index].model].reference.as_str();
        let facts = |error: Error| error.fact(names(0), format!("{first:?}")).fact(names(other), format!("{shape:?}"));
        let of_tokens = has_row_per_token(name) && views.iter().all(|v| v.shape().get(1..) == first.get(1..));
        if !of_tokens {
            let error = facts(Error::input(format!("{name} has another shape in {}", names(other))));
            return Err(self.at(error.hint("only models of one size can be merged"), input));
        }
        if self.options.truncate_embeddings {
            let rows = views.iter().filter_map(|tensor| tensor.shape().first()).min().copied().unwrap_or(0);
            return Ok([&[rows], first.get(1..).unwrap_or_default()].concat());
        }
        let error = Error::input(format!("{name}: the models have vocabularies of different sizes"));
        let error = facts(error).cause(Cause::VocabulariesDiffer);
        Err(self.at(error.hint("rows at the end may be padding or tokens that one of the models added"), input))
    }
}
