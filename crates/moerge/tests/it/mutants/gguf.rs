//! GGUF files with broken bytes: lengths, counts, types and numbers of the header, or a missing end.

use std::{fs, path::Path};

use crate::common::{golden, moerge_ok};

use super::random::Random;

/// Models of every kind of tokenizer metadata and tensor layout that the golden models have.
const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3_moe", "qwen2_moe", "llama3_rope"];

/// Writes `model.gguf` into `root`, broken; says how.
pub fn write(root: &Path, random: &mut Random) -> String {
    let family = random.pick(&FAMILIES);
    let quant = random.pick(&["f32", "q8_0", "bf16"]);
    let model = golden(family);
    moerge_ok(root, &["export", model.to_str().unwrap(), "model.gguf", "--quant", quant, "-q"]);
    let path = root.join("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    // Tensors' bytes are far more than the header's.
    let header = bytes.len().min(12_000);
    let changes: Vec<String> = (0..=random.below(3)).map(|_| mutate(&mut bytes, header, random)).collect();
    fs::write(&path, bytes).unwrap();
    format!("{family} in {quant}: {}", changes.join(", "))
}

fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) -> String {
    let at = random.below(header.min(bytes.len()).max(1));
    match random.below(5) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            let value = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
            bytes[at] = value;
            format!("byte {at} is {value}")
        }
        2 => {
            let value = random.pick(&[0, 1, u64::MAX, 1 << 31, 1 << 40, 1 << 62]);
            overwrite(bytes, at, &value.to_le_bytes());
            format!("number {value} at {at}")
        }
        3 => {
            let from = random.below(header);
            let part = bytes[from.min(bytes.len())..(from + 40).min(bytes.len())].to_vec();
            overwrite(bytes, at, &part);
            format!("bytes from {from} at {at}")
        }
        _ => {
            let float = random.pick(&[f32::NAN, f32::INFINITY, 0.0, -1.0, 1e-30]);
            overwrite(bytes, at, &float.to_le_bytes());
            format!("float {float} at {at}")
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes.iter_mut().skip(at).zip(part).for_each(|(byte, own)| *byte = *own);
}
