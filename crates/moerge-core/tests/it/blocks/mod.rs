//! The block types against ggml, whose bytes lie beside this file. `make.py` made them.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{BlockType, Checkpoint, LocalStorage, ReadStorage};
use moerge_core::numeric::blocks::{decode_row, encode_row, row_bytes};

fn open(file: &str) -> Checkpoint {
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/blocks").join(file);
    Checkpoint::open_file(&storage, &path).unwrap()
}

fn bytes(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    checkpoint.get(name).unwrap_or_else(|| panic!("no {name}")).read().unwrap()
}

fn numbers(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    bytes(checkpoint, name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Blocks of `ours` that are not those of `theirs`.
fn different(block: BlockType, ours: &[u8], theirs: &[u8]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    let size = block.bytes();
    ours.chunks(size).zip(theirs.chunks(size)).filter(|(a, b)| a != b).count()
}

#[test]
fn encoded_rows_are_ggml_s_byte_for_byte() {
    let (rows, expected) = (open("rows.safetensors"), open("expected.safetensors"));
    let names: Vec<&str> = rows.tensors().map(|t| &*t.name).filter(|n| !n.starts_with("importance")).collect();
    assert!(names.len() > 30);
    let mut wrong = Vec::new();
    for name in names {
        let row = numbers(&rows, name);
        let importance = numbers(&rows, &format!("importance.{}", row.len()));
        for &block in BlockType::ALL {
            for (suffix, importance) in [("", None), (".importance", Some(&importance[..]))] {
                let mut ours = vec![0xa5; row_bytes(block, row.len()).unwrap()];
                encode_row(block, &row, importance, &mut ours).unwrap();
                let key = format!("{name}.{}{suffix}", block.name());
                let theirs = bytes(&expected, &key);
                let different = different(block, &ours, &theirs);
                if different > 0 {
                    wrong.push(format!("{key}: {different} of {}", theirs.len() / block.bytes()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn decoded_rows_are_ggml_s_bit_for_bit() {
    let golden = open("decoded.safetensors");
    for &block in BlockType::ALL {
        let (row, theirs) = (
            bytes(&golden, &format!("{}.bytes", block.name())),
            numbers(&golden, &format!("{}.weights", block.name())),
        );
        let mut ours = vec![f32::NAN; theirs.len()];
        decode_row(block, &row, &mut ours).unwrap();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&ours), bits(&theirs), "{}", block.name());
    }
}
