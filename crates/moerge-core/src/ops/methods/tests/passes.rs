//! Statistics of whole tensors: exact, and independent of threads and of how rows are cut.

use super::*;

/// Several segments, the last of them not full.
const LARGE: [usize; 2] = [613, 700];

/// A method of each kind that passes over its inputs, for a base and two models.
fn methods() -> Vec<Method> {
    let sum = |normalize| TaskArithmetic { weights: vec![0.7, 0.4], lambda: 1.0, normalize };
    let densities = vec![0.41, 0.77];
    vec![
        Method::from(NuSlerp { weights: [1.0, 2.0], flatten: true, row_wise: false, base: true }),
        Method::from(NuSlerp { weights: [1.0, 2.0], flatten: false, row_wise: true, base: true }),
        Method::from(MultiSlerp { weights: vec![1.0; 3], normalize_weights: true, eps: 1e-8, base: false }),
        Method::from(Karcher { max_iter: 10, tol: 1e-5 }),
        Method::from(ModelStock { filter_wise: false }),
        Method::from(Ties { sum: sum(true), densities: densities.clone(), rescale: true }),
        Method::from(Breadcrumbs {
            sum: sum(false),
            densities: densities.clone(),
            gammas: vec![0.1; 2],
            rescale: true,
            elect_signs: false,
        }),
        Method::from(Dare {
            sum: sum(false),
            densities: densities.clone(),
            rescale: true,
            elect_signs: true,
            name: "w".into(),
        }),
        Method::from(Della {
            sum: sum(true),
            densities,
            epsilons: vec![0.2; 2],
            rescale: true,
            elect_signs: true,
            name: "w".into(),
        }),
        Method::from(Sce { select_topk: 0.3 }),
        Method::from(RamPlusTl { epsilon: 0.1, r: 0.1, alpha: 10.0 }),
    ]
}

#[test]
fn results_do_not_depend_on_threads_or_on_how_rows_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Vec<f32>> = (0..3).map(|n| uniform(LARGE[0] * LARGE[1], 1, &format!("x{n}"))).collect();
    for shape in [&LARGE[..], &[LARGE[0] * LARGE[1]]] {
        let inputs = write(dir.path(), shape, &values);
        let mut exprs: Vec<Expr> =
            methods().into_iter().map(|method| Expr::Combine { method, inputs: inputs.clone() }).collect();
        exprs.push(Expr::Combine { method: Method::from(ArceeFusion), inputs: inputs[..2].to_vec() });
        for expr in exprs {
            let alone = evaluate_on(&expr, shape[0], 1);
            assert!(alone == evaluate_on(&expr, shape[0] / 7, 3), "{expr:?}");
            assert!(alone.iter().all(|x| x.is_finite()), "{expr:?}");
        }
    }
}

#[test]
fn of_equal_magnitudes_the_first_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let count = LARGE[0] * LARGE[1];
    // Five magnitudes, with both signs.
    let d: Vec<f32> = uniform(count, 1, "d").iter().map(|x| (x * 4.9).trunc() / 4.0).collect();
    let inputs = write(dir.path(), &LARGE, &[vec![0.0; count], d.clone()]);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| d[*b].abs().total_cmp(&d[*a].abs()).then(a.cmp(b)));
    let sum = TaskArithmetic { weights: vec![1.0], lambda: 1.0, normalize: false };
    for density in [1e-9, 0.01, 0.3, 0.5, 0.79, 0.999_999] {
        for gamma in [0.0, 0.15] {
            let method = Breadcrumbs {
                sum: sum.clone(),
                densities: vec![density],
                gammas: vec![gamma],
                rescale: false,
                elect_signs: false,
            };
            let out = evaluate(&Expr::Combine { method: Method::from(method), inputs: inputs.clone() }, 100);
            let kept = (density * count as f64) as usize;
            let outliers = ((gamma * count as f64) as usize).min(count - kept);
            let mut expected = vec![0.0; count];
            order[outliers..outliers + kept].iter().for_each(|i| expected[*i] = d[*i]);
            assert!(out == expected, "density {density}, gamma {gamma}");
        }
        let method = Ties { sum: sum.clone(), densities: vec![density], rescale: false };
        let out = evaluate(&Expr::Combine { method: Method::from(method), inputs: inputs.clone() }, 100);
        let kept = ((density * count as f64) as usize).max(1);
        let mut expected = vec![0.0; count];
        order[..kept].iter().for_each(|i| expected[*i] = d[*i]);
        assert!(out == expected, "density {density}");
    }
}

#[test]
fn nan_is_not_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let mut values: Vec<Vec<f32>> = (0..3).map(|n| uniform(64, 1, &format!("x{n}"))).collect();
    values[2][5] = f32::NAN;
    let inputs = write(dir.path(), &[8, 8], &values);
    for method in methods() {
        let out = evaluate(&Expr::Combine { method: method.clone(), inputs: inputs.clone() }, 8);
        assert!(out.iter().any(|x| x.is_nan()), "{method:?}");
    }
}

#[test]
fn a_pass_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, _) = tensors(dir.path(), 3);
    let stop = || Err(crate::Error::interrupted());
    let preparation = Preparation { seed: 0, threads: 2, check: &stop };
    let expr = Expr::Combine { method: Method::from(ModelStock { filter_wise: false }), inputs };
    let error = Evaluator::prepare(&expr, &preparation).err().unwrap();
    assert_eq!(error.kind(), crate::ErrorKind::Interrupted);
}

#[test]
fn empty_tensors_stay_empty() {
    let dir = tempfile::tempdir().unwrap();
    for shape in [&[0][..], &[0, 4], &[4, 0], &[2, 0, 3]] {
        let inputs = write(dir.path(), shape, &[vec![], vec![], vec![]]);
        for method in methods() {
            assert!(evaluate(&Expr::Combine { method, inputs: inputs.clone() }, 2).is_empty());
        }
        let arcee = Expr::Combine { method: Method::from(ArceeFusion), inputs: inputs[..2].to_vec() };
        assert!(evaluate(&arcee, 2).is_empty());
    }
}

#[test]
fn wrong_inputs_and_parameters_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, _) = tensors(dir.path(), 3);
    let refused = |method: Method, inputs: &[Expr]| {
        let expr = Expr::Combine { method, inputs: inputs.to_vec() };
        Evaluator::new(&expr, 0).err().unwrap().to_string()
    };
    for method in methods() {
        let name = method.name();
        let error = refused(method, &[]);
        assert!(error.contains(name), "{error}");
    }
    let linear = |weights: &[f64]| Method::from(Linear { weights: weights.to_vec(), normalize: true });
    assert!(refused(linear(&[1.0]), &inputs).contains("one weight per model"));
    assert!(refused(linear(&[0.1, 0.2, -0.3]), &inputs).contains("sum of the weights"));
    assert!(refused(linear(&[0.1, f64::NAN, 1.0]), &inputs).contains("out of range"));
    let sum = TaskArithmetic { weights: vec![1.0; 2], lambda: 1.0, normalize: false };
    let ties = Ties { sum: sum.clone(), densities: vec![0.5, 1.5], rescale: false };
    assert!(refused(Method::from(ties), &inputs).contains("density of ties is out of range"));
    let della = Della {
        sum,
        densities: vec![0.9; 2],
        epsilons: vec![0.15; 2],
        rescale: true,
        elect_signs: true,
        name: String::new(),
    };
    assert!(refused(Method::from(della), &inputs).contains("density - epsilon and density + epsilon"));
    let other = Expr::Fill { value: 1.0, shape: vec![SHAPE[0], SHAPE[1] + 1] };
    let error = refused(linear(&[1.0, 1.0]), &[inputs[0].clone(), other]);
    assert!(error.contains("different shapes"), "{error}");
}
