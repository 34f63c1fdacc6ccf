//! Training against PyTorch, and rows against the paper's formula.

use super::*;
use crate::routers::fit::{Samples, Shape};
use moerge_core::progress::Silent;
use moerge_infer::decoder::Activations;

#[path = "../../../../moerge-infer/src/decoder/gradient/golden.rs"]
mod golden;
use golden::{Golden, Reversed};

#[test]
fn ten_steps_lead_where_pytorchs_lead() {
    for family in ["llama", "mistral", "phi3", "qwen2", "qwen3"] {
        let golden = Golden::open(family);
        let (base, model) = (golden.weights(), Reversed(golden.weights()));
        let (texts, blend) = (golden.texts(), golden.blend(&model, &base, u64::MAX));
        let options = &golden.description.decoder;
        let mut gates = vec![vec![0.0; options.hidden]; options.layers.len()];
        let mut adam = Adam::new(options.layers.len() * options.hidden);
        for step in 0..10 {
            let found = blend.step(&texts, &gates, &Silent).unwrap();
            adam.step(5e-3 * warm_up(step, 100), gates.iter_mut().flatten(), found.gates.iter().flatten());
        }
        // The layer in the middle is its own mirror image, and has nothing to learn.
        assert!(gates[1].iter().all(|v| *v == 0.0));
        for (layer, (ours, theirs)) in gates.iter().zip(golden.floats("trained")).enumerate() {
            let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
            let difference: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
            let relative = norm(&difference) / norm(&theirs).max(f32::MIN_POSITIVE);
            println!("{family}: layer {layer}: relative difference {relative:.1e}");
            assert!(relative < 1e-3, "{family}: layer {layer}: {relative}");
        }
    }
}

#[test]
fn the_rate_grows_and_stays() {
    let rates: Vec<f64> = [0, 2, 5, 6, 99].into_iter().map(|step| warm_up(step, 100)).collect();
    assert!(rates.iter().zip([1.0 / 6.0, 0.5, 1.0, 1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    assert_eq!(warm_up(0, 3), 1.0);
}

/// The router ranks the experts as the paper's scores do, and gives a gate that learned nothing the score 0.
#[test]
fn rows_rank_as_the_papers_scores_do() {
    let random = |count: usize, name: &str| moerge_core::numeric::noise::uniform(count, 3, name);
    let (hidden, tokens) = (24, 50);
    let mut u = Activations::zeros(hidden, tokens);
    for token in 0..tokens {
        // A mean that is not 0, and spreads that differ.
        let values = random(hidden, &format!("u{token}"));
        u.set_token(token, &values.iter().map(|x| 0.7 + (1.0 + token as f32 / 25.0) * x).collect::<Vec<_>>());
    }
    let vectors: Vec<Vec<f32>> = vec![random(hidden, "a"), vec![0.0; hidden], random(hidden, "b")];
    let gates = TrainedGates(vectors.iter().map(|v| vec![v.clone()]).collect());
    let classes = (0..tokens).map(|t| Some(Class::Expert(t % 3))).collect();
    let samples = Samples { classes, held_out: (0..tokens).map(|t| t % 5 == 0).collect() };
    let shape = Shape { mode: moerge_core::recipe::GateMode::PhatGoose, experts: 3, shared: false };
    let made = gates.layer(0, &[0, 1, 2], &u, &samples, shape).unwrap();

    let ln = |x: &[f32]| {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / x.len() as f64;
        x.iter().map(|x| (f64::from(*x) - mean) / (variance + 1e-5).sqrt()).collect::<Vec<_>>()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut factors = Vec::new();
    for token in 0..tokens {
        let x = u.token(token);
        let paper: Vec<f64> = vectors.iter().map(|v| dot(&ln(v), &ln(&x)) / (hidden as f64).sqrt()).collect();
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let row = |row: &[f32]| dot(&row.iter().map(|w| f64::from(*w)).collect::<Vec<_>>(), &wide);
        let ours: Vec<f64> = made.gate.chunks(hidden).map(row).collect();
        assert_eq!((paper[1], ours[1]), (0.0, 0.0));
        let factor = ours[0] / paper[0];
        assert!((ours[2] - factor * paper[2]).abs() < 1e-5, "one factor for all experts of a token");
        factors.push(factor);
    }
    let mean = factors.iter().sum::<f64>() / tokens as f64;
    assert!(factors.iter().all(|f| *f > 0.0) && (mean - 1.0).abs() < 1e-3, "{mean}");
    assert_eq!(made.confusion.0.iter().flatten().sum::<usize>(), 10, "every token kept back is counted");
}
