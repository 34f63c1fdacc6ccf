//! Any text as a `tokenizer.json`: it is opened or refused without a panic, a hang or much memory; what is opened
//! encodes and decodes a short text, and does not make it grow without bound.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moerge_checkpoint::SimulatedDisk;
use moerge_infer::tokenizer::Tokenizer;

const TEXT: &str = "Hello  world, 12.5 times!\n\té 日本 🦀 <s></s>";

fuzz_target!(|text: &str| {
    let disk = SimulatedDisk::new();
    disk.put("model/tokenizer.json", text.as_bytes());
    disk.put("model/tokenizer_config.json", br#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
    let Ok(tokenizer) = Tokenizer::open(&disk, Path::new("model")) else { return };
    let Ok(tokens) = tokenizer.encode(TEXT) else { return };
    assert!(tokens.len() <= 64 * TEXT.len() + 256, "{} tokens", tokens.len());
    if let Ok(text) = tokenizer.decode(&tokens) {
        assert!(text.len() <= 4 << 20, "{} bytes", text.len());
    }
    if let Ok((tokens, ends)) = tokenizer.encode_with_ends(TEXT) {
        assert_eq!(tokens.len(), ends.len());
        assert!(ends.is_sorted() && ends.iter().all(|end| *end <= TEXT.len()));
    }
    let _ = (tokenizer.beginning(), tokenizer.last_token(), tokenizer.encode_windows(TEXT, 8));
});
