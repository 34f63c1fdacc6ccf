//! Methods with random masks: statistics of what they keep.

use moerge_core::ops::Expr;
use serde_json::{Value, json};

use super::{
    case,
    tensors::{evaluate, here, write},
};

const SHAPE: [usize; 2] = [400, 250];

/// The numbers of `make.py`.
fn hashed(count: u64, model: u64) -> Vec<f32> {
    let number = |n: u64| (n + model * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (0..count).map(|n| (number(n) as f64 / f64::from(1 << 23) - 1.0) as f32).collect()
}

fn within_three_errors(what: &str, ours: f64, theirs: f64, error: f64) {
    // Both are random.
    assert!((ours - theirs).abs() <= 3.0 * 2f64.sqrt() * error, "{what}: {ours}, mergekit {theirs}, error {error}");
}

#[test]
fn masks_keep_as_much_as_mergekits() {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(here().join("masks.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let d = hashed(100_000, 1);
    let inputs = write(dir.path(), &SHAPE, &[vec![0.0; d.len()], d.clone()]);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let rescale = case["rescale"].as_bool().unwrap();
        let parameters = json!({
            "weight": [1.0], "density": [number("density")], "epsilon": [number("epsilon")], "rescale": rescale,
        });
        let method = case::method(case["method"].as_str().unwrap(), 2, true, &parameters);
        let out = evaluate(&Expr::Combine { method, inputs: inputs.clone() }, 64, 2);
        let n = out.len() as f64;
        let share = out.iter().filter(|x| **x != 0.0).count() as f64 / n;
        let l1: f64 = out.iter().map(|x| f64::from(x.abs())).sum();
        let density = number("density");
        within_three_errors(
            &format!("share of {case}"),
            share,
            number("share"),
            (density * (1.0 - density) / n).sqrt(),
        );
        if rescale {
            let before: f64 = d.iter().map(|x| f64::from(x.abs())).sum();
            assert!((l1 / before - 1.0).abs() < 1e-6 && (l1 / number("l1") - 1.0).abs() < 1e-5, "{case}: {l1}");
        } else {
            // The variance of a sum of d with probability p is sum p (1 - p) d^2.
            let squares: f64 = d.iter().map(|x| f64::from(*x).powi(2)).sum();
            within_three_errors(&format!("L1 of {case}"), l1, number("l1"), (squares * 0.25).sqrt());
        }
    }
}

#[test]
fn della_keeps_large_elements_of_a_row_or_vector_more_often() {
    let dir = tempfile::tempdir().unwrap();
    let d = hashed(100_000, 1);
    for shape in [&SHAPE[..], &[100_000]] {
        let inputs = write(dir.path(), shape, &[vec![0.0; d.len()], d.clone()]);
        let parameters = json!({ "weight": [1.0], "density": [0.5], "epsilon": [0.4], "rescale": false });
        let out =
            evaluate(&Expr::Combine { method: case::method("della_linear", 2, true, &parameters), inputs }, 99, 1);
        // The magnitudes are uniform, so the probability at magnitude m is 0.1 + 0.8 m, in every row alike.
        for tenth in 0..10 {
            let here = |x: &f32| (x.abs() * 10.0) as usize == tenth;
            let kept = d.iter().zip(&out).filter(|(d, out)| here(d) && **out != 0.0).count() as f64;
            let all = d.iter().filter(|d| here(d)).count() as f64;
            let probability = 0.1 + 0.08 * (tenth as f64 + 0.5);
            let error = (probability * (1.0 - probability) / all).sqrt();
            assert!((kept / all - probability).abs() < 3.5 * error, "{shape:?} {tenth}: {} {probability}", kept / all);
        }
    }
}

#[test]
fn masks_differ_by_model_seed_and_name_alone() {
    let dir = tempfile::tempdir().unwrap();
    let d = hashed(100_000, 1);
    let inputs = write(dir.path(), &SHAPE, &[vec![0.0; d.len()], d.clone(), d.clone()]);
    for name in ["dare_linear", "della_linear"] {
        let keeps = |weights: [f64; 2]| {
            let parameters = json!({ "weight": weights, "density": [0.5, 0.5], "rescale": false });
            let method = case::method(name, 3, true, &parameters);
            let out = evaluate(&Expr::Combine { method, inputs: inputs.clone() }, 64, 1);
            out.into_iter().map(|x| x != 0.0).collect::<Vec<_>>()
        };
        let (first, second) = (keeps([1.0, 0.0]), keeps([0.0, 1.0]));
        assert_eq!(first, keeps([2.0, 0.0]), "{name}: weights change no mask");
        let both = first.iter().zip(&second).filter(|(a, b)| **a && **b).count() as f64 / first.len() as f64;
        let wanted = if name == "dare_linear" { 0.25 } else { 0.25 + 4.0 * 0.15f64.powi(2) / 12.0 };
        assert!((both - wanted).abs() < 0.006, "{name}: masks of two models are independent, {both}");
    }
}
