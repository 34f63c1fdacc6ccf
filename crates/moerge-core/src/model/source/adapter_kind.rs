//! Checks that `W + scale * B A` equals the result of PEFT's `merge_and_unload` for an adapter.
//!
//! According to PEFT's source (`tuners/lora/{config,layer,variants}.py`), some initialisations change the base's
//! weights whenever the adapter is loaded, and variants of LoRA combine A and B differently.

use serde_json::{Map, Value};

/// Settings that change the merged weight, with their effect.
const VARIANTS: [(&str, &str); 9] = [
    ("use_dora", "DoRA also rescales every column by a learnt magnitude"),
    ("use_qalora", "QALoRA pools the inputs of A"),
    ("use_bdlora", "BD-LoRA has block-diagonal factors"),
    ("layer_replication", "it was trained on a model with layers repeated"),
    ("target_parameters", "it changes parameters of whole expert stacks"),
    ("alora_invocation_tokens", "an activated LoRA works from a certain token on and cannot be merged"),
    ("arrow_config", "Arrow routes between several adapters"),
    ("kasa_config", "KaSA truncates the base's weights"),
    ("monteclora_config", "MonteCLoRA samples its factors"),
];

/// Settings that only affect training or are handled elsewhere. `fan_in_fan_out` is not among them: PEFT disables it
/// for linear layers, and all weights here belong to linear layers.
const HARMLESS: [&str; 9] = [
    "use_rslora",
    "runtime_config",
    "megatron_config",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "peft_version",
];

/// Why an adapter with this `adapter_config.json` cannot be merged as plain LoRA.
pub(super) fn check(config: &Map<String, Value>) -> Result<(), String> {
    if let Some(why) = changes_the_base(config.get("init_lora_weights")) {
        return Err(why);
    }
    if let Some((key, what)) = VARIANTS.iter().find(|(key, _)| is_set(config.get(*key))) {
        return Err(format!("`{key}` is set; {what}, which is not supported"));
    }
    let unknown = |key: &str| (key.starts_with("use_") || key.ends_with("_config")) && !HARMLESS.contains(&key);
    match config.iter().find(|(key, value)| unknown(key) && is_set(Some(value))) {
        Some((key, _)) => Err(format!("`{key}` is set, a variant of LoRA that is not known here")),
        None => Ok(()),
    }
}

/// The effect of an initialisation when PEFT loads an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    /// It only initializes A and B, which the file then replaces.
    Plain,
    /// It also subtracts `scale * B A` from the base's weights.
    ChangesTheBase,
}

/// The initialisation with this name by PEFT's comparison; `None` if PEFT does not know it.
fn initialisation(name: &str) -> Option<Loading> {
    let lower = name.to_lowercase();
    match name {
        "eva" | "orthogonal" | "lora_ga" => Some(Loading::Plain),
        "loftq" => Some(Loading::ChangesTheBase),
        _ if matches!(lower.as_str(), "gaussian" | "mica") => Some(Loading::Plain),
        _ if lower == "olora" || name.starts_with("pissa") || name.starts_with("corda") => {
            Some(Loading::ChangesTheBase)
        }
        _ => None,
    }
}

/// Why an adapter with these `init_lora_weights` is not plain LoRA.
fn changes_the_base(init: Option<&Value>) -> Option<String> {
    let init = match init {
        None | Some(Value::Null | Value::Bool(_)) => return None,
        Some(Value::String(init)) => init,
        Some(other) => return Some(format!("`init_lora_weights` is {other}, expected true, false or a name")),
    };
    match initialisation(init) {
        Some(Loading::Plain) => None,
        Some(Loading::ChangesTheBase) => Some(format!(
            "`init_lora_weights` is \"{init}\": its A and B were taken out of the base's weights, \
             so they do not go onto the base as it is"
        )),
        None => Some(format!("`init_lora_weights` is \"{init}\", which is not known here")),
    }
}

/// Whether a setting is present and true in Python's sense.
fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(on)) => *on,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(entries)) => !entries.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Fault 1: a PiSSA adapter was merged as plain LoRA.
    #[test]
    fn fault_01_initialisations_that_change_the_base_are_refused_by_name() {
        let checked = |value: Value| check(json!({ "init_lora_weights": value }).as_object().unwrap());
        for name in
            ["pissa", "pissa_niter_4", "pissa_niter_16", "corda", "loftq", "olora", "OLoRA", "LoftQ", "PiSSA", ""]
        {
            let why = checked(name.into()).unwrap_err();
            assert!(why.contains(&format!("\"{name}\"")), "{why}");
        }
        for value in [json!(true), json!(false), json!(null), json!("gaussian"), json!("Gaussian"), json!("eva")] {
            assert_eq!(checked(value), Ok(()));
        }
        for value in [json!("orthogonal"), json!("lora_ga"), json!("mica"), json!("MiCA")] {
            assert_eq!(checked(value), Ok(()));
        }
        assert!(checked(json!(["pissa"])).is_err());
        assert_eq!(check(&Map::new()), Ok(()));
    }

    #[test]
    fn fault_01_variants_that_are_more_than_a_and_b_are_refused_by_name() {
        for (key, _) in VARIANTS {
            for value in [json!(true), json!([1]), json!({"a": 1})] {
                let why = check(json!({ key: value }).as_object().unwrap()).unwrap_err();
                assert!(why.contains(key), "{why}");
            }
            for value in [json!(false), json!(null), json!([]), json!({})] {
                assert_eq!(check(json!({ key: value }).as_object().unwrap()), Ok(()));
            }
        }
        assert!(check(json!({"use_flora": true}).as_object().unwrap()).unwrap_err().contains("use_flora"));
        assert!(check(json!({"lily_config": {"r": 1}}).as_object().unwrap()).is_err());
        let usual = json!({"use_rslora": true, "fan_in_fan_out": true, "loftq_config": {"loftq_bits": 4}, "eva_config": null, "unsloth_fixed": true,
            "megatron_core": "megatron.core", "runtime_config": {"ephemeral_gpu_offload": false}});
        assert_eq!(check(usual.as_object().unwrap()), Ok(()));
    }
}
