//! Compares an expert's attention with the base's. Only if they compute the same can their weights be averaged, and
//! only then does the expert's FFN follow the kind of attention that it was trained with.

use crate::model::{
    families::{LayerRole, Projection, Role},
    source::Source,
};

/// How the attention of `expert` differs from that of `base`, as sentences about the expert; the most serious first.
pub fn differences(base: &Source, expert: &Source) -> Vec<String> {
    let (ours, theirs) = (&base.config, &expert.config);
    let mut found = Vec::new();
    if ours.model_type != theirs.model_type {
        found.push(format!("it is a {} model, the base is {}", theirs.model_type, ours.model_type));
    }
    let heads =
        |s: &Source| format!("{} heads ({} for keys) of {}", s.config.heads, s.config.kv_heads, s.config.head_dim);
    if heads(base) != heads(expert) {
        found.push(format!("it has {}, the base has {}", heads(expert), heads(base)));
    }
    let parts = [
        ("norms of q and k", LayerRole::QNorm),
        ("biases of q", LayerRole::AttentionBias(Projection::Q)),
        ("biases of the output projection", LayerRole::AttentionBias(Projection::O)),
    ];
    for (what, role) in parts {
        let has = |s: &Source| s.description.get(Role::Layer(0, role)).is_some();
        match (has(base), has(expert)) {
            (true, false) => found.push(format!("it has no {what}, the base has")),
            (false, true) => found.push(format!("it has {what}, the base has none")),
            _ => {}
        }
    }
    if ours.rope.theta != theirs.rope.theta {
        found.push(format!("its rope_theta is {}, the base's is {}", theirs.rope.theta, ours.rope.theta));
    }
    if ours.rope.scaling != theirs.rope.scaling {
        found.push("its rope scaling is not the base's".to_owned());
    }
    found
}

/// How the norms and windows of `expert` differ from those of `base`; the weights can be averaged nevertheless.
pub fn slight_differences(base: &Source, expert: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let (ours, theirs) = (base.config.norm_eps, expert.config.norm_eps);
    if ours != theirs {
        found.push(format!("its rms_norm_eps is {theirs}, the base's is {ours}"));
    }
    let windows = |s: &Source| -> Vec<Option<usize>> {
        s.description.decoder.layers.iter().map(|layer| layer.attention().window).collect()
    };
    let (ours, theirs) = (windows(base), windows(expert));
    if let Some(layer) = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs) {
        let window = |of: &[Option<usize>]| match of.get(layer).copied().flatten() {
            Some(tokens) => format!("of {tokens} tokens"),
            None => "none".to_owned(),
        };
        found.push(format!(
            "the sliding window of its layer {layer} is {}, the base's is {}",
            window(&theirs),
            window(&ours)
        ));
    }
    found
}
