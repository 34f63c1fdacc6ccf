//! Values of a merge parameter: one number, a gradient over the layers, or either for the tensors that a filter picks.

use std::{collections::BTreeMap, ops::Range};

use crate::recipe::Located;

/// The parameters of one level of a recipe, by name.
pub type Parameters = BTreeMap<String, Located<Setting>>;

/// A parameter as a recipe gives it: the first condition that holds for a tensor decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting(pub Vec<Condition>);

/// A value for some tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Text that the tensor's name has in it; `None` for all tensors.
    pub filter: Option<String>,
    /// One value, or a gradient from the first layer to the last. Flags are 0 and 1.
    pub values: Vec<f64>,
    /// Where the recipe gives it.
    pub span: Range<usize>,
}

impl Setting {
    /// The same value everywhere.
    pub fn constant(value: f64) -> Self {
        Self(vec![Condition { filter: None, values: vec![value], span: 0..0 }])
    }

    /// The value for the tensor `name` at `t`, where 0 is the first layer and 1 the last. `None` where no condition
    /// holds. `discrete` values are picked rather than interpolated, as mergekit does with flags.
    pub fn at(&self, name: &str, t: f64, discrete: bool) -> Option<f64> {
        let values = &self.0[self.deciding(name)?].values;
        let last = values.len().checked_sub(1)?;
        let at = t * last as f64;
        let index = (at as usize).min(last);
        if discrete {
            return values.get(index).copied();
        }
        let share = at - index as f64;
        let next = (index + 1).min(last);
        Some((1.0 - share) * values[index] + share * values[next])
    }

    /// The number of the first condition that holds for the tensor `name`.
    pub fn deciding(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|condition| condition.holds(name))
    }
}

impl Condition {
    /// Whether it is for the tensor `name`.
    pub fn holds(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(values: &[f64]) -> Setting {
        Setting(vec![Condition { filter: None, values: values.to_vec(), span: 0..0 }])
    }

    #[test]
    fn a_gradient_is_piecewise_linear_between_its_values() {
        let setting = gradient(&[0.0, 1.0, 0.5]);
        for (t, expected) in [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 0.75), (1.0, 0.5)] {
            assert_eq!(setting.at("", t, false), Some(expected), "{t}");
        }
        assert_eq!(gradient(&[0.3]).at("", 0.7, false), Some(0.3));
        assert_eq!(gradient(&[]).at("", 0.7, false), None);
        let flags = gradient(&[0.0, 1.0]);
        assert_eq!((flags.at("", 0.9, true), flags.at("", 1.0, true)), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn the_first_filter_that_is_in_the_name_decides() {
        let condition =
            |filter: Option<&str>, value| Condition { filter: filter.map(Into::into), values: vec![value], span: 0..0 };
        let setting =
            Setting(vec![condition(Some("self_attn"), 0.1), condition(Some("mlp"), 0.2), condition(None, 0.3)]);
        assert_eq!(setting.at("model.layers.0.mlp.up_proj.weight", 0.0, false), Some(0.2));
        assert_eq!(setting.at("model.norm.weight", 0.0, false), Some(0.3));
        assert_eq!(Setting(vec![condition(Some("mlp"), 0.2)]).at("model.norm.weight", 0.0, false), None);
    }
}
