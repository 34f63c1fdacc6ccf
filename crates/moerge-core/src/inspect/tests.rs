//! Inspection of golden models, adapters, and folders that are neither.

use std::path::PathBuf;

use moerge_checkpoint::LocalStorage;

use super::*;

fn golden(name: &str) -> Inspection {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../moerge/tests/golden").join(name);
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    inspect(&storage, &dir).unwrap()
}

#[test]
fn a_dense_model() {
    let found = golden("llama");
    assert_eq!(found.kind, FolderKind::Dense);
    assert_eq!(found.parameters, found.active_parameters);
    assert_eq!(found.parts.iter().map(|p| p.tensors).sum::<usize>(), found.tensors);
    assert!(found.parts.iter().all(|p| !p.name.starts_with("other")), "{:?}", found.parts);
}

/// Two roles in one tensor (Phi-3) are counted once.
#[test]
fn fused_tensors_are_counted_once() {
    let found = golden("phi3");
    assert_eq!(found.parts.iter().map(|p| p.tensors).sum::<usize>(), found.tensors);
}

#[test]
fn an_moe_is_active_in_part() {
    for name in ["mixtral", "qwen2_moe"] {
        let found = golden(name);
        let moe = found.moe.unwrap();
        let experts: u64 = found.parts.iter().filter(|p| p.name == "experts").map(|p| p.parameters).sum();
        let idle = experts / moe.experts as u64 * (moe.experts - moe.experts_per_token) as u64;
        assert_eq!((found.kind, found.active_parameters), (FolderKind::Moe, found.parameters - idle), "{name}");
        assert_eq!(found.parts.iter().any(|p| p.name == "shared expert"), moe.shared.is_some(), "{name}");
    }
}
