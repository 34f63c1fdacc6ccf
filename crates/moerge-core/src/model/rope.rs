//! Rotary position embeddings (RoPE) as described in `config.json`, and their frequencies.
//!
//! The formulas are those of transformers' `modeling_rope_utils.py` (default, linear, dynamic, yarn, longrope, llama3).

use std::f64::consts::PI;

use serde_json::{Map, Value};

use crate::suggest::shorten;

/// The RoPE parameters of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
    /// Fraction of each head that is rotated; 1 for every supported family.
    pub partial: f64,
    /// The scaling object of the file (either spelling) without `rope_theta`; empty for plain RoPE.
    pub raw: Map<String, Value>,
}

/// Values of `rope_type`; `su` is an older name of longrope.
const TYPES: [&str; 6] = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"];

/// The types of RoPE scaling.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    Default,
    /// Positions divided by `factor`.
    Linear {
        /// Scaling factor of the context length.
        factor: f64,
    },
    /// NTK-aware scaling: the base grows with the length of a sequence longer than the original context.
    Dynamic {
        /// Scaling factor of the context length.
        factor: f64,
        /// The context that the model was trained with, in tokens.
        original: usize,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// Scaling factor of the context length.
        factor: f64,
        /// The context that the model was trained with, in tokens.
        original: usize,
        /// Number of rotations above which a frequency is not scaled.
        beta_fast: f64,
        /// Number of rotations below which a frequency is fully scaled.
        beta_slow: f64,
        /// Factor on cos and sin, and so, squared, on the attention logits.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
    /// Llama 3.1's smooth ramp between scaled and unscaled frequencies.
    Llama3 {
        /// Scaling factor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are scaled.
        low: f64,
        /// Wavelengths below `original / high` are not scaled.
        high: f64,
        /// The context that the model was trained with, in tokens.
        original: usize,
    },
    /// LongRoPE (arXiv 2402.13753): one divisor per frequency, in two lists for short and long sequences.
    LongRope {
        /// Divisors for sequences up to the original context.
        short: Vec<f64>,
        /// Divisors for longer sequences.
        long: Vec<f64>,
        /// The context that the model was trained with, in tokens.
        original: usize,
        /// Factor on cos and sin, and so, squared, on the attention logits.
        attention_factor: f64,
    },
}

impl Rope {
    /// Reads either spelling. `max_positions` is `max_position_embeddings`, the default of the original context;
    /// `default_theta` is the family's base.
    ///
    /// # Errors
    /// A sentence that names the wrong key.
    pub fn from_config(
        config: &Map<String, Value>,
        head_dim: usize,
        max_positions: usize,
        default_theta: f64,
    ) -> Result<Self, String> {
        let object = |key: &str| match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(format!("`{key}` is {}, expected an object or null", shorten(&other.to_string()))),
        };
        let parameters = object("rope_parameters")?;
        let mut raw = parameters.or(object("rope_scaling")?).cloned().unwrap_or_default();
        if raw.values().any(Value::is_object) {
            return Err("different rope parameters for different layers are not supported".into());
        }
        let inner_theta = raw.shift_remove("rope_theta");
        let inner_partial = raw.shift_remove("partial_rotary_factor");
        let top = |inner: Option<Value>, key: &str, default: f64| match inner.as_ref().or(config.get(key)) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| format!("`{key}` is {}, expected a number above 0", shorten(&v.to_string()))),
        };
        let theta = top(inner_theta, "rope_theta", default_theta)?;
        let partial = top(inner_partial, "partial_rotary_factor", 1.0)?;
        // Ignore nulls, so the two spellings of a key cannot contradict each other.
        raw.retain(|_, value| !value.is_null());
        let kind = match raw.get("rope_type").or(raw.get("type")) {
            None => "default".to_owned(),
            Some(Value::String(kind)) => kind.clone(),
            Some(other) => return Err(format!("`rope_type` is {}, expected a string", shorten(&other.to_string()))),
        };
        let original = context(&raw)?.or(context(config)?).unwrap_or(max_positions);
        let scaling = Fields { raw: &raw, kind: &kind, head_dim, max_positions, original }.scaling()?;
        if scaling == RopeScaling::Default {
            raw.clear();
        }
        Ok(Self { theta, scaling, partial, raw })
    }

    /// Whether a config that [`Rope::from_config`] refuses may be valid: another type, or one object per type of layer.
    pub fn is_of_unknown_type(config: &Map<String, Value>) -> bool {
        let unknown = |rope: &Map<String, Value>| {
            let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str);
            rope.values().any(Value::is_object) || kind.is_some_and(|kind| kind != "su" && !TYPES.contains(&kind))
        };
        ["rope_parameters", "rope_scaling"].into_iter().filter_map(|key| config.get(key)?.as_object()).any(unknown)
    }

    /// The inverse frequencies `[head_dim / 2]` and the factor on cos and sin for a sequence of `length` tokens.
    pub fn frequencies(&self, head_dim: usize, length: usize) -> (Vec<f64>, f64) {
        let half = head_dim / 2;
        let plain =
            |theta: f64| -> Vec<f64> { (0..half).map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64)).collect() };
        match &self.scaling {
            RopeScaling::Default => (plain(self.theta), 1.0),
            RopeScaling::Linear { factor } => (plain(self.theta).into_iter().map(|f| f / factor).collect(), 1.0),
            RopeScaling::Dynamic { factor, original } => {
                let length = length.max(*original) as f64;
                let stretch = factor * length / *original as f64 - (factor - 1.0);
                let power = head_dim as f64 / (head_dim as f64 - 2.0);
                (plain(self.theta * stretch.powf(power)), 1.0)
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention_factor, truncate } => {
                let dimension = |rotations: f64| {
                    head_dim as f64 * (*original as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let stretched = plain(self.theta).into_iter().enumerate().map(|(i, f)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    f / factor * ramp + f * (1.0 - ramp)
                });
                (stretched.collect(), *attention_factor)
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                let original = *original as f64;
                let bend = |f: f64| {
                    let wavelength = 2.0 * PI / f;
                    if wavelength < original / high {
                        f
                    } else if wavelength > original / low {
                        f / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (plain(self.theta).into_iter().map(bend).collect(), 1.0)
            }
            RopeScaling::LongRope { short, long, original, attention_factor } => {
                let divisors = if length > *original { long } else { short };
                (plain(self.theta).into_iter().zip(divisors).map(|(f, d)| f / d).collect(), *attention_factor)
            }
        }
    }
}

/// Llama 3.1's divisors of the frequencies, in f32 as llama.cpp's converter computes them.
pub fn llama3_divisors(theta: f64, head_dim: usize, [factor, low, high]: [f64; 3], original: usize) -> Vec<f32> {
    let [factor, low, high, original] = [factor, low, high, original as f64].map(|x| x as f32);
    let divisor = |pair: usize| {
        let frequency = 1.0 / (theta as f32).powf((2 * pair) as f32 / head_dim as f32);
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(divisor).collect()
}

/// `original_max_position_embeddings`, from either of the two objects that may contain it.
fn context(config: &Map<String, Value>) -> Result<Option<usize>, String> {
    let key = "original_max_position_embeddings";
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_u64().filter(|n| (1..=1 << 31).contains(n)) {
            Some(n) => Ok(Some(n as usize)),
            None => Err(format!("`{key}` is {}, expected a number of tokens", shorten(&v.to_string()))),
        },
    }
}

struct Fields<'a> {
    raw: &'a Map<String, Value>,
    kind: &'a str,
    head_dim: usize,
    max_positions: usize,
    original: usize,
}

impl Fields<'_> {
    fn scaling(&self) -> Result<RopeScaling, String> {
        Ok(match self.kind {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: self.factor()? },
            "dynamic" => RopeScaling::Dynamic { factor: self.factor()?, original: self.max_positions },
            "yarn" => RopeScaling::Yarn {
                factor: self.factor()?,
                original: self.original,
                beta_fast: self.number("beta_fast")?.unwrap_or(32.0),
                beta_slow: self.number("beta_slow")?.unwrap_or(1.0),
                attention_factor: self.yarn_attention_factor()?,
                truncate: match self.raw.get("truncate") {
                    None | Some(Value::Null) => true,
                    Some(v) => v.as_bool().ok_or("rope parameter `truncate` is not true or false")?,
                },
            },
            "llama3" => RopeScaling::Llama3 {
                factor: self.factor()?,
                low: self.required("low_freq_factor")?,
                high: self.required("high_freq_factor")?,
                original: self.original,
            },
            "longrope" | "su" => self.longrope()?,
            other => return Err(format!("rope type `{}` is not supported ({})", shorten(other), TYPES.join(", "))),
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => v.as_f64().filter(|x| x.is_finite() && *x > 0.0).map(Some).ok_or_else(|| {
                format!("rope parameter `{key}` is {}, expected a number above 0", shorten(&v.to_string()))
            }),
        }
    }

    fn required(&self, key: &str) -> Result<f64, String> {
        self.number(key)?.ok_or(format!("rope type `{}` needs `{key}`", self.kind))
    }

    fn factor(&self) -> Result<f64, String> {
        self.required("factor")
    }

    fn yarn_attention_factor(&self) -> Result<f64, String> {
        let factor = self.factor()?;
        let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        Ok(match (self.number("attention_factor")?, self.number("mscale")?, self.number("mscale_all_dim")?) {
            (Some(given), _, _) => given,
            (None, Some(m), Some(all)) => mscale(m) / mscale(all),
            _ => mscale(1.0),
        })
    }

    fn longrope(&self) -> Result<RopeScaling, String> {
        let list = |key: &str| -> Result<Vec<f64>, String> {
            let list =
                self.raw.get(key).and_then(Value::as_array).ok_or(format!("rope type longrope needs `{key}`"))?;
            let numbers: Option<Vec<f64>> = list.iter().map(|v| v.as_f64().filter(|x| *x > 0.0)).collect();
            numbers
                .filter(|n| n.len() == self.head_dim / 2)
                .ok_or(format!("rope parameter `{key}` must be {} numbers above 0", self.head_dim / 2))
        };
        let original = self.original;
        let factor = match self.number("factor")? {
            Some(factor) => factor,
            None => self.max_positions as f64 / original as f64,
        };
        let natural = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        let attention_factor = self.number("attention_factor")?.unwrap_or(natural);
        if !attention_factor.is_finite() {
            return Err(format!("rope type longrope needs a longer original context than {original}"));
        }
        Ok(RopeScaling::LongRope {
            short: list("short_factor")?,
            long: list("long_factor")?,
            original,
            attention_factor,
        })
    }
}

#[cfg(test)]
mod tests;
