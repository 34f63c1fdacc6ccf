//! A case of `cases.json` as a method.

use moerge_core::ops::{
    ArceeFusion, Breadcrumbs, Dare, Della, Karcher, Linear, Method, ModelStock, MultiSlerp, NearSwap, NuSlerp,
    Passthrough, Ram, RamPlusTl, Sce, Slerp, TaskArithmetic, Ties,
};
use serde_json::Value;

/// The name of the tensor that is made.
const NAME: &str = "w";

/// The method `name` for `models` inputs, of which the first is a base if `base`. What `parameters` leaves out has the
/// default that the method documents.
pub fn method(name: &str, models: usize, base: bool, parameters: &Value) -> Method {
    let number = |key: &str, default: f64| parameters.get(key).map_or(default, |value| value.as_f64().unwrap());
    let flag = |key: &str, default: bool| parameters.get(key).map_or(default, |value| value.as_bool().unwrap());
    let others = models - usize::from(base);
    let numbers = |key: &str, default: f64| -> Vec<f64> {
        let list = |value: &Value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        parameters.get(key).map_or_else(|| vec![default; others], list)
    };
    let sum = |normalize: bool| TaskArithmetic {
        weights: numbers("weight", f64::NAN),
        lambda: number("lambda", 1.0),
        normalize: flag("normalize", normalize),
    };
    let breadcrumbs = || Breadcrumbs {
        sum: sum(false),
        densities: numbers("density", 1.0),
        gammas: numbers("gamma", 0.01),
        rescale: flag("rescale", false),
    };
    let dare = || Dare {
        sum: sum(false),
        densities: numbers("density", 1.0),
        rescale: flag("rescale", true),
        name: NAME.into(),
    };
    let della = |normalize: bool| Della {
        sum: sum(normalize),
        densities: numbers("density", 1.0),
        epsilons: numbers("epsilon", 0.15),
        rescale: flag("rescale", true),
        name: NAME.into(),
    };
    match name {
        "linear" => Method::Linear(Linear { weights: numbers("weight", f64::NAN), normalize: flag("normalize", true) }),
        "slerp" => Method::Slerp(Slerp { t: number("t", f64::NAN) }),
        "nuslerp" => Method::NuSlerp(NuSlerp {
            weights: numbers("weight", f64::NAN).try_into().unwrap(),
            flatten: flag("nuslerp_flatten", true),
            row_wise: flag("nuslerp_row_wise", false),
            base,
        }),
        "multislerp" => Method::MultiSlerp(MultiSlerp {
            weights: numbers("weight", f64::NAN),
            normalize_weights: flag("normalize_weights", true),
            eps: number("eps", 1e-8),
            base,
        }),
        "karcher" => Method::Karcher(Karcher { max_iter: number("max_iter", 10.0) as u64, tol: number("tol", 1e-5) }),
        "task_arithmetic" => Method::TaskArithmetic(sum(false)),
        "ties" => {
            Method::Ties(Ties { sum: sum(true), densities: numbers("density", 1.0), rescale: flag("rescale", false) })
        }
        "dare_linear" => Method::DareLinear(dare()),
        "dare_ties" => Method::DareTies(dare()),
        "breadcrumbs" => Method::Breadcrumbs(breadcrumbs()),
        "breadcrumbs_ties" => Method::BreadcrumbsTies(breadcrumbs()),
        "della" => Method::Della(della(true)),
        "della_linear" => Method::DellaLinear(della(false)),
        "sce" => Method::Sce(Sce { select_topk: number("select_topk", 1.0) }),
        "ram" => Method::Ram(Ram { epsilon: number("epsilon", 1e-5) }),
        "ramplus_tl" => Method::RamPlusTl(RamPlusTl {
            epsilon: number("epsilon", 1e-5),
            r: number("r", 0.1),
            alpha: number("alpha", 0.2),
        }),
        "model_stock" => Method::ModelStock(ModelStock { filter_wise: flag("filter_wise", false) }),
        "nearswap" => Method::NearSwap(NearSwap { t: number("t", f64::NAN) }),
        "arcee_fusion" => Method::ArceeFusion(ArceeFusion),
        "passthrough" => Method::Passthrough(Passthrough { scale: numbers("scale", 1.0)[0] }),
        _ => panic!("no method {name}"),
    }
}
