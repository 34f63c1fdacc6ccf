//! One test per malformation of a safetensors file: each gives its own error, which names the file,
//! the tensor, what was expected and what was found.

use std::path::Path;

use moerge_checkpoint::{Checkpoint, Dtype, Error, Header, HeaderError};

use crate::common::{disk, safetensors, safetensors_raw};

/// Opens a file with this content, which must fail with a problem in its header.
#[track_caller]
fn problem(content: &[u8]) -> HeaderError {
    let storage = disk(&[("model.safetensors", content)]);
    let error = Checkpoint::open(&storage, Path::new("/model")).unwrap_err();
    assert!(error.to_string().starts_with("/model/model.safetensors: "), "{error}");
    assert!(error.hint().is_some(), "{error}");
    match error {
        Error::Header { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

/// The same with one tensor `t`.
#[track_caller]
fn entry_problem(entry: &str, data: usize) -> HeaderError {
    problem(&safetensors(&format!(r#"{{"t":{entry}}}"#), data))
}

const T: &str = r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;

fn t() -> String {
    "t".to_owned()
}

#[test]
fn a_good_file_for_comparison() {
    let content = safetensors(&format!(r#"{{"t":{T}}}"#), 4);
    let storage = disk(&[("model.safetensors", &content)]);
    let header = Header::read(&*storage, Path::new("/model/model.safetensors")).unwrap();
    assert_eq!(header.data_start, content.len() as u64 - 4);
    assert_eq!((header.tensors[0].begin, header.tensors[0].end), (0, 4));
    assert!(Checkpoint::open(&storage, Path::new("/model")).is_ok());
}

#[test]
fn empty_file() {
    assert_eq!(problem(b""), HeaderError::Empty);
}

#[test]
fn too_short_for_a_length() {
    assert_eq!(problem(b"1234567"), HeaderError::TooShort { file_len: 7 });
}

#[test]
fn header_too_long() {
    let mut content = safetensors("{}", 0);
    content[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(problem(&content), HeaderError::TooLong { len: u64::MAX, limit: 100_000_000 });
    content[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    assert_eq!(problem(&content), HeaderError::TooLong { len: 100_000_001, limit: 100_000_000 });
}

/// The claimed length is allowed, but the file has not that many bytes: nothing that large is
/// allocated for it.
#[test]
fn header_truncated() {
    let mut content = safetensors("{}", 0);
    content[..8].copy_from_slice(&100_000_000u64.to_le_bytes());
    assert_eq!(problem(&content), HeaderError::Truncated { header_end: 100_000_008, file_len: 10 });
    let whole = safetensors(&format!(r#"{{"t":{T}}}"#), 0);
    let file_len = whole.len() as u64 - 1;
    let header_end = whole.len() as u64;
    assert_eq!(problem(&whole[..whole.len() - 1]), HeaderError::Truncated { header_end, file_len });
}

#[test]
fn header_without_bytes() {
    assert_eq!(problem(&safetensors("", 0)), HeaderError::NotAnObject);
}

#[test]
fn header_not_utf8() {
    assert_eq!(problem(&safetensors_raw(b"{\"\xff\":1}", 0)), HeaderError::NotUtf8 { at: 2 });
}

#[test]
fn header_not_an_object() {
    assert_eq!(problem(&safetensors("[1, 2]", 0)), HeaderError::NotAnObject);
    assert_eq!(problem(&safetensors(" {}", 0)), HeaderError::NotAnObject);
}

#[test]
fn header_not_json() {
    assert!(matches!(problem(&safetensors("{\"t\":", 0)), HeaderError::NotJson { .. }));
    assert!(matches!(problem(&safetensors("{} x", 0)), HeaderError::NotJson { .. }));
}

#[test]
fn header_of_nested_brackets_does_not_overflow_the_stack() {
    let deep = format!("{{\"t\":{}", "[".repeat(1_000_000));
    assert!(matches!(problem(&safetensors(&deep, 0)), HeaderError::NotJson { .. }));
    let closed = format!("{{\"t\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(problem(&safetensors(&closed, 0)), HeaderError::BadEntry { .. }));
}

#[test]
fn metadata_not_strings() {
    let json = r#"{"__metadata__":{"format":1}}"#;
    assert!(matches!(problem(&safetensors(json, 0)), HeaderError::BadMetadata { .. }));
}

#[test]
fn metadata_key_twice() {
    let json = r#"{"__metadata__":{"format":"pt","format":"tf"}}"#;
    assert_eq!(problem(&safetensors(json, 0)), HeaderError::DuplicateName { name: "format".to_owned() });
}

#[test]
fn entry_without_a_field() {
    let problem = entry_problem(r#"{"dtype":"U8","shape":[4]}"#, 4);
    assert!(problem.to_string().contains("tensor `t`"), "{problem}");
    assert!(problem.to_string().contains("data_offsets"), "{problem}");
}

#[test]
fn entry_of_another_type() {
    for entry in ["7", "null", "[]", r#"{"dtype":1,"shape":[4],"data_offsets":[0,4]}"#] {
        assert!(matches!(entry_problem(entry, 4), HeaderError::BadEntry { .. }), "{entry}");
    }
}

#[test]
fn negative_shape_and_offsets() {
    for entry in [
        r#"{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4,8]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551616]}"#,
    ] {
        assert!(matches!(entry_problem(entry, 4), HeaderError::BadEntry { .. }), "{entry}");
    }
}

/// serde_json's maps would keep the last one silently.
#[test]
fn tensor_named_twice() {
    let json = format!(r#"{{"t":{T},"u":{T},"t":{T}}}"#);
    assert_eq!(problem(&safetensors(&json, 4)), HeaderError::DuplicateName { name: t() });
    let escaped = format!(r#"{{"t":{T},"\u0074":{T}}}"#);
    assert_eq!(problem(&safetensors(&escaped, 4)), HeaderError::DuplicateName { name: t() });
}

#[test]
fn unknown_dtype() {
    let found = entry_problem(r#"{"dtype":"F128","shape":[4],"data_offsets":[0,4]}"#, 4);
    assert_eq!(found, HeaderError::UnknownDtype { tensor: t(), found: "F128".to_owned() });
}

#[test]
fn shape_overflow() {
    let shape = vec![1u64 << 32, 1 << 32];
    let found = entry_problem(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#, 0);
    assert_eq!(found, HeaderError::ShapeOverflow { tensor: t(), dtype: Dtype::F32, shape });
}

#[test]
fn part_of_a_byte() {
    let found = entry_problem(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, 2);
    assert_eq!(found, HeaderError::PartialByte { tensor: t(), dtype: Dtype::F4, shape: vec![3] });
}

#[test]
fn offsets_reversed() {
    let found = entry_problem(r#"{"dtype":"U8","shape":[4],"data_offsets":[4,0]}"#, 4);
    assert_eq!(found, HeaderError::ReversedOffsets { tensor: t(), begin: 4, end: 0 });
}

#[test]
fn size_differs_from_shape() {
    let found = entry_problem(r#"{"dtype":"BF16","shape":[2,3],"data_offsets":[0,10]}"#, 10);
    let text = found.to_string();
    let (dtype, shape) = (Dtype::BF16, vec![2, 3]);
    assert_eq!(found, HeaderError::WrongSize { tensor: t(), dtype, shape, expected: 12, found: 10 });
    assert_eq!(text, "tensor `t`, BF16 [2, 3], needs 12 bytes, but its offsets span 10");
}

#[test]
fn tensors_overlap() {
    let json = format!(r#"{{"t":{T},"u":{{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}}}"#);
    let (tensor, previous) = ("u".to_owned(), t());
    assert_eq!(problem(&safetensors(&json, 7)), HeaderError::Overlap { tensor, previous, expected: 4, found: 3 });
}

#[test]
fn same_bytes_twice() {
    let json = format!(r#"{{"t":{T},"u":{T}}}"#);
    assert!(matches!(problem(&safetensors(&json, 4)), HeaderError::Overlap { .. }));
}

#[test]
fn gap_between_tensors() {
    let json = format!(r#"{{"t":{T},"u":{{"dtype":"U8","shape":[4],"data_offsets":[5,9]}}}}"#);
    let gap = HeaderError::Gap { tensor: "u".to_owned(), expected: 4, found: 5 };
    assert_eq!(problem(&safetensors(&json, 9)), gap);
}

#[test]
fn gap_before_the_first_tensor() {
    let found = entry_problem(r#"{"dtype":"U8","shape":[4],"data_offsets":[8,12]}"#, 12);
    assert_eq!(found, HeaderError::Gap { tensor: t(), expected: 0, found: 8 });
}

#[test]
fn tensor_ends_after_the_file() {
    let content = safetensors(&format!(r#"{{"t":{T}}}"#), 3);
    let file_len = content.len() as u64;
    assert_eq!(problem(&content), HeaderError::PastEnd { tensor: t(), end: file_len + 1, file_len });
}

#[test]
fn tensor_of_a_size_near_the_limit_of_64_bits() {
    let end = u64::MAX / 8;
    let entry = format!(r#"{{"dtype":"U8","shape":[{end}],"data_offsets":[0,{end}]}}"#);
    assert!(matches!(entry_problem(&entry, 0), HeaderError::PastEnd { .. }));
    let entry = format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":[{},{}]}}"#, u64::MAX - 4, u64::MAX);
    assert!(matches!(entry_problem(&entry, 0), HeaderError::Gap { .. }));
}

#[test]
fn bytes_after_the_last_tensor() {
    let content = safetensors(&format!(r#"{{"t":{T}}}"#), 5);
    let file_len = content.len() as u64;
    assert_eq!(problem(&content), HeaderError::TrailingBytes { data_end: file_len - 1, file_len });
    let empty = safetensors("{}", 1);
    assert_eq!(problem(&empty), HeaderError::TrailingBytes { data_end: 10, file_len: 11 });
}

#[test]
fn control_characters_of_a_name_do_not_reach_the_terminal() {
    let json = format!(r#"{{"\u001b[2J":{T},"\u001b[2J":{T}}}"#);
    let text = problem(&safetensors(&json, 4)).to_string();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let long = format!(r#"{{"{}":7}}"#, "x".repeat(100_000));
    assert!(problem(&safetensors(&long, 0)).to_string().len() < 500);
}

/// A hundred thousand tensors of nothing: cheap to claim, so it has to be cheap to read.
#[test]
fn many_empty_tensors() {
    let entries: Vec<String> =
        (0..100_000).map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    let content = safetensors(&format!("{{{}}}", entries.join(",")), 0);
    let storage = disk(&[("model.safetensors", &content)]);
    assert_eq!(Checkpoint::open(&storage, Path::new("/model")).unwrap().len(), 100_000);
}

#[test]
fn git_lfs_pointer() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n";
    let storage = disk(&[("model.safetensors", pointer)]);
    let error = Checkpoint::open(&storage, Path::new("/model")).unwrap_err();
    assert!(matches!(error, Error::LfsPointer { .. }), "{error}");
    assert!(error.hint().unwrap().contains("git lfs pull"));
}
