//! Which documents of a file the output needs, and in which order: each comes after those that it names as models.

use crate::{
    error::Result,
    recipe::{EarlierDocument, Located, ModelRef, source::Source},
    suggest::shorten,
};

/// A document whose models are looked at.
struct Visit<'a> {
    /// What others call it; the output may have no name.
    name: Option<&'a str>,
    models: Vec<&'a Located<ModelRef>>,
}

/// The documents of `all` that the output needs, in the order in which they are merged. `output` are the models of the
/// output, and `name` is its name. Documents that nothing needs are warned of.
///
/// # Errors
/// A document names itself, directly or by way of others, or a revision of a document.
pub(super) fn needed(
    source: &Source,
    all: Vec<EarlierDocument>,
    name: Option<&str>,
    output: Vec<&Located<ModelRef>>,
) -> Result<Vec<EarlierDocument>> {
    let mut order = Vec::new();
    let mut path = Vec::new();
    visit(source, &all, &Visit { name, models: output }, name, &mut path, &mut order)?;
    for (index, unused) in all.iter().enumerate().filter(|(index, _)| !order.contains(index)) {
        let (name, number) = (shorten(&unused.name), index + 1);
        let message = format!("document {number} (`{name}`) is not merged: the output does not use it");
        source.warn(message, &unused.recipe.merge_method.span);
    }
    let mut all: Vec<Option<EarlierDocument>> = all.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| all.get_mut(index)?.take()).collect())
}

/// Adds the documents that `visit` needs to `order`. `path` are the documents that led here.
fn visit<'a>(
    source: &Source,
    all: &'a [EarlierDocument],
    visit_now: &Visit<'a>,
    output: Option<&'a str>,
    path: &mut Vec<&'a str>,
    order: &mut Vec<usize>,
) -> Result<()> {
    path.extend(visit_now.name);
    for reference in &visit_now.models {
        let model = reference.model.as_str();
        let document = all.iter().position(|document| document.name == model);
        if document.is_none() && output != Some(model) {
            continue;
        }
        let wrong = |message: String| source.error(message, reference.span.clone(), "");
        if let Some(revision) = &reference.revision {
            let message =
                format!("`{}` is a document of this file, which has no revision `{revision}`", shorten(model));
            return Err(wrong(message).hint("leave out what follows the `@`"));
        }
        if let Some(begin) = path.iter().position(|name| *name == model) {
            let circle: Vec<String> = path[begin..].iter().chain([&model]).map(|name| shorten(name)).collect();
            return Err(match circle.as_slice() {
                [_, _] => wrong(format!("document `{}` uses itself as a model", shorten(model))),
                circle => wrong(format!("documents use each other in a circle: {}", circle.join(" -> "))),
            });
        }
        match document {
            Some(index) if !order.contains(&index) => {
                let models = all[index].recipe.models().collect();
                visit(source, all, &Visit { name: Some(model), models }, output, path, order)?;
                order.push(index);
            }
            Some(_) => {}
            None => return Err(wrong(format!("`{}` is the output, which no other document can use", shorten(model)))),
        }
    }
    path.truncate(path.len() - usize::from(visit_now.name.is_some()));
    Ok(())
}
