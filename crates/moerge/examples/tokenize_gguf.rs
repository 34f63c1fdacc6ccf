//! Tokenizes texts with the tokenizer of a GGUF file: a JSON string a line on stdin, a JSON array of ids a line on stdout,
//! without the tokens that are put around a text. `tests/interop/gguf_reading.py` compares them with llama.cpp's.

use std::{io::BufRead as _, path::Path};

use moerge_checkpoint::{LocalStorage, gguf::GgufFile};
use moerge_core::model::gguf::tokenizer_json;

fn main() {
    let path = std::env::args().nth(1).expect("a GGUF file");
    let file = GgufFile::open(&LocalStorage, Path::new(&path)).expect("a GGUF file");
    let json = tokenizer_json(&file).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    });
    let tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string()).expect("a tokenizer");
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line.expect("a line")).expect("a JSON string");
        let ids = tokenizer.encode(text, false).expect("tokens");
        println!("{}", serde_json::to_string(ids.get_ids()).expect("JSON"));
    }
}
