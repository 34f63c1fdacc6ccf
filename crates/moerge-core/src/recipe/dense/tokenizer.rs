//! Reads `tokenizer_source`, or the section `tokenizer`.

use super::{DenseRecipe, TokenRule, TokenSource, Tokenizer, TokenizerSource};
use crate::{
    error::Result,
    recipe::{
        Located, ModelRef,
        fields::{Field, Fields},
        model_ref_field::read_model_ref,
        source::Source,
        yaml::Kind,
    },
};

/// The largest sensible padding.
const MAX_MULTIPLE: u64 = 1 << 20;

/// Reads the output's tokenizer.
pub fn read(source: &Source, fields: &Fields) -> Option<Located<Tokenizer>> {
    let short = fields.read("tokenizer_source", |field| {
        let of = read_source(source, field)?;
        Ok(Located {
            value: Tokenizer { source: of, tokens: Vec::new(), pad_to_multiple_of: None },
            span: field.span(),
        })
    });
    let long = fields.read("tokenizer", |field| read_section(source, field));
    if let (Some(_), Some(long)) = (&short, &long) {
        source.fault(|| {
            source
                .error("the recipe has both `tokenizer` and `tokenizer_source`", long.span.clone(), "")
                .hint("keep one of the two")
        });
    }
    short.or(long)
}

/// Notes a fault where a row or the tokenizer is that of a model that is not merged.
pub fn check_models(source: &Source, recipe: &DenseRecipe) {
    let Some(tokenizer) = &recipe.tokenizer else { return };
    let named = |reference: &ModelRef| recipe.models().any(|model| model.value == *reference);
    if let TokenizerSource::Model(model) = &tokenizer.source
        && !named(model)
    {
        source.fault(|| {
            source
                .error("the tokenizer is that of a model that the recipe does not merge", tokenizer.span.clone(), "")
                .hint("name one of the recipe's models, `base` or `union`")
        });
    }
    for from in tokenizer.tokens.iter().filter_map(|rule| rule.source.as_ref()) {
        let model = match &from.value {
            TokenSource::Zeros => continue,
            TokenSource::Model(model) | TokenSource::Token(model, _) | TokenSource::Id(model, _) => model,
        };
        if !named(model) {
            source.fault(|| {
                source.error("the row comes from a model that the recipe does not merge", from.span.clone(), "")
            });
        }
    }
}

fn read_section(source: &Source, field: Field) -> Result<Located<Tokenizer>> {
    let fields = Fields::open(source, field.node(), "the tokenizer", &["source", "tokens", "pad_to_multiple_of"])?;
    let of = match fields.get("source") {
        Some(field) => read_source(source, field)?,
        // mergekit's default where there is a section.
        None => TokenizerSource::Union,
    };
    let tokens = fields.read("tokens", |field| {
        let Kind::Map(entries) = &field.node().kind else { return Err(field.wrong("tokens with their sources")) };
        let rule = |entry| source.keep(read_rule(source, Field::of(source, entry)));
        Ok(entries.iter().filter_map(rule).collect())
    });
    let multiple = fields.read("pad_to_multiple_of", |field| match field.whole_number()? {
        0 | MAX_MULTIPLE.. => Err(field.wrong("a number of rows, such as 64")),
        multiple => Ok(multiple as usize),
    });
    let value = Tokenizer { source: of, tokens: tokens.unwrap_or_default(), pad_to_multiple_of: multiple };
    Ok(Located { value, span: field.span() })
}

fn read_source(source: &Source, field: Field) -> Result<TokenizerSource> {
    let word = match &field.node().kind {
        Kind::Scalar(scalar) => scalar.text.trim(),
        _ => "",
    };
    Ok(match word {
        "base" => TokenizerSource::Base,
        "union" => TokenizerSource::Union,
        _ => TokenizerSource::Model(read_model_ref(field, source)?.value),
    })
}

fn read_rule(source: &Source, field: Field) -> Result<TokenRule> {
    let fields = Fields::open(source, field.node(), "the token", &["source", "force"])?;
    let from = fields.get("source").map(|field| read_token_source(source, field)).transpose()?;
    let force = match fields.get("force") {
        None => false,
        Some(field) => match field.text()?.text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(field.wrong("true or false")),
        },
    };
    Ok(TokenRule { token: field.key().to_owned(), source: from, force })
}

/// A model, `{kind: zero}`, or `{kind: model_token, model, token | token_id}`.
fn read_token_source(source: &Source, field: Field) -> Result<Located<TokenSource>> {
    let span = field.span();
    let has_kind = match &field.node().kind {
        Kind::Map(entries) => entries.iter().any(|entry| entry.key.value == "kind"),
        _ => false,
    };
    if !has_kind {
        return Ok(Located { value: TokenSource::Model(read_model_ref(field, source)?.value), span });
    }
    let fields = Fields::open(source, field.node(), "the source", &["kind", "model", "token", "token_id"])?;
    let kind = fields.required("kind", "add `kind: model_token`")?.one_of(&[("zero", true), ("model_token", false)])?;
    if kind.value {
        return Ok(Located { value: TokenSource::Zeros, span });
    }
    let model = read_model_ref(fields.required("model", "add `model: org/name`")?, source)?.value;
    let value = match (fields.get("token"), fields.get("token_id")) {
        (Some(token), None) => TokenSource::Token(model, token.text()?.text.clone()),
        (None, Some(id)) => TokenSource::Id(model, usize::try_from(id.whole_number()?).unwrap_or(usize::MAX)),
        _ => return Err(field.error("a `model_token` has a `token` or a `token_id`")),
    };
    Ok(Located { value, span })
}
