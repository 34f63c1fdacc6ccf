//! Methods that decide element by element.

use super::*;

#[test]
fn nearswap_takes_what_is_near() {
    check(NearSwap { t: 0.4 }, 2, |v, i| {
        let (b, x) = (at(v, 0, i), at(v, 1, i));
        let weight = (0.4 / (x - b).abs().max(1e-6)).clamp(0.0, 1.0);
        weight * x + (1.0 - weight) * b
    });
}

#[test]
fn passthrough_scales() {
    check(Passthrough { scale: -0.5 }, 1, |v, i| -0.5 * at(v, 0, i));
}

#[test]
fn ram_adds_what_one_model_changed_and_averages_what_several_did() {
    let epsilon = f64::from(0.4f32);
    let shared = |d: &[Vec<f64>], i: usize| d.iter().filter(|d| d[i].abs() > epsilon).count();
    let merged = |v: &[Vec<f64>], factors: [f64; 3]| -> Vec<f64> {
        let d = differences(v);
        let part = |i: usize, n: usize| match (d[n][i].abs() > epsilon, shared(&d, i)) {
            (false, _) => 0.0,
            (true, 1) => factors[n] * d[n][i],
            (true, count) => d[n][i] / count as f64,
        };
        (0..v[0].len()).map(|i| v[0][i] + part(i, 0) + part(i, 1) + part(i, 2)).collect()
    };
    check_all(Ram { epsilon: 0.4 }, 4, |v| merged(v, [1.0; 3]));
    check_all(RamPlusTl { epsilon: 0.4, r: 0.3, alpha: 6.0 }, 4, |v| {
        let d = differences(v);
        let count = |n: usize, wanted: &dyn Fn(usize) -> bool| {
            let counts = |i: &usize| d[n][*i].abs() > epsilon && wanted(shared(&d, *i));
            (0..v[0].len()).filter(counts).count() as f64
        };
        let factor = |n| 1.0 + 0.3 * (count(n, &|c| c > 1) / count(n, &|c| c == 1)).min(6.0);
        merged(v, [0, 1, 2].map(factor))
    });
}

#[test]
fn arcee_fusion_takes_outliers_of_importance() {
    check_all(ArceeFusion, 2, |v| {
        let softmax = |row: &[f64]| -> Vec<f64> {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            row.iter().map(|x| x.exp() / sum + 1e-8).collect()
        };
        let mut importance = Vec::new();
        for (b, x) in v[0].chunks(COLUMNS).zip(v[1].chunks(COLUMNS)) {
            let divergence: f64 = softmax(x).iter().zip(softmax(b)).map(|(p, q)| p * (p / q).ln()).sum();
            importance.extend(x.iter().zip(b).map(|(x, b)| (x - b).abs() * divergence));
        }
        let mut sorted = importance.clone();
        sorted.sort_by(f64::total_cmp);
        let quartile = |n: usize| sorted[n * (sorted.len() - 1) / 4];
        let threshold = quartile(2) + 1.5 * (quartile(3) - quartile(1));
        let taken = importance.iter().filter(|x| **x >= threshold).count();
        assert!(taken > 5 && taken < sorted.len() / 10, "{taken}");
        (0..v[0].len()).map(|i| v[usize::from(importance[i] >= threshold)][i]).collect()
    });
}
