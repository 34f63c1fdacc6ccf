//! Sliding windows, by the rules that transformers' config classes share. Each family's file names its rule.

use crate::{error::Result, model::config::ModelConfig};

/// The same window in all layers: `sliding_window`, or `default` if the key is absent.
pub(super) fn uniform(config: &ModelConfig, default: Option<usize>) -> Result<Vec<Option<usize>>> {
    let window = if config.raw.contains_key("sliding_window") { config.size("sliding_window")? } else { default };
    Ok(vec![window; config.layers])
}

/// `sliding_window` if `use_sliding_window` is true; 4096 if the key is absent, as in all Qwen classes.
pub(super) fn qwen(config: &ModelConfig) -> Result<Option<usize>> {
    if !config.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(None);
    }
    if config.raw.contains_key("sliding_window") { config.size("sliding_window") } else { Ok(Some(4096)) }
}

/// The same window in all layers, or in those that `layer_types` names: `AutoConfig` takes a Mistral with that key for a
/// Ministral, which differs in nothing else. The text part of a multimodal model is not opened by `AutoConfig`.
pub(super) fn mistral(config: &ModelConfig) -> Result<Vec<Option<usize>>> {
    let windows = uniform(config, Some(4096))?;
    let window = windows.first().copied().flatten();
    let types = if config.part_of.is_none() { by_types(config, window)? } else { None };
    Ok(types.unwrap_or(windows))
}

/// Windows by `layer_types`; without that key, in the layers for which `slides(layer, max_window_layers)` is true.
pub(super) fn by_layer(config: &ModelConfig, slides: fn(usize, usize) -> bool) -> Result<Vec<Option<usize>>> {
    let window = qwen(config)?;
    // 28 is the default of all Qwen classes.
    let max_window_layers = config.count("max_window_layers")?.unwrap_or(28);
    let types = by_types(config, window)?;
    let by_rule = || (0..config.layers).map(|layer| window.filter(|_| slides(layer, max_window_layers))).collect();
    Ok(types.unwrap_or_else(by_rule))
}

/// `window` in the layers that `layer_types` calls sliding; `None` where that key is absent.
fn by_types(config: &ModelConfig, window: Option<usize>) -> Result<Option<Vec<Option<usize>>>> {
    let Some(types) = config.strings("layer_types")? else { return Ok(None) };
    if types.len() != config.layers {
        return Err(config.wrong("layer_types", &format!("one entry for each of {} layers", config.layers)));
    }
    if types.iter().any(|kind| !matches!(*kind, "full_attention" | "sliding_attention")) {
        return Err(config.wrong("layer_types", "`full_attention` and `sliding_attention` only").unsupported());
    }
    if window.is_none() && types.contains(&"sliding_attention") {
        return Err(config
            .wrong("layer_types", "`full_attention` only, because no window is given")
            .hint("`sliding_attention` needs a `sliding_window`; in Qwen models `use_sliding_window: true` too"));
    }
    Ok(Some(types.into_iter().map(|kind| window.filter(|_| kind == "sliding_attention")).collect()))
}
