//! Known keys of recipes that moerge does not use.
//!
//! mergekit-moe ignores every key it does not know, so public recipes carry keys of mergekit's other commands and of
//! model cards. Those get a warning. A key that would change the result if it were read is an error, and so is every
//! key that is not listed here: it is likely a slip.

/// A key without effect.
pub(super) struct IgnoredKey {
    pub key: &'static str,
    /// Why it has none.
    pub why: &'static str,
    /// Values, in lower case, that match moerge's behaviour, so no warning is needed.
    pub agreed: &'static [&'static str],
}

/// Keys of a mapping that are none of ours.
#[derive(Clone, Copy, Default)]
pub(super) struct ForeignKeys {
    /// Tables of keys.
    pub ignored: &'static [&'static [IgnoredKey]],
    /// Names that other tools have for keys of ours, with these.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Keys with what to write instead.
    pub refused: &'static [(&'static str, &'static str)],
}

impl ForeignKeys {
    pub fn ignored(&self, key: &str) -> Option<&'static IgnoredKey> {
        self.ignored.iter().copied().flatten().find(|ignored| ignored.key == key)
    }

    pub fn renamed(&self, key: &str) -> Option<&'static str> {
        self.renamed.iter().find(|(name, _)| *name == key).map(|(_, ours)| *ours)
    }

    pub fn refused(&self, key: &str) -> Option<&'static str> {
        self.refused.iter().find(|(name, _)| *name == key).map(|(_, hint)| *hint)
    }
}

pub(super) const fn ignored(key: &'static str, why: &'static str) -> IgnoredKey {
    IgnoredKey { key, why, agreed: &[] }
}

const TOKENIZER: &str = "the output has the tokenizer of the base";
const DENSE_ONLY: &str = "it belongs to merges of dense models";
const CARD_ONLY: &str = "it describes the model, and the recipe is kept with the output";
const ROUTED: &str = "experts are weighted by the routers";
const FLAG: &str = "it is an option of mergekit that is not needed here";
const TOP_LEVEL: &str = "it applies to the whole output; write it at the top level";

/// Keys of model cards that people write into recipes.
pub(super) const CARD_KEYS: &[IgnoredKey] = &[
    ignored("model_name", CARD_ONLY),
    ignored("description", CARD_ONLY),
    ignored("license", CARD_ONLY),
    ignored("tags", CARD_ONLY),
    ignored("language", CARD_ONLY),
    ignored("author", CARD_ONLY),
    ignored("version", CARD_ONLY),
    ignored("notes", CARD_ONLY),
    ignored("comment", CARD_ONLY),
    ignored("library_name", CARD_ONLY),
    ignored("pipeline_tag", CARD_ONLY),
    ignored("datasets", CARD_ONLY),
];

/// At the top of a recipe for an MoE.
pub(super) const OF_RECIPE: ForeignKeys = ForeignKeys {
    ignored: &[
        CARD_KEYS,
        &[
            IgnoredKey {
                key: "merge_method",
                why: "a recipe with `experts` makes a Mixture of Experts",
                agreed: &["moe", "mixtral", "mergekit-moe", "mergekit_moe"],
            },
            IgnoredKey { key: "tokenizer_source", why: TOKENIZER, agreed: &["base"] },
            IgnoredKey { key: "tokenizer", why: TOKENIZER, agreed: &["base"] },
            IgnoredKey { key: "chat_template", why: "the output has the chat template of the base", agreed: &["base"] },
            ignored("out_dtype", "`dtype` sets the type of the output"),
            ignored("parameters", DENSE_ONLY),
            ignored("normalize", DENSE_ONLY),
            ignored("int8_mask", DENSE_ONLY),
            ignored("rescale", DENSE_ONLY),
            ignored("name", CARD_ONLY),
            ignored("trust_remote_code", "no code of a model is ever run"),
            ignored("lazy_unpickle", FLAG),
            ignored("low_cpu_memory", FLAG),
            ignored("copy_tokenizer", FLAG),
            ignored("load_in_4bit", FLAG),
            ignored("load_in_8bit", FLAG),
            ignored("device", FLAG),
            ignored("cuda", FLAG),
            ignored("write_model_card", FLAG),
        ],
    ],
    renamed: &[
        ("seed", "random_seed"),
        ("num_experts_per_tok", "experts_per_token"),
        ("top_k", "experts_per_token"),
        ("model", "base_model"),
        ("shared_expert", "shared_experts"),
    ],
    refused: &[
        ("slices", "it builds a dense model: write it as a document before this one, with a `name`"),
        ("models", "list the models under `experts`"),
        ("modules", "it builds a dense model: write it as a document before this one, with a `name`"),
        ("num_experts", "the number of experts is the length of `experts`"),
        ("num_local_experts", "the number of experts is the length of `experts`"),
    ],
};

/// In an expert.
pub(super) const OF_EXPERT: ForeignKeys = ForeignKeys {
    ignored: &[&[
        ignored("name", CARD_ONLY),
        ignored("description", CARD_ONLY),
        ignored("comment", CARD_ONLY),
        ignored("notes", CARD_ONLY),
        ignored("tags", CARD_ONLY),
        ignored("weight", ROUTED),
        ignored("density", DENSE_ONLY),
        ignored("parameters", DENSE_ONLY),
        ignored("dtype", TOP_LEVEL),
        ignored("gate_mode", TOP_LEVEL),
        IgnoredKey { key: "tokenizer_source", why: TOKENIZER, agreed: &["base"] },
    ]],
    renamed: &[
        ("model", "source_model"),
        ("source", "source_model"),
        ("prompts", "positive_prompts"),
        ("prompts_file", "positive_prompts_file"),
    ],
    refused: &[
        ("lora", "write `source_model: model+adapter`"),
        ("adapter", "write `source_model: model+adapter`"),
        ("revision", "write `source_model: org/name@revision`"),
        ("layer_range", "write `layers: 0-11`; both ends are included"),
    ],
};

/// In the mapping form of a model: MoE merges look at `model_type` only, here as in mergekit.
pub(super) const OF_MODEL: ForeignKeys = ForeignKeys {
    ignored: &[&[
        ignored("override_architecture", "the model's `model_type` decides"),
        ignored("tokenizer_source", TOKENIZER),
    ]],
    renamed: &[("adapter", "lora")],
    refused: &[("revision", "write `model: {path: .., revision: ..}`")],
};
