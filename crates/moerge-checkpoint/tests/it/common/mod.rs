//! Files for tests, made by hand so that they can be wrong in any way.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use moerge_checkpoint::{ReadStorage, SimulatedDisk};

/// A safetensors file: the length of `json`, `json`, and `data` zero bytes.
pub fn safetensors(json: &str, data: usize) -> Vec<u8> {
    safetensors_raw(json.as_bytes(), data)
}

pub fn safetensors_raw(json: &[u8], data: usize) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json);
    file.resize(file.len() + data, 0);
    file
}

/// A safetensors file of one-byte tensors with these names.
pub fn with_tensors(names: &[&str]) -> Vec<u8> {
    let entries: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, name)| format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1))
        .collect();
    safetensors(&format!("{{{}}}", entries.join(",")), names.len())
}

/// A disk with these files in `/model`.
pub fn disk(files: &[(&str, &[u8])]) -> Arc<dyn ReadStorage> {
    let disk = SimulatedDisk::new();
    for (name, content) in files {
        disk.put(Path::new("/model").join(name), content);
    }
    disk.shared()
}
