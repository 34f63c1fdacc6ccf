//! Methods that move on a sphere.

use super::*;

#[test]
fn slerp_turns_from_one_tensor_to_the_other() {
    for t in [0.0, 0.3, 1.0] {
        check(Slerp { t }, 2, |v, i| {
            let cosine = dot(&v[0], &v[1]) / (dot(&v[0], &v[0]) * dot(&v[1], &v[1])).sqrt();
            let theta = cosine.acos();
            (((1.0 - t) * theta).sin() * at(v, 0, i) + (t * theta).sin() * at(v, 1, i)) / theta.sin()
        });
    }
}

#[test]
fn slerp_of_parallel_tensors_is_linear() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 1);
    let doubled = Expr::Scale { input: Box::new(inputs[0].clone()), factor: 2.0 };
    let inputs = vec![inputs[0].clone(), doubled];
    let merged = evaluate(&Expr::Combine { method: Method::from(Slerp { t: 0.25 }), inputs }, 7);
    assert!(merged.iter().zip(&values[0]).all(|(m, x)| (m - 1.25 * x).abs() < 1e-6));
}

/// `a` and `b` at `t` along the circle through both.
fn arc(t: f64, a: &[f64], b: &[f64]) -> Vec<f64> {
    let theta = (dot(a, b) / (norm(a) * norm(b))).acos();
    sum(&[(((1.0 - t) * theta).sin() / theta.sin(), a), ((t * theta).sin() / theta.sin(), b)])
}

/// The elements of a column, and back.
fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| x.iter().skip(column).step_by(columns).copied()).collect()
}

#[test]
fn nuslerp_interpolates_tensors_rows_or_columns() {
    let rows = |a: &[f64], b: &[f64], columns: usize| -> Vec<f64> {
        a.chunks(columns).zip(b.chunks(columns)).flat_map(|(a, b)| arc(0.75, a, b)).collect()
    };
    let columns =
        |a: &[f64], b: &[f64]| transposed(&rows(&transposed(a, COLUMNS), &transposed(b, COLUMNS), SHAPE[0]), SHAPE[0]);
    let of = |flatten, row_wise, base| Method::from(NuSlerp { weights: [1.0, 3.0], flatten, row_wise, base });
    check_all(of(true, true, false), 2, |v| arc(0.75, &v[0], &v[1]));
    check_all(of(false, false, false), 2, |v| rows(&v[0], &v[1], COLUMNS));
    check_all(of(false, true, false), 2, |v| columns(&v[0], &v[1]));
    type OfTwo<'a> = &'a dyn Fn(&[f64], &[f64]) -> Vec<f64>;
    let with_base = |v: &[Vec<f64>], merge: OfTwo| {
        let d = differences(v);
        sum(&[(1.0, &v[0]), (1.0, &merge(&d[0], &d[1]))])
    };
    check_all(of(true, false, true), 3, |v| with_base(v, &|a, b| arc(0.75, a, b)));
    check_all(of(false, false, true), 3, |v| with_base(v, &|a, b| rows(a, b, COLUMNS)));
    check_all(of(false, true, true), 3, |v| with_base(v, &columns));
}

/// mergekit's formula, tangents and all.
fn multislerp(vectors: &[&[f64]], weights: &[f64]) -> Vec<f64> {
    let units: Vec<Vec<f64>> = vectors.iter().map(|x| sum(&[(1.0 / norm(x), x)])).collect();
    let parts: Vec<(f64, &[f64])> = weights.iter().copied().zip(units.iter().map(Vec::as_slice)).collect();
    let mean = sum(&parts);
    let mean = sum(&[(1.0 / norm(&mean), &mean)]);
    let tangents: Vec<Vec<f64>> = units.iter().map(|u| sum(&[(1.0, u), (-dot(u, &mean), &mean)])).collect();
    let parts: Vec<(f64, &[f64])> = weights.iter().copied().zip(tangents.iter().map(Vec::as_slice)).collect();
    let tangent = sum(&parts);
    let length = norm(&tangent) + 1e-8;
    let norms: f64 = weights.iter().zip(vectors).map(|(w, x)| w * norm(x)).sum();
    sum(&[(norms * length.cos(), &mean), (norms * length.sin() / length, &tangent)])
}

#[test]
fn multislerp_is_a_weighted_mean_on_the_sphere() {
    let of = |weights: &[f64], normalize_weights, base| {
        Method::from(MultiSlerp { weights: weights.to_vec(), normalize_weights, eps: 1e-8, base })
    };
    let weights = [0.5, 1.0, 0.5];
    let halves = [0.25, 0.5, 0.25];
    check_all(of(&weights, true, false), 3, |v| multislerp(&[&v[0], &v[1], &v[2]], &halves));
    check_all(of(&weights, false, false), 3, |v| multislerp(&[&v[0], &v[1], &v[2]], &weights));
    check_all(of(&weights, true, true), 4, |v| {
        let d = differences(v);
        sum(&[(1.0, &v[0]), (1.0, &multislerp(&[&d[0], &d[1], &d[2]], &halves))])
    });
}

#[test]
fn multislerp_of_directions_that_cancel_out_is_linear_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, values) = tensors(dir.path(), 1);
    let opposite = Expr::Scale { input: Box::new(inputs[0].clone()), factor: -2.0 };
    let of = |weights: Vec<f64>, inputs: Vec<Expr>| Expr::Combine {
        method: Method::from(MultiSlerp { weights, normalize_weights: true, eps: 1e-8, base: false }),
        inputs,
    };
    let two = evaluate(&of(vec![1.0, 1.0], vec![inputs[0].clone(), opposite.clone()]), 7);
    assert!(two.iter().zip(&values[0]).all(|(m, x)| (m + 0.5 * x).abs() < 1e-6));
    let three = of(vec![1.0, 1.0, 2.0], vec![inputs[0].clone(), inputs[0].clone(), opposite]);
    let error = Evaluator::new(&three, 0).err().unwrap().to_string();
    assert!(error.contains("cancel out"), "{error}");
}

#[test]
fn karcher_finds_the_mean_by_iteration() {
    check_all(Karcher { max_iter: 10, tol: 1e-5 }, 4, |v| {
        let units: Vec<Vec<f64>> = v.iter().map(|x| sum(&[(1.0 / norm(x), x)])).collect();
        let normalized = |x: &[f64]| sum(&[(1.0 / norm(x), x)]);
        let parts: Vec<(f64, &[f64])> = units.iter().map(|u| (0.25, u.as_slice())).collect();
        let mut mean = normalized(&sum(&parts));
        for _ in 0..10 {
            let tangent = |u: &Vec<f64>| {
                let theta = dot(u, &mean).acos();
                sum(&[(theta / theta.sin(), u), (-theta / theta.sin() * theta.cos(), &mean)])
            };
            let tangents: Vec<Vec<f64>> = units.iter().map(tangent).collect();
            let parts: Vec<(f64, &[f64])> = tangents.iter().map(|t| (0.25, t.as_slice())).collect();
            let tangent = sum(&parts);
            let length = norm(&tangent);
            if length < 1e-5 {
                break;
            }
            mean = normalized(&sum(&[(length.cos(), &mean), (length.sin() / length, &tangent)]));
        }
        let norms: f64 = v.iter().map(|x| norm(x)).sum();
        sum(&[(norms / 4.0, &mean)])
    });
}

/// `t / N` of differences.
fn stock(d: &[&[f64]]) -> f64 {
    let cosine = |a: usize, b: usize| dot(d[a], d[b]) / (norm(d[a]) * norm(d[b]));
    let c = (cosine(0, 1) + cosine(0, 2) + cosine(1, 2)) / 3.0;
    c / (1.0 + 2.0 * c)
}

#[test]
fn model_stock_is_between_the_base_and_the_mean() {
    check_all(ModelStock { filter_wise: false }, 4, |v| {
        let d = differences(v);
        let share = stock(&[&d[0], &d[1], &d[2]]);
        sum(&[(1.0, &v[0]), (share, &d[0]), (share, &d[1]), (share, &d[2])])
    });
    check_all(ModelStock { filter_wise: true }, 4, |v| {
        let d = differences(v);
        let row = |row: usize| {
            let row = row * COLUMNS..(row + 1) * COLUMNS;
            let [a, b, c] = [0, 1, 2].map(|n: usize| &d[n][row.clone()]);
            let share = stock(&[a, b, c]);
            sum(&[(1.0, &v[0][row]), (share, a), (share, b), (share, c)])
        };
        (0..SHAPE[0]).flat_map(row).collect()
    });
}
