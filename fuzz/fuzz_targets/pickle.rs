//! Any bytes as a `pytorch_model.bin`, and as the pickle in one: they never panic, never hang, and every tensor of what is
//! accepted is inside the file.
#![no_main]

use std::io;

use moerge_checkpoint::{ReadAt, pickle};
use libfuzzer_sys::fuzz_target;

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.0.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(&self.0[offset as usize..end as usize]);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tensors) = pickle::read_tensors(&Bytes(bytes)) {
        assert!(tensors.iter().all(|t| t.begin <= t.end && t.end <= bytes.len() as u64));
    }
    let stored = pickle::StoredBytes { offset: 64, len: 48 };
    if let Ok(tensors) = pickle::tensors_of(bytes, &mut |_| Some(stored)) {
        assert!(tensors.iter().all(|t| t.begin >= 64 && t.begin <= t.end && t.end <= 112));
    }
});
