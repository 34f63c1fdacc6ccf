//! Balancing on the trained models of `examples/tiny`.

use std::{fs, path::PathBuf, sync::Arc};

use moerge_checkpoint::{LocalStorage, ReadStorage};

use super::*;
use crate::{
    merge::{MergeOptions, Prepared, prepare},
    routers::{ExpertTokens, fit_routers},
};
use moerge_core::{progress::Silent, recipe::Recipe};
use moerge_infer::tokenizer::Tokenizer;

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/tiny")
}

/// Three experts, one for each token.
fn prepared(experts: [&str; 3]) -> Prepared {
    let experts: String = experts
        .iter()
        .enumerate()
        .map(|(n, e)| format!("- {{source_model: {e}, positive_prompts: [x{n}]}}\n"))
        .collect();
    let text = format!("base_model: base\ngate_mode: calibrated\nexperts_per_token: 1\nexperts:\n{experts}");
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let options = MergeOptions { balance: true, allow_same_experts: true, ..MergeOptions::default() };
    prepare(&storage, Recipe::parse("moe.yml", &text).unwrap(), &tiny(), &options).unwrap()
}

/// Sequences of 80 tokens from each of these texts, so many of each.
fn calibration(texts: [(&str, usize); 3]) -> Calibration {
    let tokenizer = Tokenizer::open(&LocalStorage, &tiny().join("base")).unwrap();
    let tokens = |(name, sequences): (&str, usize)| {
        let text = fs::read_to_string(tiny().join(format!("calibration/{name}.txt"))).unwrap();
        let windows = tokenizer.encode_windows(&text, 80).unwrap();
        ExpertTokens { positive: windows.into_iter().skip(1).take(sequences).collect(), negative: Vec::new() }
    };
    Calibration::new(&texts.map(tokens), None)
}

/// The routers as fitted, and balanced.
fn balanced(plan: &MoePlan, calibration: &Calibration) -> (Routers, Balanced) {
    let (routers, _) = fit_routers(plan, calibration, None, None, &Silent).unwrap();
    let balanced = balance(plan, &routers, calibration, None, &Silent).unwrap();
    (routers, balanced)
}

/// Where all experts are the same, it costs nothing to send tokens elsewhere.
#[test]
fn starved_experts_are_fed() {
    let plan = prepared(["code"; 3]).plan;
    let calibration = calibration([("code", 8), ("math", 8), ("story", 1)]);
    let (_, Balanced { balance, load, routers }) = balanced(&plan, &calibration);
    assert!(balance.load_before.iter().all(|load| load[2] < SHARES[0] / 3.0), "{:?}", balance.load_before);
    assert_eq!(balance.share, SHARES[0]);
    assert!(balance.least_after >= SHARES[0] && balance.least_before < SHARES[0] / 2.0, "{balance:?}");
    assert!(balance.cost().abs() < 1e-5, "{balance:?}");
    for (layer, load) in load.iter().enumerate() {
        assert!(load[2] >= SHARES[0] / 3.0 && load[2] < 0.2, "layer {layer}: {load:?}");
        assert!((load.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    // The finished model routes as the report says.
    let merged = Merged::with_routers(&plan, &routers).unwrap();
    let mut watch = LoadObserver {
        plan: &plan,
        merged: &merged,
        calibration: &calibration,
        shifting: None,
        shifted: Vec::new(),
        load: Vec::new(),
    };
    losses_at(&merged, &calibration.sequences, |_| false, None, &mut watch, &Silent).unwrap();
    assert_eq!(watch.load, load);
}

/// The math specialist knows nothing of code and stories.
#[test]
fn what_would_cost_too_much_is_scaled_back() {
    let plan = prepared(["code", "story", "math"]).plan;
    let calibration = calibration([("code", 8), ("story", 8), ("math", 1)]);
    let (before, Balanced { balance, load, routers }) = balanced(&plan, &calibration);
    assert!(balance.least_before < SHARES[0] && balance.share < SHARES[0], "{balance:?}");
    assert!(balance.cost() <= MAX_COST, "{balance:?}");
    if balance.share == 0.0 {
        assert_eq!((&routers, &load), (&before, &balance.load_before));
    }
    let perplexity_of = |routers: &Routers| {
        let merged = Merged::with_routers(&plan, routers).unwrap();
        let samples = &calibration.samples;
        let kept_back = |column: usize| samples.held_out[column] && samples.classes[column].is_some();
        perplexity(&losses_at(&merged, &calibration.sequences, kept_back, None, &mut (), &Silent).unwrap())
    };
    assert!((perplexity_of(&before) - balance.perplexity_before).abs() < 1e-9);
    assert!((perplexity_of(&routers) - balance.perplexity_after).abs() < 1e-9);
}

#[test]
fn where_nobody_is_starved_nothing_changes() {
    let plan = prepared(["code", "math", "story"]).plan;
    let calibration = calibration([("code", 6), ("math", 6), ("story", 6)]);
    let (before, Balanced { balance, load, routers }) = balanced(&plan, &calibration);
    assert!(balance.least_before >= SHARES[0], "{load:?}");
    assert_eq!((balance.share, &routers, load), (0.0, &before, balance.load_before.clone()));
    assert_eq!(balance.cost(), 0.0);
}
