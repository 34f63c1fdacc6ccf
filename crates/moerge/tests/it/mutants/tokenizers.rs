//! Hostile components of a `tokenizer.json`: each is valid JSON of a known type, and makes the tokenizers library panic,
//! hang, or turn a short text into a huge one.

use serde_json::{Value, json};

/// The sections of the file with what to put there.
pub fn components() -> Vec<(&'static str, Value)> {
    let sections: [(&str, Vec<Value>); 7] = [
        ("normalizer", normalizers()),
        ("pre_tokenizer", pre_tokenizers()),
        ("post_processor", post_processors()),
        ("decoder", decoders()),
        ("model", models()),
        ("added_tokens", added_tokens()),
        (
            "truncation",
            vec![
                json!({"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}),
                json!({"direction": "Left", "max_length": 2, "strategy": "OnlySecond", "stride": 7}),
            ],
        ),
    ];
    sections.into_iter().flat_map(|(section, values)| values.into_iter().map(move |value| (section, value))).collect()
}

fn replace(kind: &str, pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {kind: pattern}, "content": content})
}

fn normalizers() -> Vec<Value> {
    let sequence = |normalizers: Vec<Value>| json!({"type": "Sequence", "normalizers": normalizers});
    let mut all: Vec<Value> =
        ["", "!", "AAAAAA==", "////////", "BAAAAA==", "BAAAAP///38=", "BAAAAAAAAAA=", "CAAAAP////////8="]
            .map(|map| json!({"type": "Precompiled", "precompiled_charsmap": map}))
            .into();
    all.extend([
        json!({"type": "Precompiled", "precompiled_charsmap": null}),
        json!({"type": "Precompiled"}),
        json!({"type": "Prepend", "prepend": ""}),
        json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)}),
        sequence(vec![json!({"type": "Prepend", "prepend": "x".repeat(250)}); 60]),
        replace("String", "", "x"),
        replace("Regex", "", "x"),
        replace("Regex", "(", "x"),
        replace("Regex", "(a+)+$", "x"),
        replace("Regex", "(?=.)", &"x".repeat(200)),
        replace("Regex", "(.*)*\\1$", "x"),
        replace("String", "a", &"y".repeat(1 << 20)),
        sequence(vec![replace("String", "a", "aa"); 30]),
        sequence((0..20).map(|n| replace("Regex", ".", if n % 2 == 0 { "ab" } else { "é" })).collect()),
        sequence(vec![json!({"type": "ByteLevel"}); 40]),
        (0..40).fold(json!({"type": "NFKD"}), |inner, _| sequence(vec![inner])),
        (0..3).fold(json!({"type": "NFKD"}), |inner, _| sequence(vec![inner; 40])),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
    ]);
    all
}

fn pre_tokenizers() -> Vec<Value> {
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let sequence = |inner: Vec<Value>| json!({"type": "Sequence", "pretokenizers": inner});
    vec![
        json!({"type": "FixedLength", "length": 0}),
        json!({"type": "FixedLength", "length": u64::MAX}),
        split(json!({"String": ""}), "Isolated"),
        split(json!({"Regex": ""}), "Removed"),
        split(json!({"Regex": ".*"}), "MergedWithNext"),
        split(json!({"Regex": "(a|aa)+$"}), "Isolated"),
        split(json!({"Regex": "(?<=x*)y"}), "Isolated"),
        split(json!({"Regex": "\\d{1,100000}{1,1000}"}), "Isolated"),
        json!({"type": "CharDelimiterSplit", "delimiter": ""}),
        json!({"type": "CharDelimiterSplit", "delimiter": "é"}),
        json!({"type": "Metaspace", "replacement": "ab", "prepend_scheme": "always", "split": true}),
        json!({"type": "Metaspace", "replacement": "", "prepend_scheme": "first", "split": true}),
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        sequence(vec![
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
            30
        ]),
        sequence(vec![
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false});
            60
        ]),
        (0..60).fold(json!({"type": "Whitespace"}), |inner, _| sequence(vec![inner])),
        json!({"type": "UnicodeScripts"}),
    ]
}

fn post_processors() -> Vec<Value> {
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let template = |single: Vec<Value>, tokens: Value| json!({"type": "TemplateProcessing", "single": single, "pair": [sequence("A"), sequence("B")], "special_tokens": tokens});
    let defined = |ids: Value, tokens: Value| json!({"x": {"id": "x", "ids": ids, "tokens": tokens}});
    vec![
        template(vec![sequence("A"), token("nowhere")], json!({})),
        template(vec![sequence("B")], json!({})),
        template(vec![sequence("A"); 1000], json!({})),
        template(vec![], json!({})),
        template(vec![sequence("A"), token("x")], defined(json!([1, 2, 3]), json!(["x"]))),
        template(vec![sequence("A"), token("x")], defined(json!([]), json!(["x"]))),
        template(vec![sequence("A"), token("x")], defined(json!([u32::MAX]), json!(["x"]))),
        template(vec![token("x"), sequence("A")], defined(json!(vec![1; 100_000]), json!(vec!["x"; 100_000]))),
        json!({"type": "RobertaProcessing", "sep": ["</s>", u32::MAX], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true}),
        json!({"type": "BertProcessing", "sep": ["", 0], "cls": ["", 0]}),
        json!({"type": "Sequence", "processors": vec![json!({"type": "RobertaProcessing", "sep": ["s", 2], "cls": ["s", 2], "trim_offsets": true, "add_prefix_space": true}); 60]}),
        (0..40).fold(json!({"type": "ByteLevel"}), |inner, _| json!({"type": "Sequence", "processors": [inner]})),
    ]
}

fn decoders() -> Vec<Value> {
    let sequence = |inner: Vec<Value>| json!({"type": "Sequence", "decoders": inner});
    vec![
        json!({"type": "Strip", "content": " ", "start": 1_000_000, "stop": 0}),
        json!({"type": "Strip", "content": "a", "start": 0, "stop": 1_000_000}),
        json!({"type": "Strip", "content": "e", "start": 3, "stop": 3}),
        json!({"type": "Strip", "content": "é", "start": u64::MAX, "stop": u64::MAX}),
        replace("String", "", "x"),
        replace("Regex", "", "x"),
        replace("String", "e", &"y".repeat(1 << 20)),
        sequence(vec![replace("String", "e", "ee"); 30]),
        sequence(vec![json!({"type": "Strip", "content": "e", "start": 2, "stop": 2}); 20]),
        sequence(vec![json!({"type": "Fuse"}), json!({"type": "Strip", "content": "e", "start": 60, "stop": 60})]),
        json!({"type": "WordPiece", "prefix": "", "cleanup": true}),
        json!({"type": "BPEDecoder", "suffix": ""}),
        json!({"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true}),
        json!({"type": "Metaspace", "replacement": "e", "prepend_scheme": "never", "split": true}),
        json!({"type": "ByteFallback"}),
        json!({"type": "ByteLevel"}),
    ]
}

fn models() -> Vec<Value> {
    let bpe = |vocab: Value, merges: Value, more: Value| {
        let mut model = json!({"type": "BPE", "vocab": vocab, "merges": merges});
        if let (Some(model), Value::Object(more)) = (model.as_object_mut(), more) {
            model.extend(more);
        }
        model
    };
    let small = || json!({"a": 0, "b": 1, "ab": 2});
    let word_piece = |max: u64, prefix: &str| {
        json!({"type": "WordPiece", "vocab": {"a": 0, "##b": 1, "[UNK]": 2}, "unk_token": "[UNK]",
            "continuing_subword_prefix": prefix, "max_input_chars_per_word": max})
    };
    vec![
        bpe(small(), json!([["a", "c"]]), json!({})),
        bpe(small(), json!([["ab", "b"]]), json!({})),
        bpe(small(), json!(["a b c d", ""]), json!({})),
        bpe(small(), json!([["a", "b"]]), json!({"continuing_subword_prefix": "prefix"})),
        bpe(small(), json!([["a", "b"]]), json!({"continuing_subword_prefix": "x".repeat(1 << 20)})),
        bpe(small(), json!([["a", "b"]]), json!({"end_of_word_suffix": "x".repeat(1 << 20)})),
        bpe(small(), json!([]), json!({"continuing_subword_prefix": "é", "end_of_word_suffix": "é"})),
        bpe(small(), json!([["a", "b"]]), json!({"dropout": 1.0})),
        bpe(small(), json!([["a", "b"]]), json!({"dropout": -3.0})),
        bpe(small(), json!([["a", "b"]]), json!({"dropout": 1e308})),
        bpe(small(), json!([]), json!({"unk_token": "nowhere", "fuse_unk": true})),
        bpe(small(), json!([]), json!({"byte_fallback": true})),
        bpe(json!({"": 0, "a": 0, "b": u32::MAX}), json!([["a", "b"]]), json!({})),
        bpe(json!({"": 0, "a": 1}), json!([["", "a"], ["a", ""]]), json!({})),
        bpe(json!({"x".repeat(1 << 20): 0}), json!([]), json!({})),
        bpe(json!({"a": 0, "aa": 1}), json!([["a", "a"]]), json!({"ignore_merges": true})),
        bpe(json!({}), json!([]), json!({})),
        json!({"type": "Unigram", "vocab": [], "unk_id": 0}),
        json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
        json!({"type": "Unigram", "vocab": [["", -1.0], ["a", -2.0]], "unk_id": 0}),
        json!({"type": "Unigram", "vocab": [["a", 1e308], ["b", -1e308]], "unk_id": 0, "byte_fallback": true}),
        json!({"type": "Unigram", "vocab": [["a", 0.0], ["a", 0.0]], "unk_id": null}),
        word_piece(0, "##"),
        word_piece(u64::MAX, ""),
        word_piece(100, &"#".repeat(1 << 20)),
        json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "nowhere", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}),
        json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "nowhere"}),
        json!({"type": "WordLevel", "vocab": {}, "unk_token": ""}),
    ]
}

fn added_tokens() -> Vec<Value> {
    let token = |id: Value, content: &str, flags: bool| json!({"id": id, "content": content, "single_word": flags, "lstrip": flags, "rstrip": flags, "normalized": flags, "special": !flags});
    vec![
        json!([token(json!(0), "", false)]),
        json!([token(json!(u32::MAX), "<x>", false)]),
        json!([token(json!(u64::MAX), "<x>", false)]),
        json!([token(json!(7), " ", true), token(json!(7), "e", true)]),
        json!([token(json!(160), &"x".repeat(1 << 20), false)]),
        Value::Array((0..20_000).map(|n| token(json!(200 + n), &format!("<{n}>"), n % 2 == 0)).collect()),
    ]
}
