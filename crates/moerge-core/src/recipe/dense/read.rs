//! From the tree of a dense recipe to its values. Parsing continues after an error, so one run reports all.

use std::{ops::Range, sync::Arc};

use super::{
    Condition, DenseRecipe, Input, Parameters, Setting, Slice,
    keys::{self, OF_PART, OF_RECIPE},
    tokenizer,
};
use crate::{
    error::Result,
    ops::{Base, Domain, MethodSpec, ParameterSpec, Scope, Sort},
    recipe::{
        Located,
        dtype::dtype,
        fields::{Field, Fields},
        model_ref_field::read_model_ref,
        source::Source,
        yaml::{Kind, Node},
    },
    suggest::{did_you_mean, quoted, shorten},
};

/// Most inputs of a slice, and most slices: more are a mistake.
const MAX_PARTS: usize = 4096;

/// Whether a recipe is one for a dense merge rather than for an MoE.
pub fn is_dense(root: &Node) -> bool {
    let Kind::Map(entries) = &root.kind else { return false };
    let has = |key: &str| entries.iter().any(|entry| entry.key.value == key);
    !has("experts") && ["merge_method", "slices", "models", "modules"].into_iter().any(has)
}

/// Reads a recipe; faults are noted in `source`. `None` where it has no method.
pub fn read(source: &Source, root: &Node) -> Result<Option<DenseRecipe>> {
    let fields = Fields::open_with(source, root, "the recipe", &keys::RECIPE, OF_RECIPE)?;
    let method = fields.required("merge_method", "add `merge_method: linear`, or another method");
    let method = source.keep(method.and_then(|field| read_method(source, field)));
    let base_model = fields.read("base_model", |field| read_model_ref(field, source));
    let slices = read_parts(source, &fields, method.as_ref());
    let parameters = read_parameters(source, &fields, method.as_ref());
    let tokenizer = tokenizer::read(source, &fields);
    let chat_template =
        fields.read("chat_template", |field| Ok(Located { value: field.text()?.text.clone(), span: field.span() }));
    let dtypes = ["dtype", "out_dtype"].map(|key| fields.read(key, dtype).flatten());
    let random_seed = fields.read("random_seed", |field| field.whole_number());
    let Some(merge_method) = method else { return Ok(None) };
    let recipe = DenseRecipe {
        name: source.name.to_owned(),
        text: Arc::clone(source.text),
        merge_method,
        base_model,
        slices,
        parameters,
        dtype: dtypes[0],
        out_dtype: dtypes[1],
        tokenizer,
        chat_template: chat_template.filter(|template| !template.trim().is_empty()),
        random_seed,
        warnings: Vec::new(),
    };
    check_base(source, &recipe);
    Ok(Some(recipe))
}

pub fn read_method(source: &Source, field: Field) -> Result<Located<&'static MethodSpec>> {
    let written = field.text()?.text.trim();
    if let Some(spec) = MethodSpec::named(written) {
        return Ok(Located { value: spec, span: field.span() });
    }
    let names: Vec<&str> = MethodSpec::ALL.iter().map(|spec| spec.name).collect();
    let near = did_you_mean(written, names.iter().copied());
    let label = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
    let message = format!("no merge method is called \"{}\"", shorten(written));
    Err(source.error(message, field.span(), label).hint(format!("the methods are {}", quoted(&names))))
}

/// `models:` as one slice of whole models, or `slices:`.
fn read_parts(source: &Source, fields: &Fields, method: Option<&Located<&'static MethodSpec>>) -> Vec<Slice> {
    let given: Vec<(&str, Field)> =
        ["models", "slices", "modules"].into_iter().filter_map(|key| Some((key, fields.get(key)?))).collect();
    match given.as_slice() {
        [] => source.fault(|| {
            let at = method.map_or(0..0, |method| method.span.clone());
            source.error("the recipe names no models", at, "").hint("add a list of `models`, or of `slices`")
        }),
        [(_, first), (other, second), ..] => source.fault(|| {
            let label = format!("beside the one in line {}", source.line(first.span().start));
            source
                .error(format!("`{other}` is one list of models too many"), second.span(), label)
                .hint("a recipe has `models`, or `slices`")
        }),
        _ => {}
    }
    let (mut slices, mut models) = (Vec::new(), Vec::new());
    for (key, field) in given {
        match key {
            "modules" => source.fault(|| {
                field.error("`modules` is not supported").hint("write `models`: the tensors are merged by their names")
            }),
            "models" => {
                let list = source.keep(nonempty(field)).unwrap_or_default();
                models = list.iter().filter_map(|node| source.keep(read_model(source, node, method))).collect();
            }
            _ => {
                let list = source.keep(nonempty(field)).unwrap_or_default();
                slices.extend(list.iter().filter_map(|node| source.keep(read_slice(source, node, method))));
            }
        }
    }
    if !models.is_empty() {
        slices.push(Slice { inputs: models, base_model: None, parameters: Parameters::new() });
    }
    slices
}

fn nonempty<'a>(field: Field<'a>) -> Result<&'a [Node]> {
    let list = field.list()?;
    match list.len() {
        0 => Err(field.error("the list is empty")),
        n if n > MAX_PARTS => Err(field.error(&format!("the list has {n} entries, expected at most {MAX_PARTS}"))),
        _ => Ok(list),
    }
}

fn read_model(source: &Source, node: &Node, method: Option<&Located<&'static MethodSpec>>) -> Result<Input> {
    if let Kind::Scalar(scalar) = &node.kind
        && !node.is_null()
    {
        let message = "a model of the list is a single value, expected keys with values";
        let hint = format!("write `- model: {}`", shorten(&scalar.text));
        return Err(source.error(message, node.span.clone(), "").hint(hint));
    }
    let fields = Fields::open_with(source, node, "the model", &keys::MODEL, OF_PART)?;
    let model = read_model_ref(fields.required("model", "add `model: org/name`")?, source)?;
    Ok(Input { model, layers: None, parameters: of_model(source, read_parameters(source, &fields, method), method) })
}

fn read_slice(source: &Source, node: &Node, method: Option<&Located<&'static MethodSpec>>) -> Result<Slice> {
    let fields = Fields::open_with(source, node, "the slice", &keys::SLICE, OF_PART)?;
    let sources = nonempty(fields.required("sources", "add a list of `sources`")?)?;
    let inputs: Vec<Input> = sources.iter().filter_map(|node| source.keep(read_source(source, node, method))).collect();
    let length = |input: &Input| input.layers.as_ref().map_or(0, |layers| layers.len());
    if let [first, others @ ..] = inputs.as_slice()
        && let Some(other) = others.iter().find(|other| length(other) != length(first))
    {
        let span = other.layers.as_ref().map_or(0..0, |layers| layers.span.clone());
        let message = format!("a slice merges {} layers with {}", length(first), length(other));
        source.fault(|| source.error(message, span, "").hint("all sources of a slice have the same number of layers"));
    }
    Ok(Slice {
        inputs,
        base_model: fields.read("base_model", |field| read_model_ref(field, source)),
        parameters: read_parameters(source, &fields, method),
    })
}

fn read_source(source: &Source, node: &Node, method: Option<&Located<&'static MethodSpec>>) -> Result<Input> {
    let fields = Fields::open_with(source, node, "the source", &keys::SOURCE, OF_PART)?;
    let model = read_model_ref(fields.required("model", "add `model: org/name`")?, source)?;
    let layers = read_layers(fields.required("layer_range", "add `layer_range: [0, 16]`")?)?;
    let parameters = of_model(source, read_parameters(source, &fields, method), method);
    Ok(Input { model, layers: Some(layers), parameters })
}

/// `[0, 16]`: layers 0 to 15.
fn read_layers(field: Field) -> Result<Located<Range<usize>>> {
    let expected = "two layers such as `[0, 16]`, the second not included";
    let number = |node: &Node| match &node.kind {
        Kind::Scalar(scalar) => scalar.text.trim().parse::<usize>().ok(),
        _ => None,
    };
    let numbers: Option<Vec<usize>> = field.list()?.iter().map(number).collect();
    match numbers.as_deref() {
        Some(&[first, end]) if first < end => Ok(Located { value: first..end, span: field.span() }),
        Some(&[first, end]) if first > end => {
            Err(field.error(&format!("`layer_range` begins at {first}, after its end")).hint(format!(
                "write `[{end}, {first}]`: layers cannot be stacked in reverse order, but each can be a slice"
            )))
        }
        Some(&[first, end]) => Err(field
            .error(&format!("`layer_range` from {first} to {end} has no layer in it"))
            .hint("the second number is not included: `[0, 1]` is layer 0")),
        _ => Err(field.wrong(expected)),
    }
}

/// The parameters of one level. Those of other methods have no effect, and are said.
pub fn read_parameters(source: &Source, fields: &Fields, method: Option<&Located<&'static MethodSpec>>) -> Parameters {
    let read = |field: Field| {
        let Kind::Map(entries) = &field.node().kind else {
            return Err(field.wrong("keys with values").hint("write `weight: 0.5` on a line of its own"));
        };
        let mut parameters = Parameters::new();
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let (name, span) = (entry.key.value.as_str(), &entry.key.span);
            let Some(spec) = method.and_then(|method| method.parameter(name)) else {
                foreign_parameter(source, name, span, method);
                continue;
            };
            let setting = read_setting(source, Field::of(source, entry), spec);
            if let Some(value) = source.keep(setting) {
                let located = Located { value, span: span.clone() };
                if parameters.insert(name.to_owned(), located).is_some() {
                    source.fault(|| {
                        source.error(format!("`{name}` is given twice"), span.clone(), "").hint("keep one of the two")
                    });
                }
            }
        }
        Ok(parameters)
    };
    fields.read("parameters", read).unwrap_or_default()
}

/// The parameters under a model that count there; of the others is said that they do not.
fn of_model(source: &Source, mut parameters: Parameters, method: Option<&Located<&'static MethodSpec>>) -> Parameters {
    parameters.retain(|name, value| {
        let counts = method.and_then(|m| m.parameter(name)).is_none_or(|spec| spec.scope == Scope::Model);
        if !counts {
            let message =
                format!("`{name}` has no effect under a model: it applies to the whole merge, write it at the top");
            source.warn(message, &value.span);
        }
        counts
    });
    parameters
}

fn foreign_parameter(source: &Source, name: &str, span: &Range<usize>, method: Option<&Located<&'static MethodSpec>>) {
    let Some(method) = method else { return };
    let known_elsewhere = || MethodSpec::ALL.iter().any(|spec| spec.parameter(name).is_some());
    if name == "int8_mask" {
        return;
    }
    if known_elsewhere() {
        source.warn(format!("`{name}` has no effect in `{}`", method.name), span);
        return;
    }
    source.fault(|| {
        let names: Vec<&str> = method.parameters.iter().map(|parameter| parameter.name).collect();
        let near = did_you_mean(name, names.iter().copied());
        let label = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
        let error =
            source.error(format!("`{}` has no parameter `{}`", method.name, shorten(name)), span.clone(), label);
        match names.as_slice() {
            [] => error.hint(format!("`{}` has no parameters", method.name)),
            names => error.hint(format!("its parameters are {}", quoted(names))),
        }
    });
}

/// A value, a gradient, `{filter, value}`, or a list of these.
fn read_setting(source: &Source, field: Field, spec: &ParameterSpec) -> Result<Setting> {
    let everywhere = |values| vec![Condition { filter: None, values, span: field.span() }];
    let conditions = match &field.node().kind {
        Kind::Scalar(_) => everywhere(vec![read_value(source, field.node(), spec)?]),
        Kind::Map(_) => vec![read_condition(source, field.node(), spec)?],
        Kind::List(items) if items.is_empty() => return Err(field.error("the list is empty")),
        Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Scalar(_))) => {
            everywhere(items.iter().map(|item| read_value(source, item, spec)).collect::<Result<_>>()?)
        }
        Kind::List(items) => items.iter().map(|item| read_condition(source, item, spec)).collect::<Result<_>>()?,
    };
    let unfiltered = conditions.iter().position(|condition| condition.filter.is_none());
    for behind in conditions.iter().skip(unfiltered.map_or(usize::MAX, |at| at + 1)) {
        let message = format!("this value of `{}` has no effect: the one before it is for all tensors", spec.name);
        source.warn(message, &behind.span);
    }
    Ok(Setting(conditions))
}

fn read_condition(source: &Source, node: &Node, spec: &ParameterSpec) -> Result<Condition> {
    let fields = Fields::open(source, node, "the value", &["filter", "value"])?;
    let filter = fields.get("filter").map(|field| field.text().map(|scalar| scalar.text.clone())).transpose()?;
    let value = fields.required("value", "add `value: 0.5`")?;
    let values = match &value.node().kind {
        Kind::List(items) if !items.is_empty() => {
            items.iter().map(|item| read_value(source, item, spec)).collect::<Result<_>>()?
        }
        _ => vec![read_value(source, value.node(), spec)?],
    };
    let span = fields.get("filter").map_or(value.span(), |filter| filter.span());
    Ok(Condition { filter: filter.filter(|filter| filter != "*"), values, span })
}

fn read_value(source: &Source, node: &Node, spec: &ParameterSpec) -> Result<f64> {
    let name = spec.name;
    let wrong = |expected: &str| {
        let found = match &node.kind {
            Kind::Scalar(scalar) => format!("\"{}\"", shorten(&scalar.text)),
            _ => node.describe().to_owned(),
        };
        source.error(format!("`{name}` is {found}, expected {expected}"), node.span.clone(), "")
    };
    let Kind::Scalar(scalar) = &node.kind else {
        return Err(wrong("a number, a list of numbers, or `filter` and `value`"));
    };
    let text = scalar.text.trim();
    let flag = match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(1.0),
        "false" | "no" | "off" => Some(0.0),
        _ => None,
    };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    if spec.sort == Sort::Flag {
        return flag.or(number.filter(|number| [0.0, 1.0].contains(number))).ok_or_else(|| wrong("true or false"));
    }
    let number = number.or(flag).ok_or_else(|| wrong("a finite number"))?;
    if let Some(expected) = spec.domain.refuses(number) {
        return Err(wrong(expected));
    }
    if spec.domain == Domain::Interpolation && !(0.0..=1.0).contains(&number) {
        let message = format!("`{name}` is {number}: outside of 0 to 1 the result moves away from both models");
        source.warn(message, &node.span);
    }
    Ok(number)
}

/// A method that works on differences from a base needs one in every slice.
fn check_base(source: &Source, recipe: &DenseRecipe) {
    let method = &recipe.merge_method;
    let needed = method.base == Base::Required && recipe.base_model.is_none();
    if let Some(lacking) = recipe.slices.iter().find(|slice| needed && slice.base_model.is_none()) {
        let some = recipe.slices.iter().any(|slice| slice.base_model.is_some());
        let first = lacking.inputs.first().filter(|_| some);
        source.fault(|| match first {
            Some(first) => source
                .error(
                    format!("`{}` needs a `base_model` in this slice, too", method.name),
                    first.model.span.clone(),
                    "",
                )
                .hint("add it to the slice, or write it at the top for all slices"),
            None => source
                .error(format!("`{}` needs a `base_model`", method.name), method.span.clone(), "")
                .hint("add `base_model: org/name`, the model that the others were trained from"),
        });
    }
    tokenizer::check_models(source, recipe);
}
