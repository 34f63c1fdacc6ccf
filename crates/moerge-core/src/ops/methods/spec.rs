//! How recipes name a merge method: which parameters it has, for what, and with which defaults.

use super::Method;

/// What a method does with `base_model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// It is one of the models like any other, if it is among them.
    Unused,
    /// It is the first input, if there is one.
    Optional,
    /// It is the first input, and must be given.
    Required,
}

/// Whose a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One value for a tensor.
    Tensor,
    /// A value for every model but the base.
    Model,
}

/// What sort of value a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A number, which a gradient interpolates.
    Number,
    /// Yes or no.
    Flag,
}

/// Which numbers a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// All.
    Any,
    /// From 0 to 1.
    Fraction,
    /// All, but those outside of 0 to 1 lead away from the models.
    Interpolation,
    /// From 0 on.
    NotNegative,
}

impl Domain {
    /// What is expected, where it does not take `value`.
    pub fn refuses(self, value: f64) -> Option<&'static str> {
        match self {
            Self::Fraction => (!(0.0..=1.0).contains(&value)).then_some("a number from 0 to 1"),
            Self::NotNegative => (value < 0.0).then_some("0 or more"),
            Self::Any | Self::Interpolation => None,
        }
    }
}

/// A parameter of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterSpec {
    /// Its name in recipes.
    pub name: &'static str,
    /// Whether each model has its own value.
    pub scope: Scope,
    /// What sort of value it has.
    pub sort: Sort,
    /// Which numbers it takes.
    pub domain: Domain,
    /// Its value where the recipe gives none; `None` where it must.
    pub default: Option<f64>,
}

/// A method as recipes name it.
#[derive(Debug)]
pub struct MethodSpec {
    /// Its name.
    pub name: &'static str,
    /// What a person calls it, with its paper where it has one.
    pub title: &'static str,
    /// What it does with `base_model`.
    pub base: Base,
    /// Its parameters.
    pub parameters: &'static [ParameterSpec],
    pub(super) make: fn(&Values) -> Method,
}

/// The values of a method's parameters for one tensor.
#[derive(Debug, Clone)]
pub struct Values {
    /// Name of the tensor that is made.
    pub tensor: String,
    /// Whether the first input is a base.
    pub base: bool,
    /// In the order of [`MethodSpec::parameters`]: one value, or one for every model but the base.
    pub values: Vec<Vec<f64>>,
}

impl ParameterSpec {
    pub(super) const fn within(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }
}

impl MethodSpec {
    /// The method for one tensor. `values` has as many entries as the method has parameters.
    pub fn method(&self, values: &Values) -> Method {
        (self.make)(values)
    }

    /// The method of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|spec| spec.name == name)
    }

    /// The parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&'static ParameterSpec> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

impl PartialEq for MethodSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Values {
    pub(super) fn number(&self, index: usize) -> f64 {
        self.values.get(index).and_then(|values| values.first()).copied().unwrap_or_default()
    }

    pub(super) fn flag(&self, index: usize) -> bool {
        self.number(index) != 0.0
    }

    pub(super) fn of_models(&self, index: usize) -> Vec<f64> {
        self.values.get(index).cloned().unwrap_or_default()
    }
}

pub(super) const fn number(name: &'static str, default: Option<f64>) -> ParameterSpec {
    ParameterSpec { name, scope: Scope::Tensor, sort: Sort::Number, domain: Domain::Any, default }
}

pub(super) const fn of_model(name: &'static str, default: Option<f64>) -> ParameterSpec {
    ParameterSpec { name, scope: Scope::Model, sort: Sort::Number, domain: Domain::Any, default }
}

pub(super) const fn flag(name: &'static str, default: bool) -> ParameterSpec {
    let default = if default { 1.0 } else { 0.0 };
    ParameterSpec { name, scope: Scope::Tensor, sort: Sort::Flag, domain: Domain::Any, default: Some(default) }
}

pub(super) const WEIGHT: ParameterSpec = of_model("weight", None);
pub(super) const LAMBDA: ParameterSpec = number("lambda", Some(1.0));
pub(super) const DENSITY: ParameterSpec = of_model("density", Some(1.0)).within(Domain::Fraction);
