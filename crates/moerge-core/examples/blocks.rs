//! Encodes rows of f32 to blocks, or decodes blocks to f32, from standard input to standard output.
//!
//!     cargo run --release -p moerge-core --example blocks -- encode q4_K 4096 < weights.f32 > blocks
//!     cargo run --release -p moerge-core --example blocks -- encode q4_K 4096 importance.f32 < weights.f32 > blocks
//!     cargo run --release -p moerge-core --example blocks -- decode q4_K 4096 < blocks > weights.f32
//!
//! `tests/it/blocks/compare.py` compares whole models with ggml by it.

use std::{
    error::Error,
    io::{Read, Write},
};

use moerge_checkpoint::BlockType;
use moerge_core::numeric::blocks::{decode_row, encode_row, row_bytes};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, name, columns, rest @ ..] = &args[..] else {
        return Err("expected: encode|decode TYPE COLUMNS [IMPORTANCE]".into());
    };
    let block = *BlockType::ALL.iter().find(|block| block.name().eq_ignore_ascii_case(name)).ok_or("no such type")?;
    let columns: usize = columns.parse()?;
    let row_bytes = row_bytes(block, columns).ok_or("rows are not whole blocks")?;
    let importance = rest.first().map(std::fs::read).transpose()?.map(|bytes| floats(&bytes));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut blocks, mut weights) = (vec![0; row_bytes], vec![0; columns * 4]);
    if what == "encode" {
        while input.read_exact(&mut weights).is_ok() {
            encode_row(block, &floats(&weights), importance.as_deref(), &mut blocks)
                .map_err(|e| e.parts().message.clone())?;
            output.write_all(&blocks)?;
        }
    } else {
        let mut row = vec![0.0; columns];
        while input.read_exact(&mut blocks).is_ok() {
            decode_row(block, &blocks, &mut row).map_err(|e| e.parts().message.clone())?;
            output.write_all(&row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        }
    }
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
