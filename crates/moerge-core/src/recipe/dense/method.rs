//! The merge methods as recipes name them: which parameters each has, for what, and with which defaults. From the values
//! for one tensor a row of the table makes the [`Method`].

use crate::ops::{
    ArceeFusion, Breadcrumbs, Dare, Della, Karcher, Linear, Method, ModelStock, MultiSlerp, NearSwap, NuSlerp,
    Passthrough, Ram, RamPlusTl, Sce, Slerp, TaskArithmetic, Ties,
};

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
    make: fn(&Values) -> Method,
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
    const fn within(self, domain: Domain) -> Self {
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
    fn number(&self, index: usize) -> f64 {
        self.values.get(index).and_then(|values| values.first()).copied().unwrap_or_default()
    }

    fn flag(&self, index: usize) -> bool {
        self.number(index) != 0.0
    }

    fn of_models(&self, index: usize) -> Vec<f64> {
        self.values.get(index).cloned().unwrap_or_default()
    }

    /// Parameters 0, 1 and 2: `weight`, `lambda`, `normalize`.
    fn sum(&self) -> TaskArithmetic {
        TaskArithmetic { weights: self.of_models(0), lambda: self.number(1), normalize: self.flag(2) }
    }
}

const fn number(name: &'static str, default: Option<f64>) -> ParameterSpec {
    ParameterSpec { name, scope: Scope::Tensor, sort: Sort::Number, domain: Domain::Any, default }
}

const fn of_model(name: &'static str, default: Option<f64>) -> ParameterSpec {
    ParameterSpec { name, scope: Scope::Model, sort: Sort::Number, domain: Domain::Any, default }
}

const fn flag(name: &'static str, default: bool) -> ParameterSpec {
    let default = if default { 1.0 } else { 0.0 };
    ParameterSpec { name, scope: Scope::Tensor, sort: Sort::Flag, domain: Domain::Any, default: Some(default) }
}

const WEIGHT: ParameterSpec = of_model("weight", None);
const LAMBDA: ParameterSpec = number("lambda", Some(1.0));
const DENSITY: ParameterSpec = of_model("density", Some(1.0)).within(Domain::Fraction);

impl MethodSpec {
    /// All methods, with mergekit's names, parameters and defaults.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "linear",
            title: "a weighted mean ([model soups](https://arxiv.org/abs/2203.05482))",
            base: Base::Unused,
            parameters: &[WEIGHT, flag("normalize", true)],
            make: |v| Method::Linear(Linear { weights: v.of_models(0), normalize: v.flag(1) }),
        },
        Self {
            name: "slerp",
            title: "spherical interpolation (SLERP)",
            base: Base::Required,
            parameters: &[number("t", None).within(Domain::Interpolation)],
            make: |v| Method::Slerp(Slerp { t: v.number(0) }),
        },
        Self {
            name: "nuslerp",
            title: "spherical interpolation of two models by weights (NuSLERP)",
            base: Base::Optional,
            parameters: &[WEIGHT, flag("nuslerp_flatten", true), flag("nuslerp_row_wise", false)],
            make: |v| {
                let weights = v.of_models(0);
                let weight = |index: usize| weights.get(index).copied().unwrap_or_default();
                Method::NuSlerp(NuSlerp {
                    weights: [weight(0), weight(1)],
                    flatten: v.flag(1),
                    row_wise: v.flag(2),
                    base: v.base,
                })
            },
        },
        Self {
            name: "multislerp",
            title: "a weighted mean on the sphere (Multi-SLERP)",
            base: Base::Optional,
            parameters: &[
                WEIGHT,
                flag("normalize_weights", true),
                number("eps", Some(1e-8)).within(Domain::NotNegative),
            ],
            make: |v| {
                Method::MultiSlerp(MultiSlerp {
                    weights: v.of_models(0),
                    normalize_weights: v.flag(1),
                    eps: v.number(2),
                    base: v.base,
                })
            },
        },
        Self {
            name: "karcher",
            title: "the [Karcher mean](https://arxiv.org/abs/2603.04972) on the sphere",
            base: Base::Unused,
            parameters: &[
                number("max_iter", Some(10.0)).within(Domain::NotNegative),
                number("tol", Some(1e-5)).within(Domain::NotNegative),
            ],
            make: |v| Method::Karcher(Karcher { max_iter: v.number(0).max(0.0) as u64, tol: v.number(1) }),
        },
        Self {
            name: "task_arithmetic",
            title: "[task arithmetic](https://arxiv.org/abs/2212.04089): weighted differences from the base",
            base: Base::Required,
            parameters: &[WEIGHT, LAMBDA, flag("normalize", false)],
            make: |v| Method::TaskArithmetic(v.sum()),
        },
        Self {
            name: "ties",
            title: "[TIES](https://arxiv.org/abs/2306.01708): the largest differences from the base, where their signs agree",
            base: Base::Required,
            parameters: &[WEIGHT, LAMBDA, flag("normalize", true), DENSITY, flag("rescale", false)],
            make: |v| Method::Ties(Ties { sum: v.sum(), densities: v.of_models(3), rescale: v.flag(4) }),
        },
        Self {
            name: "dare_linear",
            title: "[DARE](https://arxiv.org/abs/2311.03099): random parts of the differences from the base",
            base: Base::Required,
            parameters: &[WEIGHT, LAMBDA, flag("normalize", false), DENSITY, flag("rescale", true)],
            make: |v| Method::DareLinear(dare(v)),
        },
        Self {
            name: "dare_ties",
            title: "[DARE](https://arxiv.org/abs/2311.03099) with the sign election of TIES",
            base: Base::Required,
            parameters: &[WEIGHT, LAMBDA, flag("normalize", false), DENSITY, flag("rescale", true)],
            make: |v| Method::DareTies(dare(v)),
        },
        Self {
            name: "breadcrumbs",
            title: "[model breadcrumbs](https://arxiv.org/abs/2312.06795): differences without outliers and small elements",
            base: Base::Required,
            parameters: BREADCRUMBS,
            make: |v| Method::Breadcrumbs(breadcrumbs(v)),
        },
        Self {
            name: "breadcrumbs_ties",
            title: "[model breadcrumbs](https://arxiv.org/abs/2312.06795) with the sign election of TIES",
            base: Base::Required,
            parameters: BREADCRUMBS,
            make: |v| Method::BreadcrumbsTies(breadcrumbs(v)),
        },
        Self {
            name: "della",
            title: "[DELLA](https://arxiv.org/abs/2406.11617): random parts of the differences by magnitude, where signs agree",
            base: Base::Required,
            parameters: &[
                WEIGHT,
                LAMBDA,
                flag("normalize", true),
                DENSITY,
                of_model("epsilon", Some(0.15)).within(Domain::Fraction),
                flag("rescale", true),
            ],
            make: |v| Method::Della(della(v)),
        },
        Self {
            name: "della_linear",
            title: "[DELLA](https://arxiv.org/abs/2406.11617) without sign election",
            base: Base::Required,
            parameters: &[
                WEIGHT,
                LAMBDA,
                flag("normalize", false),
                DENSITY,
                of_model("epsilon", Some(0.15)).within(Domain::Fraction),
                flag("rescale", true),
            ],
            make: |v| Method::DellaLinear(della(v)),
        },
        Self {
            name: "sce",
            title: "[SCE](https://arxiv.org/abs/2408.07990): the differences of largest variance, weighted by their squares",
            base: Base::Required,
            parameters: &[number("select_topk", Some(1.0)).within(Domain::Fraction)],
            make: |v| Method::Sce(Sce { select_topk: v.number(0) }),
        },
        Self {
            name: "ram",
            title: "[RAM](https://arxiv.org/abs/2601.13572): differences of one model as they are, shared ones averaged",
            base: Base::Required,
            parameters: &[number("epsilon", Some(1e-5)).within(Domain::NotNegative)],
            make: |v| Method::Ram(Ram { epsilon: v.number(0) }),
        },
        Self {
            name: "ramplus_tl",
            title: "[RAM+](https://arxiv.org/abs/2601.13572): RAM with larger differences of one model",
            base: Base::Required,
            parameters: &[
                number("epsilon", Some(1e-5)).within(Domain::NotNegative),
                number("r", Some(0.1)),
                number("alpha", Some(0.2)).within(Domain::NotNegative),
            ],
            make: |v| Method::RamPlusTl(RamPlusTl { epsilon: v.number(0), r: v.number(1), alpha: v.number(2) }),
        },
        Self {
            name: "model_stock",
            title: "[Model Stock](https://arxiv.org/abs/2403.19522): between the base and the mean, by the models' angles",
            base: Base::Required,
            parameters: &[flag("filter_wise", false)],
            make: |v| Method::ModelStock(ModelStock { filter_wise: v.flag(0) }),
        },
        Self {
            name: "nearswap",
            title: "NearSwap: the base, moved to the model where they are near each other",
            base: Base::Required,
            parameters: &[number("t", None)],
            make: |v| Method::NearSwap(NearSwap { t: v.number(0) }),
        },
        Self {
            name: "arcee_fusion",
            title: "Arcee Fusion: the base, with the model's elements where its changes are outliers",
            base: Base::Required,
            parameters: &[],
            make: |_| Method::ArceeFusion(ArceeFusion),
        },
        Self {
            name: "passthrough",
            title: "layers as they are, stacked",
            base: Base::Unused,
            parameters: &[of_model("scale", Some(1.0))],
            make: |v| Method::Passthrough(Passthrough { scale: v.number(0) }),
        },
    ];
}

const BREADCRUMBS: &[ParameterSpec] = &[
    WEIGHT,
    LAMBDA,
    flag("normalize", false),
    DENSITY,
    of_model("gamma", Some(0.01)).within(Domain::Fraction),
    flag("rescale", false),
];

fn dare(v: &Values) -> Dare {
    Dare { sum: v.sum(), densities: v.of_models(3), rescale: v.flag(4), name: v.tensor.clone() }
}

fn breadcrumbs(v: &Values) -> Breadcrumbs {
    Breadcrumbs { sum: v.sum(), densities: v.of_models(3), gammas: v.of_models(4), rescale: v.flag(5) }
}

fn della(v: &Values) -> Della {
    Della {
        sum: v.sum(),
        densities: v.of_models(3),
        epsilons: v.of_models(4),
        rescale: v.flag(5),
        name: v.tensor.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_makes_the_method_of_its_name() {
        assert_eq!(MethodSpec::ALL.len(), 20);
        for spec in MethodSpec::ALL {
            let values = spec.parameters.iter().map(|p| vec![p.default.unwrap_or(0.5); 2]).collect();
            let method = spec.method(&Values { tensor: "w".into(), base: spec.base == Base::Required, values });
            assert_eq!(method.name(), spec.name);
        }
    }
}
