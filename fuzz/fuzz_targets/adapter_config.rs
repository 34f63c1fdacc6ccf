//! Any text as an `adapter_config.json`: the adapter is opened or refused, without a panic or a hang, and what it adds to a
//! weight has a finite scale and the weight's rows.
#![no_main]

use std::{path::Path, sync::Arc};

use libfuzzer_sys::fuzz_target;
use moerge_checkpoint::{ReadStorage, SimulatedDisk};
use moerge_core::model::source::Adapter;

const NAME: &str = "model.layers.0.mlp.down_proj.weight";

fuzz_target!(|text: &str| {
    let disk = SimulatedDisk::new();
    disk.put("adapter/adapter_config.json", text.as_bytes());
    disk.put("adapter/adapter_model.safetensors", &weights());
    let storage: Arc<dyn ReadStorage> = disk.shared();
    let Ok(adapter) = Adapter::open(&storage, Path::new("adapter")) else { return };
    let _ = (adapter.numbers(), adapter.check_whole(NAME));
    assert!(adapter.adapted().any(|name| name == NAME));
    if let Ok(Some(delta)) = adapter.delta(NAME, &[3, 4], 1..3) {
        assert_eq!((&delta.a.shape[..], &delta.b.shape[..]), (&[2, 4][..], &[2, 2][..]));
    }
});

/// A pair of rank 2 for a weight of 3 by 4.
fn weights() -> Vec<u8> {
    let module = "base_model.model.model.layers.0.mlp.down_proj";
    let header = format!(
        r#"{{"{module}.lora_A.weight":{{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}},"{module}.lora_B.weight":{{"dtype":"F32","shape":[3,2],"data_offsets":[32,56]}}}}"#
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.resize(bytes.len() + 56, 0);
    bytes
}
