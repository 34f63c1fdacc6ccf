//! `pytorch_model.bin`: what torch.save really writes is read to the byte; what does anything else is refused by name, and
//! nothing of it is run. The files, and the script that made them, lie in `pickles/`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arbtest::arbtest;
use moerge_checkpoint::{Checkpoint, Dtype, LocalStorage, ReadStorage, pickle::PickleError};
use serde_json::Value;

fn storage() -> Arc<dyn ReadStorage> {
    Arc::new(LocalStorage)
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pickles").join(name)
}

fn refusal(path: &Path) -> PickleError {
    match Checkpoint::open_file(&storage(), path).unwrap_err() {
        moerge_checkpoint::Error::Pickle { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn refused(name: &str, expected: &str) {
    let problem = refusal(&path(name)).to_string();
    assert!(problem.contains(expected), "{name}: {problem}");
}

#[test]
fn what_torch_writes_is_read_to_the_byte() {
    let expected: serde_json::Map<String, Value> =
        serde_json::from_str(&fs::read_to_string(path("state.json")).unwrap()).unwrap();
    let state = Checkpoint::open_file(&storage(), &path("state.bin")).unwrap();
    assert_eq!(state.len(), expected.len());
    for (name, facts) in &expected {
        let tensor = state.get(name).unwrap();
        let dtype = match facts["dtype"].as_str().unwrap() {
            "float32" => Dtype::F32,
            "float64" => Dtype::F64,
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::BF16,
            "int64" => Dtype::I64,
            "bool" => Dtype::BOOL,
            other => panic!("{other}"),
        };
        let shape: Vec<usize> = serde_json::from_value(facts["shape"].clone()).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape), (dtype, &shape), "{name}");
        let bytes: String = tensor.read().unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(bytes, facts["bytes"].as_str().unwrap(), "{name}");
    }
    // Tied weights are one run of bytes.
    let place = |name: &str| state.get(name).unwrap().offset;
    assert_eq!(place("embed.weight"), place("lm_head.weight"));
    assert_eq!(Checkpoint::open_file(&storage(), &path("dict.bin")).unwrap().len(), 3);
}

/// Tensors with attributes, parameters with state, and the metadata that `weights_only=True` accepts among them.
#[test]
fn fault_09_harmless_pickles_that_torch_accepts_are_read() {
    let read = |name: &str| Checkpoint::open_file(&storage(), &path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for name in ["attributes.bin", "pickled_parameter.bin", "protocol_4.bin"] {
        let tensor = read(name).get("w").unwrap().read().unwrap();
        assert_eq!(tensor, [1_f32, 2.0].map(f32::to_le_bytes).concat(), "{name}");
    }
    // An untyped storage and a dtype: what torch writes for types without a storage class of their own.
    for name in ["typed.bin", "typed_attributes.bin"] {
        let file = read(name);
        let tensor = file.get("w").unwrap();
        assert_eq!((tensor.dtype, tensor.read().unwrap()), (Dtype::U16, vec![1, 0, 255, 255]), "{name}");
    }
    assert_eq!(read("typed.bin").get("f8").unwrap().dtype, Dtype::F8_E4M3);
    refused("typed_complex.bin", "a type that safetensors lacks");
    // Python 2's spelling, over the storage of another file.
    assert_eq!(read("old_ordered_dict.bin").get("w").unwrap().shape, [2]);
    // The inner call of a tensor with attributes is not free.
    refused("attributes_evil.bin", "it calls `os.system`");
    refused("attributes_nested.bin", "a call with other arguments");
    for name in ["dtype.bin", "device.bin", "set.bin", "bytes.bin"] {
        refused(name, "`x` in it is not a weight, expected a tensor");
    }
    refused("unknown.bin", "it needs `argparse.Namespace`, which moerge does not know");
}

#[test]
fn exploits_are_refused_by_the_name_of_what_they_call() {
    refused("os_system.bin", "it calls `posix.system`");
    refused("eval.bin", "it calls `__builtin__.eval`");
    refused("exec_protocol_4.bin", "it calls `builtins.exec`");
    refused("getattr.bin", "it calls `__builtin__.getattr`");
    refused("torch_load.bin", "it calls `torch.load`");
    refused("stack_global.bin", "it calls `posix.system`");
    refused("module.bin", "it needs `torch.nn.modules.linear.Linear`");
    refused("newobj.bin", "it calls `subprocess.Popen`");
    refused("inst.bin", "the instruction STRING");
    refused("obj.bin", "it calls `os.system`");
    refused("build.bin", "it sets the attribute `__class__`");
    refused("storage_called.bin", "something is called that cannot be");
}

#[test]
fn what_is_beside_tensors_is_named_and_not_skipped() {
    refused("number.bin", "`step` in it is a number, expected a tensor");
    refused("nested.bin", "`state_dict` in it is a dict");
    refused("list.bin", "it holds a list, expected tensors by name");
    refused("transposed.bin", "tensor `w` of shape [3, 2] has the strides [1, 3]");
    refused("cycle.bin", "it holds a list");
    refused("bomb.bin", "it holds a list");
    refused("deep.bin", "it holds a list");
}

#[test]
fn other_files_are_told_apart() {
    refused("legacy.bin", "the format of PyTorch before 1.6");
    refused("twice.bin", "the entry a/data.pkl occurs twice");
    refused("compressed.bin", "is compressed or encrypted");
}

/// Every cut and every flipped byte of a real file: refused, or read with all tensors inside of the file.
#[test]
fn damage_is_refused_or_harmless() {
    let good = fs::read(path("state.bin")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pytorch_model.bin");
    let check = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        if let Ok(read) = Checkpoint::open_file(&storage(), &file) {
            for tensor in read.tensors() {
                assert!(tensor.offset + tensor.len <= bytes.len() as u64);
                tensor.read().unwrap();
            }
        }
    };
    for len in (0..good.len()).step_by(7) {
        check(&good[..len]);
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes);
    }
}

#[test]
fn a_folder_of_pickles_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin");
    fs::copy(path("dict.bin"), dir.path().join("pytorch_model.bin")).unwrap();
    assert_eq!(Checkpoint::open(&storage(), dir.path()).unwrap().len(), 3);
    // Sharded, with an index that must agree.
    fs::rename(dir.path().join("pytorch_model.bin"), dir.path().join(a)).unwrap();
    let index = |extra: &str| {
        let map = format!("\"embed.weight\": \"{a}\", \"lm_head.weight\": \"{a}\", \"rows\": \"{a}\"{extra}");
        fs::write(dir.path().join("pytorch_model.bin.index.json"), format!("{{\"weight_map\": {{{map}}}}}")).unwrap();
        Checkpoint::open(&storage(), dir.path())
    };
    assert_eq!(index("").unwrap().len(), 3);
    assert!(index(&format!(", \"x\": \"{b}\"")).unwrap_err().to_string().contains("is missing"));
    assert!(index(&format!(", \"x\": \"{a}\"")).unwrap_err().to_string().contains("is not in this file"));
    assert!(index(", \"x\": \"../x.bin\"").unwrap_err().to_string().contains("expected the plain name of a .bin file"));
    // safetensors come first, as for transformers.
    fs::write(dir.path().join("model.safetensors"), [8, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 32, 32, 32, 32, 32, 32])
        .unwrap();
    assert_eq!(Checkpoint::open(&storage(), dir.path()).unwrap().len(), 0);
}

#[test]
fn any_bytes_as_a_pickle_are_refused_or_give_tensors_inside() {
    arbtest(|u| {
        let place = |_: &str| Some(moerge_checkpoint::pickle::StoredBytes { offset: 10, len: 4 });
        if let Ok(tensors) = moerge_checkpoint::pickle::tensors_of(u.arbitrary()?, &mut { place }) {
            assert!(tensors.iter().all(|tensor| tensor.begin >= 10 && tensor.end <= 14));
        }
        Ok(())
    });
}
