//! Every method with several parameters, element by element.

use std::collections::BTreeSet;

use moerge_core::ops::Expr;
use serde_json::Value;

use super::{
    case,
    tensors::{evaluate, here, open, view},
};

/// Differences from mergekit are at most this, relative to the largest element: mergekit computes in f32.
const TOLERANCE: f64 = 1e-5;

#[test]
fn every_method_gives_what_mergekit_gives() {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(here().join("cases.json")).unwrap()).unwrap();
    let (inputs, expected) = (open(&here().join("inputs")), open(&here().join("expected")));
    let mut wrong = Vec::new();
    let mut methods = BTreeSet::new();
    for case in &cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let count = case["count"].as_u64().unwrap() as usize;
        let method = case::method(text("method"), count, case["base"].as_bool().unwrap(), &case["parameters"]);
        assert_eq!(method.name(), text("method"));
        methods.insert(method.name());
        let tensors = (0..count).map(|n| view(&inputs, &format!("{}.{n}", text("set")))).collect();
        let expected = evaluate(&view(&expected, text("name")), usize::MAX / 2, 1);
        let merged = Expr::Combine { method, inputs: tensors };
        let ours = evaluate(&merged, usize::MAX / 2, 1);
        assert_eq!(ours, evaluate(&merged, 3, 2), "{case}: rows do not depend on how they are cut");
        let largest = expected.iter().fold(1.0, |max: f64, x| max.max(f64::from(x.abs())));
        let off = ours.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()) / largest);
        let off = off.fold(0.0, |max: f64, x| if x.is_nan() { f64::INFINITY } else { max.max(x) });
        if ours.len() != expected.len() || off > TOLERANCE {
            wrong.push(format!("off by {off:.1e}: {case}"));
        }
    }
    assert_eq!(methods.len(), 20);
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
