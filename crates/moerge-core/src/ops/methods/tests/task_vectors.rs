//! Methods that add up differences from a base.

use super::*;
use crate::numeric::masks::RandomNumbers;

#[test]
fn task_arithmetic_adds_differences_to_the_base() {
    let method = TaskArithmetic { weights: vec![0.6, -0.2], lambda: 0.5, normalize: false };
    check(method, 3, |v, i| {
        let base = at(v, 0, i);
        base + 0.5 * (0.6 * (at(v, 1, i) - base) - 0.2 * (at(v, 2, i) - base))
    });
    let method = TaskArithmetic { weights: vec![1.0, 3.0], lambda: 1.0, normalize: true };
    check(method, 3, |v, i| {
        let base = at(v, 0, i);
        base + ((at(v, 1, i) - base) + 3.0 * (at(v, 2, i) - base)) / 4.0
    });
}

const WEIGHTS: [f64; 3] = [0.6, -0.2, 1.5];
const DENSITIES: [f64; 3] = [0.3, 1.0, 0.62];

fn task_sum(normalize: bool) -> TaskArithmetic {
    TaskArithmetic { weights: WEIGHTS.to_vec(), lambda: 0.5, normalize }
}

/// `b + lambda sum w d`, with or without division by the weights.
fn add_up(v: &[Vec<f64>], d: &[Vec<f64>], normalize: bool) -> Vec<f64> {
    let divisor: f64 = if normalize { WEIGHTS.iter().sum() } else { 1.0 };
    let [a, b, c] = WEIGHTS.map(|w| 0.5 * w / divisor);
    sum(&[(1.0, &v[0]), (a, &d[0]), (b, &d[1]), (c, &d[2])])
}

/// The same, of those that have the elected sign.
fn elect(v: &[Vec<f64>], d: &[Vec<f64>], weights: &[f64], normalize: bool) -> Vec<f64> {
    let element = |i: usize| {
        let total: f64 = weights.iter().zip(d).map(|(w, d)| w * d[i]).sum();
        let sign = if total >= 0.0 { 1.0 } else { -1.0 };
        let agree = || weights.iter().zip(d).zip(WEIGHTS).filter(|((w, d), _)| *w * d[i] * sign > 0.0);
        let sum: f64 = agree().map(|((w, d), _)| w * d[i]).sum();
        let divisor: f64 = agree().map(|(_, weight)| weight).sum();
        v[0][i] + 0.5 * sum / if normalize && divisor != 0.0 { divisor } else { 1.0 }
    };
    (0..v[0].len()).map(element).collect()
}

/// `d` where its rank by magnitude, the largest first, is in the range.
fn between(d: &[f64], from: usize, to: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..d.len()).collect();
    order.sort_by(|a, b| d[*b].abs().total_cmp(&d[*a].abs()).then(a.cmp(b)));
    let mut kept = vec![0.0; d.len()];
    order[from..to].iter().for_each(|i| kept[*i] = d[*i]);
    kept
}

fn l1(d: &[f64]) -> f64 {
    d.iter().map(|x| x.abs()).sum()
}

/// What the weights become where what is left of differences is scaled.
fn rescaled(d: &[Vec<f64>], thin: &[Vec<f64>]) -> Vec<f64> {
    WEIGHTS.iter().zip(d.iter().zip(thin)).map(|(w, (d, thin))| w * l1(d) / l1(thin)).collect()
}

fn scaled(d: &[Vec<f64>], thin: &[Vec<f64>]) -> Vec<Vec<f64>> {
    d.iter().zip(thin).map(|(d, thin)| sum(&[(l1(d) / l1(thin), thin)])).collect()
}

#[test]
fn ties_elects_signs_among_the_largest_differences() {
    let thin = |d: &[Vec<f64>]| -> Vec<Vec<f64>> {
        d.iter().zip(DENSITIES).map(|(d, density)| between(d, 0, (density * d.len() as f64) as usize)).collect()
    };
    for (normalize, rescale) in [(true, false), (false, true)] {
        let method = Ties { sum: task_sum(normalize), densities: DENSITIES.to_vec(), rescale };
        check_all(method, 4, |v| {
            let d = differences(v);
            let thin = thin(&d);
            let weights = if rescale { rescaled(&d, &thin) } else { WEIGHTS.to_vec() };
            elect(v, &thin, &weights, normalize)
        });
    }
}

#[test]
fn breadcrumbs_drop_the_largest_and_the_smallest_differences() {
    let gammas = [0.05, 0.5, 0.6];
    let thin = |d: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let part = |(d, (density, gamma)): (&Vec<f64>, (f64, f64))| {
            let n = d.len();
            if density == 1.0 {
                return d.clone();
            }
            let kept = (density * n as f64) as usize;
            let outliers = ((gamma * n as f64) as usize).min(n - kept);
            between(d, outliers, outliers + kept)
        };
        d.iter().zip(DENSITIES.into_iter().zip(gammas)).map(part).collect()
    };
    let method = |normalize, rescale, elect_signs| Breadcrumbs {
        sum: task_sum(normalize),
        densities: DENSITIES.to_vec(),
        gammas: gammas.to_vec(),
        rescale,
        elect_signs,
    };
    check_all(method(false, false, false), 4, |v| add_up(v, &thin(&differences(v)), false));
    check_all(method(true, true, false), 4, |v| {
        let d = differences(v);
        add_up(v, &scaled(&d, &thin(&d)), true)
    });
    check_all(method(true, false, true), 4, |v| elect(v, &thin(&differences(v)), &WEIGHTS, true));
}

/// Elements whose random number is below their probability.
fn masked(d: &[f64], input: u64, probability: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut numbers = vec![0; d.len()];
    RandomNumbers::new(SEED, "w", input).fill(0, &mut numbers);
    let stays = |(i, number): (usize, &u32)| f64::from(*number) / 4_294_967_296.0 < probability(i);
    d.iter().zip(numbers.iter().enumerate().map(stays)).map(|(d, stays)| if stays { *d } else { 0.0 }).collect()
}

#[test]
fn dare_keeps_a_random_part_of_the_differences() {
    let thin =
        |d: &[Vec<f64>]| -> Vec<Vec<f64>> { (0..3).map(|n| masked(&d[n], n as u64, |_| DENSITIES[n])).collect() };
    let method = |normalize, rescale, elect_signs| Dare {
        sum: task_sum(normalize),
        densities: DENSITIES.to_vec(),
        rescale,
        elect_signs,
        name: "w".into(),
    };
    check_all(method(false, false, false), 4, |v| add_up(v, &thin(&differences(v)), false));
    check_all(method(true, true, false), 4, |v| {
        let d = differences(v);
        add_up(v, &scaled(&d, &thin(&d)), true)
    });
    check_all(method(false, true, true), 4, |v| {
        let d = differences(v);
        let thin = thin(&d);
        elect(v, &thin, &rescaled(&d, &thin), false)
    });
}

#[test]
fn della_keeps_large_differences_with_a_larger_probability() {
    let epsilons = [0.2, 0.15, 0.1];
    let thin = |d: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let part = |n: usize| {
            if DENSITIES[n] == 1.0 {
                return d[n].clone();
            }
            let probability = |i: usize| {
                let row = &d[n][i / COLUMNS * COLUMNS..][..COLUMNS];
                let smaller = row.iter().filter(|x| x.abs() < d[n][i].abs()).count();
                let rank = smaller as f64 / (COLUMNS - 1) as f64;
                DENSITIES[n] - epsilons[n] + 2.0 * epsilons[n] * rank
            };
            masked(&d[n], n as u64, probability)
        };
        (0..3).map(part).collect()
    };
    let method = |normalize, rescale, elect_signs| Della {
        sum: task_sum(normalize),
        densities: DENSITIES.to_vec(),
        epsilons: epsilons.to_vec(),
        rescale,
        elect_signs,
        name: "w".into(),
    };
    check_all(method(false, false, false), 4, |v| add_up(v, &thin(&differences(v)), false));
    check_all(method(true, true, true), 4, |v| {
        let d = differences(v);
        let thin = thin(&d);
        elect(v, &thin, &rescaled(&d, &thin), true)
    });
}

#[test]
fn sce_selects_by_variance_weights_by_squares_and_erases_the_minority() {
    for select_topk in [0.3, 1.0] {
        check_all(Sce { select_topk }, 4, |v| {
            let mut d = differences(v);
            let variance = |i: usize| {
                let mean = (d[0][i] + d[1][i] + d[2][i]) / 3.0;
                d.iter().map(|d| (d[i] - mean).powi(2)).sum::<f64>() / 3.0
            };
            let variances: Vec<f64> = (0..v[0].len()).map(variance).collect();
            let kept = between(&variances, 0, (select_topk * v[0].len() as f64) as usize);
            for d in &mut d {
                d.iter_mut().zip(&kept).filter(|(_, kept)| **kept == 0.0).for_each(|(d, _)| *d = 0.0);
            }
            let total: f64 = d.iter().map(|d| dot(d, d)).sum();
            let weights: Vec<f64> = d.iter().map(|d| dot(d, d) / total).collect();
            let element = |i: usize| {
                let sign = if d.iter().map(|d| d[i]).sum::<f64>() >= 0.0 { 1.0 } else { -1.0 };
                let agree = || d.iter().zip(&weights).filter(|(d, _)| d[i] * sign > 0.0);
                let sum: f64 = agree().map(|(d, w)| w * d[i]).sum();
                v[0][i] + sum / agree().map(|(_, w)| w).sum::<f64>().max(1e-6)
            };
            (0..v[0].len()).map(element).collect()
        });
    }
}

#[test]
fn after_an_election_tiny_weights_divide_and_cancelling_ones_do_not() {
    let ties = |weights: [f64; 2]| {
        let sum = TaskArithmetic { weights: weights.to_vec(), lambda: 1.0, normalize: true };
        Method::from(Ties { sum, densities: vec![1.0; 2], rescale: false })
    };
    // The mean of those that agree, however small the weights are.
    check(ties([1e-9, 1e-9]), 3, |v, i| {
        let d = [at(v, 1, i) - at(v, 0, i), at(v, 2, i) - at(v, 0, i)];
        let sign = if d[0] + d[1] >= 0.0 { 1.0 } else { -1.0 };
        let agree: Vec<f64> = d.into_iter().filter(|d| d * sign > 0.0).collect();
        at(v, 0, i) + agree.iter().sum::<f64>() / agree.len().max(1) as f64
    });
    // 0.3 - 0.1 - 0.2 is not quite 0 in float64, and 0 in float32; where both agree the sum is not divided.
    let weights = [0.1 + 0.2, -0.3];
    check(ties(weights), 3, |v, i| {
        let d = [at(v, 1, i) - at(v, 0, i), at(v, 2, i) - at(v, 0, i)];
        let total = weights[0] * d[0] + weights[1] * d[1];
        let sign = if total >= 0.0 { 1.0 } else { -1.0 };
        let agree: Vec<usize> = (0..2).filter(|k| weights[*k] * d[*k] * sign > 0.0).collect();
        let divisor = if agree.len() == 1 { weights[agree[0]] } else { 1.0 };
        at(v, 0, i) + agree.iter().map(|k| weights[*k] * d[*k]).sum::<f64>() / divisor
    });
}
