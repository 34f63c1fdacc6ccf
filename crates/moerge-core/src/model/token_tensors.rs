//! The tensors with a row for each token: embeddings and heads, by their names in any architecture.

/// Modules that are embeddings (`nn.Embedding`).
const EMBEDDINGS: [&str; 6] = ["embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings"];
/// Modules that are heads, which are linear layers.
const HEADS: [&str; 2] = ["lm_head", "embed_out"];

/// Heads by the names of the embeddings that they can be tied to.
pub const TIED_HEADS: [(&str, &str); 6] = [
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "model.language_model.embed_tokens.weight"),
    ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"),
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "model.decoder.embed_tokens.weight"),
    ("embed_out.weight", "gpt_neox.embed_in.weight"),
];

/// Whether `name` is the weight of embeddings.
pub fn is_embeddings(name: &str) -> bool {
    module(name).is_some_and(|module| EMBEDDINGS.contains(&module))
}

/// Whether `name` is the weight of a head.
pub fn is_head(name: &str) -> bool {
    module(name).is_some_and(|module| HEADS.contains(&module))
}

/// Whether the tensor `name` has a row for each token.
pub fn has_row_per_token(name: &str) -> bool {
    is_embeddings(name) || is_head(name)
}

/// Whether `name` is a head of [`TIED_HEADS`].
pub fn can_be_tied(name: &str) -> bool {
    TIED_HEADS.iter().any(|(head, _)| *head == name)
}

/// The last part of a weight's name: `wte` of `transformer.wte.weight`.
fn module(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")?.rsplit('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_of_names_count() {
        for name in ["model.embed_tokens.weight", "embeddings.word_embeddings.weight", "backbone.embeddings.weight"] {
            assert!(is_embeddings(name) && has_row_per_token(name) && !is_head(name), "{name}");
        }
        for name in ["lm_head.weight", "embed_out.weight", "language_model.lm_head.weight"] {
            assert!(is_head(name) && has_row_per_token(name) && !is_embeddings(name), "{name}");
        }
        for name in ["embeddings.position_embeddings.weight", "lm_head.bias", "wte", "model.norm.weight", ""] {
            assert!(!has_row_per_token(name), "{name}");
        }
        assert!(TIED_HEADS.iter().all(|(head, embeddings)| is_head(head) && is_embeddings(embeddings)));
    }
}
