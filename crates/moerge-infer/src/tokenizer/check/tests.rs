//! Tokenizers that would make the library panic or text grow without bounds, and sound ones.

use serde_json::json;

use super::*;
use crate::tokenizer::problem;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../moerge/tests/golden/llama/tokenizer.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The problem found in the golden tokenizer after replacing one section by `section`.
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
fn attack_03_components_that_make_the_library_panic_are_refused_by_name() {
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
fn attack_03_models_that_make_the_library_panic_are_an_error() {
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
fn attack_08_tokenizers_that_let_text_grow_are_refused() {
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
fn attack_08_growth_is_bounded_through_matches_of_nothing_compatibility_forms_and_long_tokens() {
    let replace = |kind: &str, pattern: &str, content: &str| json!({"type": "Replace", "pattern": {kind: pattern}, "content": content});
    let sequence = |inner: Vec<Value>| json!({"type": "Sequence", "normalizers": inner});
    // Each puts 15 bytes before every character.
    let before_each = replace("Regex", "(?=.)", "abcdefghijklmno");
    assert!(refused("normalizer", sequence(vec![before_each; 2])).contains("times as long"));
    // NFKC makes 18 characters of this one, some of them the letter that it replaces.
    let compatible = vec![replace("String", "ل", "ﷺ"), json!({"type": "NFKC"})];
    assert!(
        refused("normalizer", sequence([compatible.clone(), compatible.clone()].concat())).contains("times as long")
    );
    assert!(
        refused("normalizer", sequence([vec![replace("String", "a", "ﷺﷺﷺ")], compatible].concat())).contains("times")
    );
    // A trie that maps `a` to 64 letters, whose units are the root, the letter, and the place of its replacement.
    let mut units = vec![0u32; 256];
    units[0] = 1 << 10;
    units[1 ^ 0x61] = 0x61 | 1 << 8 | 2 << 10;
    units[1 ^ 0x61 ^ 2] = 1 << 31;
    let mut map = (4 * units.len() as u32).to_le_bytes().to_vec();
    map.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    map.extend([b'x'; 64]);
    map.push(0);
    let map = json!({"type": "Precompiled", "precompiled_charsmap": to_base64(&map)});
    assert!(refused("normalizer", map).contains("replaces 'a' by 64 bytes"));
    let word_piece = json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": u64::MAX});
    assert!(refused("model", word_piece).contains("max_input_chars_per_word"));
    let mut tokenizer = golden();
    tokenizer["model"] = json!({"type": "BPE", "vocab": {"a".repeat(2_000): 0}, "merges": []});
    tokenizer["decoder"] = replace("String", "a", "aaaaaaaaaaaaaaaa");
    assert!(problem(tokenizer.to_string().as_bytes()).unwrap().contains("32000"));
}

fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|at| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize])));
    }
    text
}

#[test]
fn normalizers_of_models_in_use_are_accepted() {
    let replace = |kind: &str, pattern: &str, content: &str| json!({"type": "Replace", "pattern": {kind: pattern}, "content": content});
    let sequence = |inner: Vec<Value>| json!({"type": "Sequence", "normalizers": inner});
    let nfkc = json!({"type": "NFKC"});
    for normalizer in [
        // Llama 2, Gemma.
        sequence(vec![json!({"type": "Prepend", "prepend": "▁"}), replace("String", " ", "▁")]),
        // XLM-R and ALBERT, with NFKC in the place of its precompiled form.
        sequence(vec![nfkc.clone(), replace("Regex", " {2,}", "▁")]),
        sequence(vec![
            replace("String", "``", "\""),
            replace("String", "''", "\""),
            json!({"type": "NFKD"}),
            json!({"type": "StripAccents"}),
            json!({"type": "Lowercase"}),
            replace("Regex", " {2,}", " "),
        ]),
        sequence(vec![json!({"type": "Nmt"}), nfkc, replace("Regex", "\\s+", " ")]),
    ] {
        let mut tokenizer = golden();
        tokenizer["normalizer"] = normalizer.clone();
        assert_eq!(problem(tokenizer.to_string().as_bytes()), None, "{normalizer}");
    }
}

#[test]
fn attack_08_a_tokenizer_at_the_limit_takes_a_long_text_in_time_and_refuses_a_longer_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut tokenizer = golden();
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": [replace.clone(), replace]});
    tokenizer["pre_tokenizer"] = json!({"type": "WhitespaceSplit"});
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let tokenizer = crate::tokenizer::Tokenizer::open(&moerge_checkpoint::LocalStorage, dir.path()).unwrap();
    let begin = std::time::Instant::now();
    let tokens = tokenizer.encode(&"a ".repeat(10_000)).unwrap();
    assert!(!tokens.is_empty() && tokens.len() <= 640_000 + 20_000, "{}", tokens.len());
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    let refused = tokenizer.encode(&"a".repeat(300_000)).unwrap_err().to_string();
    assert!(refused.contains("more than the limit of 262144"), "{refused}");
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
