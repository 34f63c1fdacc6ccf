//! Any bytes as a `model.safetensors.index.json`: they never panic, no accepted file name leads out
//! of the folder, and what is accepted is written and read back the same.
#![no_main]

use std::path::{Component, Path};

use moerge_checkpoint::{INDEX_FILE, Index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(index) = Index::parse(INDEX_FILE, json) else { return };
    for file in index.files() {
        let components: Vec<Component> = Path::new(file).components().collect();
        assert!(matches!(components[..], [Component::Normal(name)] if name == file), "{file:?}");
    }
    assert_eq!(Index::parse(INDEX_FILE, &index.encode()).as_ref(), Ok(&index));
});
