//! How far two models are apart: every tensor, by module and by layer.
//!
//! Names, shapes and types that differ are part of the answer, not errors. Memory is a few MiB per thread, whatever the
//! size of the models.

mod distance;
mod heat_map;
mod measure;
mod module;

use std::collections::BTreeMap;

use moerge_checkpoint::Dtype;
use moerge_core::{
    error::{Error, Result},
    model::{
        named_model::{LayerPlace, NamedModel},
        named_tensor::NamedTensor,
    },
    progress::Progress,
};
use serde::Serialize;

pub use distance::Distance;
use distance::Sums;
pub use heat_map::heat_map;
pub(crate) use measure::read_rows;
use measure::{Pair, measure};
use module::module;

/// What two models differ in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffReport {
    /// The model that is compared with.
    pub a: String,
    /// The model that is compared.
    pub b: String,
    /// All tensors that both have.
    pub total: Distance,
    /// By module, over all layers.
    pub modules: Vec<ModuleDiff>,
    /// By layer, every stack of layers in turn.
    pub layers: Vec<LayerDiff>,
    /// Every tensor that both have, by name.
    pub tensors: Vec<TensorDiff>,
    /// Tensors that only `a` has.
    pub only_in_a: Vec<Lone>,
    /// Tensors that only `b` has.
    pub only_in_b: Vec<Lone>,
}

/// One tensor of both models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorDiff {
    /// Its name.
    pub name: String,
    /// What it is for: `attention q`.
    pub module: String,
    /// The number of its layer.
    pub layer: Option<usize>,
    /// As `a` stores it.
    pub a: Stored,
    /// As `b` stores it.
    pub b: Stored,
    /// `None` where the shapes differ, or the types cannot be compared.
    pub distance: Option<Distance>,
}

/// A tensor as a model stores it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored {
    /// Its type.
    #[serde(serialize_with = "by_name")]
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A tensor that only one of the models has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lone {
    /// Its name.
    pub name: String,
    /// As it is stored.
    #[serde(flatten)]
    pub stored: Stored,
}

/// All tensors of a module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleDiff {
    /// `attention q`, `norms`, or the last parts of the tensors' names.
    pub module: String,
    /// How many there are.
    pub tensors: usize,
    /// All of them as one vector.
    pub distance: Distance,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerDiff {
    /// The names of its tensors begin with this: `model.layers`.
    pub stack: String,
    /// Its number.
    pub layer: usize,
    /// All of its tensors as one vector.
    pub distance: Distance,
    /// Each module of it.
    pub modules: BTreeMap<String, Distance>,
}

impl DiffReport {
    /// Whether the models have the same tensors with the same values; types may differ.
    pub fn all_equal(&self) -> bool {
        let equal = |t: &TensorDiff| t.distance.as_ref().is_some_and(|d| d.equal == 1.0);
        self.only_in_a.is_empty() && self.only_in_b.is_empty() && self.tensors.iter().all(equal)
    }
}

/// Compares `b` with `a`.
///
/// # Errors
/// No tensor of the two has the same name, a source cannot be read, or the user stops the run.
pub fn diff(a: &NamedModel, b: &NamedModel, threads: usize, progress: &dyn Progress) -> Result<DiffReport> {
    let both: Vec<(&String, &NamedTensor, &NamedTensor)> =
        a.tensors.iter().filter_map(|(name, tensor)| Some((name, tensor, b.get(name)?))).collect();
    if both.is_empty() {
        let first = |model: &NamedModel| model.tensors.keys().next().map_or("none", String::as_str).to_owned();
        return Err(Error::input("the models have no tensor of the same name")
            .fact(&a.reference, first(a))
            .fact(&b.reference, first(b)));
    }
    let pairs: Vec<Option<Pair>> = both.iter().map(|(_, left, right)| Pair::new(left, right)).collect();
    let comparable: Vec<bool> = pairs.iter().map(Option::is_some).collect();
    let pairs: Vec<Pair> = pairs.into_iter().flatten().collect();
    let mut measured = measure(&pairs, threads, progress)?.into_iter().zip(&pairs);
    let mut groups = Groups::default();
    let mut tensors = Vec::new();
    for ((name, left, right), comparable) in both.into_iter().zip(comparable) {
        let place = LayerPlace::of(name);
        let module = module(name);
        let found = if comparable { measured.next() } else { None };
        if let Some((sums, _)) = &found {
            groups.add(&module, place, sums);
        }
        let distance = found.map(|(sums, pair)| {
            let distance = sums.distance();
            let relative = if pair.has_values() || sums.all_equal() { distance.relative } else { None };
            Distance { relative, ..distance }
        });
        let layer = place.map(|place| place.layer);
        tensors.push(TensorDiff { name: name.clone(), module, layer, a: stored(left), b: stored(right), distance });
    }
    let lone = |model: &NamedModel, other: &NamedModel| {
        let lone = model.tensors.iter().filter(|(name, _)| other.get(name).is_none());
        lone.map(|(name, tensor)| Lone { name: name.clone(), stored: stored(tensor) }).collect()
    };
    Ok(DiffReport {
        a: a.reference.clone(),
        b: b.reference.clone(),
        total: groups.total.distance(),
        modules: groups.modules(),
        layers: groups.layers(),
        tensors,
        only_in_a: lone(a, b),
        only_in_b: lone(b, a),
    })
}

/// The tensors of either model that `wanted` and that differ, by module: how many, and how far apart those are that both
/// have in one shape.
pub(crate) fn compare_others(
    a: &NamedModel,
    b: &NamedModel,
    wanted: impl Fn(&str, &NamedTensor) -> bool,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<(String, usize, Option<Distance>)>> {
    let mut found: BTreeMap<String, (usize, Option<Sums>)> = BTreeMap::new();
    let mut pairs: Vec<(String, Pair)> = Vec::new();
    let only_in_b = b.tensors.iter().filter(|(name, _)| a.get(name).is_none());
    for (name, tensor) in a.tensors.iter().chain(only_in_b) {
        let both = a.get(name).zip(b.get(name));
        match both.and_then(|(a, b)| Pair::new(b, a)) {
            Some(pair) if wanted(name, tensor) => pairs.push((module(name), pair)),
            Some(_) => {}
            None => found.entry(module(name)).or_default().0 += 1,
        }
    }
    let (modules, pairs): (Vec<String>, Vec<Pair>) = pairs.into_iter().unzip();
    for (module, sums) in modules.into_iter().zip(measure(&pairs, threads, progress)?) {
        if !sums.all_equal() {
            let (tensors, of_module) = found.entry(module).or_default();
            *tensors += 1;
            of_module.get_or_insert_default().add(&sums);
        }
    }
    let mut found: Vec<_> =
        found.into_iter().map(|(module, (n, sums))| (module, n, sums.map(|sums| sums.distance()))).collect();
    found.sort_by(|a, b| module::order(&a.0).cmp(&module::order(&b.0)));
    Ok(found)
}

/// Sums over groups of tensors.
#[derive(Default)]
struct Groups {
    total: Sums,
    modules: BTreeMap<String, (usize, Sums)>,
    layers: BTreeMap<(String, usize), (Sums, BTreeMap<String, Sums>)>,
}

impl Groups {
    fn add(&mut self, module: &str, place: Option<LayerPlace<'_>>, sums: &Sums) {
        self.total.add(sums);
        let (tensors, of_module) = self.modules.entry(module.to_owned()).or_default();
        *tensors += 1;
        of_module.add(sums);
        if let Some(place) = place {
            let (layer, modules) = self.layers.entry((place.stack.to_owned(), place.layer)).or_default();
            layer.add(sums);
            modules.entry(module.to_owned()).or_default().add(sums);
        }
    }

    fn modules(&self) -> Vec<ModuleDiff> {
        let diff = |(module, (tensors, sums)): (&String, &(usize, Sums))| ModuleDiff {
            module: module.clone(),
            tensors: *tensors,
            distance: sums.distance(),
        };
        let mut modules: Vec<ModuleDiff> = self.modules.iter().map(diff).collect();
        modules.sort_by(|a, b| module::order(&a.module).cmp(&module::order(&b.module)));
        modules
    }

    fn layers(&self) -> Vec<LayerDiff> {
        let mut layers = Vec::with_capacity(self.layers.len());
        for ((stack, layer), (sums, modules)) in &self.layers {
            layers.push(LayerDiff {
                stack: stack.clone(),
                layer: *layer,
                distance: sums.distance(),
                modules: modules.iter().map(|(module, sums)| (module.clone(), sums.distance())).collect(),
            });
        }
        layers
    }
}

fn stored(tensor: &NamedTensor) -> Stored {
    Stored { dtype: tensor.dtype, shape: tensor.expr.shape().to_vec() }
}

fn by_name<S: serde::Serializer>(dtype: &Dtype, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}
