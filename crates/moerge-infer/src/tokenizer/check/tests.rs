use serde_json::json;

use super::*;
use crate::tokenizer::problem;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../moerge/tests/golden/llama/tokenizer.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What is said of the golden tokenizer with `section` in the place of its own.
fn refused(section: &str, value: Value) -> String {
    let mut tokenizer = golden();
    tokenizer[section] = value.clone();
    problem(tokenizer.to_string().as_bytes()).unwrap_or_else(|| panic!("{section} {value} is accepted"))
}

#[test]
fn the_golden_tokenizer_is_sound() {
    assert_eq!(problem(golden().to_string().as_bytes()), None);
}

#[test]
fn components_that_make_the_library_panic_are_refused_by_name() {
    let precompiled = |map: Value| json!({"type": "Precompiled", "precompiled_charsmap": map});
    for map in
        [json!(""), json!("AAAAAA=="), json!("////////"), json!("BAAAAA=="), json!("!"), json!("CAAAAP////////8=")]
    {
        assert!(!refused("normalizer", precompiled(map)).is_empty());
    }
    refused("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": null}));
    assert!(refused("normalizer", json!({"type": "Prepend", "prepend": ""})).contains("Prepend"));
    for kind in ["String", "Regex"] {
        let replace = json!({"type": "Replace", "pattern": {kind: ""}, "content": "x"});
        assert!(refused("normalizer", replace.clone()).contains("Replace"));
        assert!(refused("decoder", replace).contains("Replace"));
    }
    assert!(refused("pre_tokenizer", json!({"type": "FixedLength", "length": 0})).contains("FixedLength"));
    assert!(
        refused("decoder", json!({"type": "Strip", "content": " ", "start": 0, "stop": 1_000_000})).contains("Strip")
    );
    assert!(
        refused("decoder", json!({"type": "Strip", "content": " ", "start": 1_000_000, "stop": 0})).contains("Strip")
    );
}

#[test]
fn templates_use_one_sequence_and_tokens_that_they_define() {
    let template = |single: Value, tokens: Value| {
        let pair = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]);
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
    };
    let a = json!({"Sequence": {"id": "A", "type_id": 0}});
    let b = json!({"Sequence": {"id": "B", "type_id": 0}});
    let x = json!({"SpecialToken": {"id": "x", "type_id": 0}});
    assert!(refused("post_processor", template(json!([a, x]), json!({}))).contains("`x`"));
    assert!(refused("post_processor", template(json!([b]), json!({}))).contains("second sequence"));
    assert!(refused("post_processor", template(json!(vec![a.clone(); 1000]), json!({}))).contains("1000 times"));
    assert!(refused("post_processor", template(json!([]), json!({}))).contains("0 times"));
    let many = json!({"x": {"id": "x", "ids": vec![1; 1_000], "tokens": vec!["x"; 1_000]}});
    assert!(refused("post_processor", template(json!([a, x]), many)).contains("1000 special tokens"));
}

#[test]
fn models_that_make_the_library_panic_are_an_error() {
    let bpe = |prefix: &str, merges: Value| json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": merges, "continuing_subword_prefix": prefix});
    refused("model", bpe("", json!([["a", "c"]])));
    refused("model", bpe("", json!([["ab", "b"]])));
    refused("model", bpe("prefix", json!([["a", "b"]])));
    refused("model", bpe("", json!(["a b c d"])));
    refused("model", json!({"type": "Unigram", "vocab": [], "unk_id": 0}));
    refused("model", json!({"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}));
    let long = "a".repeat(100_000);
    assert!(refused("model", json!({"type": "BPE", "vocab": {long: 0}, "merges": []})).contains("100000 bytes"));
}

#[test]
fn tokenizers_that_let_text_grow_are_refused() {
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    let chained = json!({"type": "Sequence", "normalizers": vec![replace.clone(); 5]});
    assert!(refused("normalizer", chained).contains("times as long"));
    assert!(refused("decoder", json!({"type": "Sequence", "decoders": vec![replace; 5]})).contains("times as long"));
    let megabyte = "x".repeat(1 << 20);
    assert!(refused("normalizer", json!({"type": "Prepend", "prepend": megabyte})).contains("Prepend"));
    let levels = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    refused("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": vec![levels; 20]}));
}

#[test]
fn nested_sequences_are_bounded() {
    for (section, list) in [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
        ("decoder", "decoders"),
        ("post_processor", "processors"),
    ] {
        let nested =
            (0..20).fold(json!({"type": "Sequence", list: []}), |inner, _| json!({"type": "Sequence", list: [inner]}));
        assert!(refused(section, nested).contains("nested"));
        let wide = json!({"type": "Sequence", list: vec![json!({"type": "Sequence", list: []}); 1000]});
        assert!(refused(section, wide).contains("components"));
    }
}
