//! One test per malformation of `model.safetensors.index.json`, and per way in which index and
//! shards can disagree.

use std::path::Path;

use moerge_checkpoint::{Checkpoint, Error, INDEX_FILE, Index, IndexError};

use crate::common::{disk, with_tensors};

#[track_caller]
fn problem(index: &str) -> IndexError {
    let storage = disk(&[(INDEX_FILE, index.as_bytes())]);
    match Checkpoint::open(&storage, Path::new("/model")).unwrap_err() {
        Error::Index { file, problem } => {
            assert_eq!(file, Path::new("/model").join(INDEX_FILE));
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn not_json() {
    for text in ["", "{", "[]", "null", r#"{"weight_map":{"a":"b.safetensors"}"#] {
        assert!(matches!(problem(text), IndexError::NotAnIndex { .. }), "{text}");
    }
}

#[test]
fn without_weight_map() {
    assert!(problem(r#"{"metadata":{}}"#).to_string().contains("weight_map"));
}

#[test]
fn weight_map_of_other_types() {
    for text in [r#"{"weight_map":[]}"#, r#"{"weight_map":{"a":1}}"#, r#"{"weight_map":{"a":null}}"#] {
        assert!(matches!(problem(text), IndexError::NotAnIndex { .. }), "{text}");
    }
}

#[test]
fn tensor_named_twice() {
    let text = r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#;
    assert_eq!(problem(text), IndexError::DuplicateTensor { tensor: "a".to_owned() });
}

#[test]
fn file_names_that_lead_out_of_the_folder() {
    for name in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "sub\\\\x.safetensors",
        "C:x.safetensors",
        "..",
        ".",
        "",
        "x\\u0000.safetensors",
        "x.bin",
        "/etc/passwd",
    ] {
        let text = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        assert!(matches!(problem(&text), IndexError::BadFileName { .. }), "{name}");
    }
}

#[test]
fn nested_brackets_do_not_overflow_the_stack() {
    let deep = format!(r#"{{"metadata":{}"#, "[".repeat(1_000_000));
    assert!(matches!(problem(&deep), IndexError::NotAnIndex { .. }));
    let ignored = format!(r#"{{"other":{}"#, "[".repeat(1_000_000));
    assert!(matches!(problem(&ignored), IndexError::NotAnIndex { .. }));
}

#[test]
fn git_lfs_pointer() {
    let storage = disk(&[(INDEX_FILE, b"version https://git-lfs.github.com/spec/v1\n")]);
    let error = Checkpoint::open(&storage, Path::new("/model")).unwrap_err();
    assert!(matches!(error, Error::LfsPointer { .. }), "{error}");
}

/// `total_size` is wrong, a float, or absent in many files of the wild, and nothing relies on it.
#[test]
fn total_size_may_be_anything() {
    for (metadata, expected) in [
        (r#""metadata":{"total_size":14483464192},"#, Some(14_483_464_192)),
        (r#""metadata":{"total_size":1.4e10},"#, Some(14_000_000_000)),
        (r#""metadata":{"total_size":"many"},"#, None),
        (r#""metadata":{"total_size":-1},"#, None),
        (r#""metadata":{},"#, None),
        (r#""metadata":null,"#, None),
        ("", None),
    ] {
        let text = format!(r#"{{{metadata}"weight_map":{{}}}}"#);
        assert_eq!(Index::parse(INDEX_FILE, text.as_bytes()).unwrap().total_size, expected, "{text}");
    }
}

fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let weight_map = entries.iter().map(|(tensor, file)| (tensor.to_string(), file.to_string())).collect();
    Index { weight_map, total_size: None }.encode()
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

#[track_caller]
fn open(index: &[u8], one: &[&str], two: &[&str]) -> Result<Checkpoint, Error> {
    let storage = disk(&[(INDEX_FILE, index), (ONE, &with_tensors(one)), (TWO, &with_tensors(two))]);
    Checkpoint::open(&storage, Path::new("/model"))
}

#[test]
fn index_and_shards_agree() {
    let checkpoint = open(&index(&[("a", ONE), ("c", ONE), ("b", TWO)]), &["a", "c"], &["b"]).unwrap();
    let names: Vec<&str> = checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(checkpoint.get("b").unwrap().file.path, Path::new("/model").join(TWO));
    assert!(checkpoint.get("d").is_none());
}

#[test]
fn tensor_in_the_index_but_not_in_its_shard() {
    let error = open(&index(&[("a", ONE), ("b", TWO), ("c", TWO)]), &["a"], &["b"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/model/model-00002-of-00002.safetensors: tensor `c` is not in this file, but the index says so"
    );
    let swapped = open(&index(&[("a", TWO), ("b", TWO)]), &["a"], &["b"]).unwrap_err();
    assert!(matches!(swapped, Error::TensorNotInShard { .. }));
}

#[test]
fn tensor_in_a_shard_but_not_in_the_index() {
    let error = open(&index(&[("a", ONE), ("b", TWO)]), &["a", "x"], &["b"]).unwrap_err();
    assert!(matches!(&error, Error::TensorNotInIndex { tensor, .. } if tensor == "x"), "{error}");
}

#[test]
fn tensor_in_two_shards() {
    let error = open(&index(&[("a", ONE), ("b", TWO)]), &["a"], &["a", "b"]).unwrap_err();
    assert!(matches!(&error, Error::TensorInTwoFiles { tensor, .. } if tensor == "a"), "{error}");
}

#[test]
fn shard_missing() {
    let storage = disk(&[(INDEX_FILE, &index(&[("a", ONE), ("b", TWO)])), (ONE, &with_tensors(&["a"]))]);
    let error = Checkpoint::open(&storage, Path::new("/model")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/model/model-00002-of-00002.safetensors is missing, but model.safetensors.index.json requires it"
    );
    assert!(error.hint().unwrap().contains("download"));
}

#[test]
fn written_as_transformers_writes_it() {
    let index = Index {
        weight_map: [("b".to_owned(), TWO.to_owned()), ("a".to_owned(), ONE.to_owned())].into(),
        total_size: Some(3),
    };
    let expected = r#"{
  "metadata": {
    "total_size": 3
  },
  "weight_map": {
    "a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors"
  }
}
"#;
    assert_eq!(String::from_utf8(index.encode()).unwrap(), expected);
    assert_eq!(Index::parse(INDEX_FILE, expected.as_bytes()).unwrap(), index);
}
