//! Any text as a `config.json`: it is described or refused, without allocating more than a model of that size needs;
//! and what a dense model becomes is an MoE whose `config.json` describes it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moerge_core::{
    model::{
        config::ModelConfig,
        families::{Family, MoeFamily, MoeShape, describe},
    },
    plan::moe::represent,
};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(config) = parse(text) else { return };
    let (frequencies, _) = config.rope.frequencies(config.head_dim, 4096);
    assert_eq!(frequencies.len(), config.head_dim / 2);
    let Ok(description) = describe(&config) else { return };
    assert_eq!(description.decoder.layers.len(), config.layers);
    if MoeFamily::of(&config.model_type).is_some() {
        return;
    }
    let dense = Family::of(&config).expect("a family that was described");
    for family in represent::moe_families(&config, dense).unwrap_or_default() {
        let intermediate = config.intermediate_size;
        let shared = family.needs_shared_expert().then_some(intermediate);
        let shape = MoeShape { experts: 2, top_k: 1, intermediate, shared };
        let windows: Vec<_> = description.decoder.windows().collect();
        let moe = family.config(&config, &windows, &shape, "bfloat16");
        let moe = parse(&Value::Object(moe).to_string()).expect("a config of our own");
        // What the class cannot say is refused: by its own reader, or by the comparison.
        let Ok(moe) = describe(&moe) else { continue };
        if represent::check(&config, family, &description, &moe).is_ok() {
            assert_eq!(moe.decoder.hidden, config.hidden_size);
            assert!(moe.decoder.windows().eq(windows));
        }
    }
});

fn parse(text: &str) -> Result<ModelConfig, moerge_core::Error> {
    ModelConfig::parse(text, Path::new("config.json"))
}
