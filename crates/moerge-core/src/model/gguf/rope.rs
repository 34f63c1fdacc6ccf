//! Rotary embeddings as the metadata and the tensors of divisors have them.

use serde_json::{Map, Value, json};

use super::metadata::Facts;
use crate::{
    error::{Error, Result},
    model::rope::llama3_divisors,
};

/// Reads the divisors of a tensor of the file; `None` if there is no such tensor.
pub(super) type Divisors<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<f32>>>;

/// `rope_scaling` of `config.json`; `None` for plain rotary embeddings.
///
/// # Errors
/// A kind of scaling that Hugging Face's configs cannot say.
pub(super) fn scaling(facts: Facts<'_>, theta: f64, head_dim: usize, divisors: Divisors<'_>) -> Result<Option<Value>> {
    let kind = facts.own_text("rope.scaling.type")?;
    let number = |key: &str| facts.own_number(&format!("rope.scaling.{key}"));
    let factor = || {
        let old = facts.own_number("rope.scale_linear")?;
        Ok::<_, Error>(number("factor")?.or(old).filter(|factor| *factor > 0.0))
    };
    let original = facts.own_count("rope.scaling.original_context_length")?;
    let mut scaling = Map::new();
    let mut set = |key: &str, value: Value| scaling.insert(key.to_owned(), value);
    match kind {
        None | Some("none") => {
            if let Some(divisors) = divisors("rope_freqs.weight")? {
                return Ok(Some(llama3(theta, head_dim, &divisors)));
            }
            let Some(factor) = factor()?.filter(|factor| *factor != 1.0) else { return Ok(None) };
            set("rope_type", json!("linear"));
            set("factor", json!(factor));
        }
        Some("linear") => {
            set("rope_type", json!("linear"));
            set("factor", json!(factor()?.unwrap_or(1.0)));
        }
        Some("yarn") => {
            let factor = factor()?.unwrap_or(1.0);
            set("rope_type", json!("yarn"));
            set("factor", json!(factor));
            if let Some(original) = original {
                set("original_max_position_embeddings", json!(original));
            }
            for (own, key) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(beta) = number(own)? {
                    set(key, json!(beta));
                }
            }
            // llama.cpp multiplies its own factor by this one.
            let more = number("yarn_attn_factor")?.or(number("attn_factor")?);
            if let Some(more) = more.filter(|more| *more != 1.0) {
                set("attention_factor", json!((1.0 + 0.1 * factor.max(1.0).ln()) * more));
            }
        }
        Some("longrope") => {
            let list = |name: &str| {
                let path = facts.path().display();
                divisors(name)?.ok_or_else(|| Error::input(format!("{path} has no tensor {name}")))
            };
            set("rope_type", json!("longrope"));
            set("short_factor", plain(&list("rope_factors_short.weight")?));
            set("long_factor", plain(&list("rope_factors_long.weight")?));
            if let Some(original) = original {
                set("original_max_position_embeddings", json!(original));
            }
            if let Some(factor) = number("attn_factor")? {
                set("attention_factor", json!(factor));
            }
        }
        Some(_) => {
            let known = "none, linear, yarn or longrope";
            return Err(facts.wrong(&facts.own("rope.scaling.type"), known).unsupported());
        }
    }
    Ok(Some(Value::Object(scaling)))
}

/// The parameters of Llama 3's formula that give these divisors; where none are known that do, the divisors themselves.
fn llama3(theta: f64, head_dim: usize, divisors: &[f32]) -> Value {
    let factor = divisors.iter().fold(1.0f32, |largest, x| largest.max(*x));
    for original in [8192, 4096, 2048, 16384, 32768] {
        let expected = llama3_divisors(theta, head_dim, [f64::from(factor), 1.0, 4.0], original);
        let near = |(one, other): (&f32, &f32)| (one - other).abs() <= 1e-5 * other.abs();
        if expected.len() == divisors.len() && expected.iter().zip(divisors).all(near) {
            return json!({
                "rope_type": "llama3",
                "factor": f64::from(factor),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            });
        }
    }
    let all = plain(divisors);
    json!({ "rope_type": "longrope", "short_factor": all, "long_factor": all, "attention_factor": 1.0 })
}

fn plain(divisors: &[f32]) -> Value {
    divisors.iter().map(|x| json!(x.to_string().parse::<f64>().unwrap_or(1.0))).collect()
}
