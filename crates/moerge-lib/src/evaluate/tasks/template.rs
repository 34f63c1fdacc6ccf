//! Templates and expressions over the columns of a row.

use moerge_core::{
    error::{Error, Result},
    progress::Silent,
};
use moerge_infer::jinja::{Failure, Limits, Template};
use serde_json::Value;

use super::task::Row;

/// Far more than any question needs: templates are our own, the columns are not.
const LIMITS: Limits = Limits { steps: 4_000_000, memory: 256 << 20, output: 16 << 20 };

/// A template, or an expression as one.
pub(super) struct Compiled(Template);

impl Compiled {
    /// A template that prints text.
    pub(super) fn text(source: &str) -> Result<Self> {
        Template::parse(source).map(Self).map_err(|failure| failed("a template", &failure))
    }

    /// An expression with any value.
    pub(super) fn expression(source: &str) -> Result<Self> {
        Self::text(&format!("{{{{ ({source}) | tojson }}}}"))
    }

    /// The text for `row`.
    pub(super) fn render(&self, row: &Row) -> Result<String> {
        let variables: Vec<(String, Value)> = row.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        self.0.render(&variables, LIMITS, &Silent).map_err(|failure| failed("its template", &failure))
    }

    /// The value of an expression for `row`.
    pub(super) fn value(&self, row: &Row) -> Result<Value> {
        let json = self.render(row)?;
        serde_json::from_str(&json).map_err(|_| Error::input(format!("its template gives {json}")))
    }
}

fn failed(what: &str, failure: &Failure) -> Error {
    Error::input(format!("{what} fails: {}", moerge_core::suggest::printable(&failure.message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Row {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn templates_print_text_and_expressions_give_values() {
        let arc = row(
            json!({"question": "Why?", "choices": {"text": ["it's", "\"é\""], "label": ["A", "B"]}, "answerKey": "B"}),
        );
        assert_eq!(
            Compiled::text("Question: {{question}}\nAnswer:").unwrap().render(&arc).unwrap(),
            "Question: Why?\nAnswer:"
        );
        assert_eq!(Compiled::expression("choices.text").unwrap().value(&arc).unwrap(), json!(["it's", "\"é\""]));
        let gold = Compiled::expression("choices.label.index(answerKey)").unwrap();
        assert_eq!(gold.value(&arc).unwrap(), json!(1));
        let lambada = row(json!({"text": "the end of it"}));
        let context = Compiled::text("{{text.split(' ')[:-1]|join(' ')}}").unwrap();
        assert_eq!(context.render(&lambada).unwrap(), "the end of");
        assert!(gold.value(&row(json!({"choices": {}}))).is_err());
    }
}
