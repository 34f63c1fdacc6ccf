//! Keys of dense recipes, and those that other tools and model cards have.

use crate::recipe::foreign_keys::{CARD_KEYS, ForeignKeys, ignored};

/// Keys of a recipe.
pub(super) const RECIPE: [&str; 13] = [
    "merge_method",
    "base_model",
    "models",
    "slices",
    "modules",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer",
    "tokenizer_source",
    "chat_template",
    "random_seed",
    "name",
];

/// Keys of a model.
pub(super) const MODEL: [&str; 2] = ["model", "parameters"];

/// Keys of a slice.
pub(super) const SLICE: [&str; 3] = ["sources", "base_model", "parameters"];

/// Keys of a source of a slice.
pub(super) const SOURCE: [&str; 3] = ["model", "layer_range", "parameters"];

const PARAMETER: &str = "write it under `parameters:`";

/// At the top of a recipe.
pub(super) const OF_RECIPE: ForeignKeys = ForeignKeys {
    ignored: &[
        CARD_KEYS,
        &[
            ignored("int8_mask", "masks take no memory here"),
            ignored("trust_remote_code", "no code of a model is ever run"),
            ignored("lazy_unpickle", "it is an option of mergekit that is not needed here"),
            ignored("low_cpu_memory", "it is an option of mergekit that is not needed here"),
            ignored("copy_tokenizer", "the tokenizer is always copied"),
        ],
    ],
    renamed: &[("seed", "random_seed"), ("method", "merge_method"), ("layers", "slices")],
    refused: &[
        ("weight", PARAMETER),
        ("density", PARAMETER),
        ("normalize", PARAMETER),
        ("lambda", PARAMETER),
        ("rescale", PARAMETER),
        ("t", PARAMETER),
        ("sources", "a slice has `sources`: write them under `slices:`"),
    ],
};

/// In a model, a slice or a source of one.
pub(super) const OF_PART: ForeignKeys = ForeignKeys {
    ignored: &[&[
        ignored("name", "the models are told apart by `model`"),
        ignored("description", "it describes the model, and the recipe is kept with the output"),
        ignored("residual_weight", "mergekit does not read it either"),
    ]],
    renamed: &[("source_model", "model"), ("layers", "layer_range")],
    refused: &[
        ("weight", PARAMETER),
        ("density", PARAMETER),
        ("gamma", PARAMETER),
        ("epsilon", PARAMETER),
        ("scale", PARAMETER),
        ("t", PARAMETER),
        ("lora", "write `model: model+adapter`"),
        ("revision", "write `model: org/name@revision`"),
    ],
};
