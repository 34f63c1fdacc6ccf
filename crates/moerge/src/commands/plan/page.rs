//! The output of `moerge plan` for people.

use std::collections::BTreeMap;

use moerge_core::plan::{ExpertSummary, PlanSummary};

use crate::{
    numbers::{bytes, count, memory, parameters},
    terminal::{DIM, LABEL, harmless, styled, table},
};

/// The plan as lines. `max_bytes` bounds the size of the finished folder, `free` the space on its disk, `needed` the peak
/// memory of a run, `budget` the user's limit, and `time` an estimate.
pub fn lines(
    plan: &PlanSummary,
    max_bytes: u64,
    free: Option<u64>,
    (needed, budget): (u64, Option<u64>),
    time: Option<String>,
) -> Vec<String> {
    let class = plan.architecture.as_str();
    let shared = if plan.shared_expert.is_some() { " and a shared one" } else { "" };
    let what = format!("{class}, {} experts{shared}, {} per token", plan.experts, plan.experts_per_token);
    let size = format!("{} parameters, {} active", parameters(plan.parameters), parameters(plan.active_parameters));
    let base = &plan.base;
    let mut models = vec![vec![
        row("base"),
        harmless(&base.reference),
        match plan.shared_weights.as_str() {
            "average" => format!(
                "{}, {}: tokenizer; attention, norms, embeddings, head are the experts' mean",
                base.model_type, base.dtype
            ),
            "base" => format!("{}, {}: attention, norms, embeddings, head", base.model_type, base.dtype),
            method => format!(
                "{}, {}: tokenizer; attention, norms, embeddings, head are the experts', merged by {method}",
                base.model_type, base.dtype
            ),
        },
    ]];
    let expert = |label: &str, e: &ExpertSummary| {
        let prompts = prompts(&e.positive_prompts, &e.negative_prompts);
        let layers = e.layers.as_ref().map(|layers| format!(", layers {layers}")).unwrap_or_default();
        vec![row(label), harmless(&format!("{}{layers}", e.model.reference)), prompts]
    };
    models.extend(plan.expert_models.iter().enumerate().map(|(i, e)| expert(&format!("expert {i}"), e)));
    models.extend(plan.shared_expert.iter().map(|e| expert("shared", e)));
    let mut lines = vec![styled(LABEL, &format!("{what}: {size}"))];
    lines.extend(table(&models, &[]));

    let copied = match plan.tensors_copied {
        n if n == plan.tensors => "all copied unchanged".to_owned(),
        n => format!("{n} copied unchanged"),
    };
    if let Some(spare) = spare_slots(plan) {
        lines.push(String::new());
        lines.extend(table(&[vec![row("slots"), spare]], &[]));
    }
    let shards = count(plan.shards.len(), "shard");
    let free = free.map(|f| format!("; {} free on the disk", bytes(f))).unwrap_or_default();
    let facts = [
        ("why", format!("{class} {}", plan.why)),
        ("routers", routers(plan)),
        ("reads", bytes(plan.source_bytes)),
        ("weights", format!("{} ({} bytes) in {shards}", bytes(plan.weight_bytes), plan.weight_bytes)),
        ("output", format!("at most {}{free}", bytes(max_bytes))),
        ("tensors", format!("{}, {}, {copied}", plan.tensors, plan.dtype)),
        (
            "memory",
            match budget {
                Some(budget) => format!("{} of {}", memory(needed), memory(budget)),
                None => memory(needed),
            },
        ),
    ];
    lines.push(String::new());
    let facts = facts.into_iter().chain(time.map(|time| ("time", time)));
    let facts: Vec<Vec<String>> = facts.map(|(name, value)| vec![row(name), harmless(&value)]).collect();
    lines.extend(table(&facts, &[]));
    if !plan.unused.is_empty() {
        let unused = plan.unused.iter().map(|u| {
            let (tensors, size) = (count(u.tensors, "tensor"), bytes(u.bytes));
            vec![row("unused"), harmless(&u.source), harmless(&u.what), tensors, size]
        });
        lines.push(String::new());
        lines.extend(table(&unused.collect::<Vec<_>>(), &[3, 4]));
    }
    lines
}

/// How layers with fewer experts than others are filled up, if there are some.
fn spare_slots(plan: &PlanSummary) -> Option<String> {
    // Expert -> the layers that it is in more than once.
    let mut twice: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, slots) in plan.slots.iter().enumerate() {
        let again = slots.iter().enumerate().find(|(slot, expert)| slots[..*slot].contains(expert));
        again.into_iter().for_each(|(_, expert)| twice.entry(*expert).or_default().push(layer));
    }
    let all = plan.slots.len();
    let expert = |(expert, layers): (usize, Vec<usize>)| format!("expert {expert} in {} of {all} layers", layers.len());
    let twice: Vec<String> = twice.into_iter().map(expert).collect();
    (!twice.is_empty()).then(|| format!("layers with fewer experts repeat one: {}", twice.join(", ")))
}

/// The first column.
pub fn row(label: &str) -> String {
    format!("  {}", styled(LABEL, label))
}

fn routers(plan: &PlanSummary) -> String {
    let how = match plan.gate_mode.as_str() {
        "random" | "uniform_random" => "to be trained afterwards",
        "cheap_embed" => "from the embeddings",
        "router_input" | "calibrated" => "fitted in one pass over the MoE",
        "self_calibrated" => "fitted to text that the experts generate",
        "phatgoose" => "trained on text that the experts generate",
        _ => "one pass over the base model",
    };
    match plan.prompts {
        0 => format!("{}, {how}", plan.gate_mode),
        n => format!("{}, {}, {how}", plan.gate_mode, count(n, "prompt")),
    }
}

/// The first prompts in quotes, and the number of further ones.
pub fn prompts(positive: &[String], negative: &[String]) -> String {
    const SHOWN: usize = 3;
    const MAX_CHARS: usize = 24;
    let list = |prompts: &[String]| {
        let mut shown: Vec<String> = prompts
            .iter()
            .take(SHOWN)
            .map(|prompt| {
                let prompt = harmless(prompt).replace(['\n', '\t'], " ");
                match prompt.char_indices().nth(MAX_CHARS) {
                    Some((end, _)) => format!("\"{}...\"", &prompt[..end]),
                    None => format!("\"{prompt}\""),
                }
            })
            .collect();
        if prompts.len() > SHOWN {
            shown.push(styled(DIM, &format!("+{}", prompts.len() - SHOWN)));
        }
        shown.join(" ")
    };
    match (positive, negative) {
        ([], []) => String::new(),
        (some, []) => list(some),
        (some, not) => format!("{} not {}", list(some), list(not)),
    }
}
