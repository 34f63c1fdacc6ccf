//! Any bytes as a GGUF file: reading its header never panics or takes much memory, every tensor that is accepted lies in
//! the file, and what it looks like as a model folder can be read to the end. So can an importance matrix.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use moerge_checkpoint::{SimulatedDisk, gguf::GgufFile};
use moerge_core::{model::gguf::GgufFolder, plan::gguf::ImportanceMatrix};

fuzz_target!(|bytes: &[u8]| {
    let disk = SimulatedDisk::new();
    let mut file = bytes.to_vec();
    // Half of the inputs begin as a file does.
    if bytes.first().is_some_and(|first| first % 2 == 0) {
        file.splice(..1, *b"GGUF\x03\0\0\0");
    }
    let len = file.len() as u64;
    disk.put("/model.gguf", &file);
    let storage = disk.shared();
    let _ = ImportanceMatrix::open(&*storage, Path::new("/model.gguf"));
    if let Ok(folder) = GgufFolder::open(&*storage, Path::new("/model.gguf")) {
        for file in folder.names().filter_map(|name| folder.file(name)) {
            let mut bytes = vec![0; file.len().min(1 << 20) as usize];
            let _ = file.read_exact_at(&mut bytes, 0);
        }
    }
    if let Ok(read) = GgufFile::open(&*storage, Path::new("/model.gguf")) {
        for tensor in read.tensors {
            assert!(tensor.offset.checked_add(tensor.len).is_some_and(|end| end <= len), "{tensor:?}");
        }
    }
});
