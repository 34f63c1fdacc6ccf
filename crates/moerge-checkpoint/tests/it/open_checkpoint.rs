//! Opening model folders: which files count, errors for folders that are something else,
//! links as download caches make them, and files that change while they are read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use moerge_checkpoint::{Checkpoint, Error, LocalStorage, ReadStorage};

use crate::common::{disk, safetensors, with_tensors};

fn local() -> Arc<dyn ReadStorage> {
    Arc::new(LocalStorage)
}

fn open(files: &[(&str, &[u8])]) -> Result<Checkpoint, Error> {
    Checkpoint::open(&disk(files), Path::new("/model"))
}

fn hint_of(files: &[(&str, &[u8])]) -> String {
    let error = open(files).unwrap_err();
    assert!(matches!(error, Error::NoSafetensors { .. }), "{error}");
    error.hint().unwrap()
}

#[test]
fn no_folder() {
    let error = Checkpoint::open(&disk(&[]), Path::new("/nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere does not exist");
}

#[test]
fn a_file_instead_of_a_folder() {
    let storage = disk(&[("model.safetensors", &with_tensors(&["a"]))]);
    let error = Checkpoint::open(&storage, Path::new("/model/model.safetensors")).unwrap_err();
    assert_eq!(error.to_string(), "/model/model.safetensors is not a folder");
    assert!(error.hint().unwrap().contains("config.json"));
}

#[test]
fn other_formats_get_a_hint() {
    assert!(hint_of(&[("tf_model.h5", b"")]).contains("safe_serialization"));
    assert!(hint_of(&[("model-q4.gguf", b"")]).contains("GGUF"));
    assert!(hint_of(&[("adapter_model.safetensors", b"")]).contains("LoRA"));
    assert!(hint_of(&[("consolidated.safetensors", b"")]).contains("model.safetensors"));
    let error = open(&[("config.json", b"{}"), ("training_args.bin", b"")]).unwrap_err();
    assert_eq!(error.to_string(), "/model holds no safetensors model");
}

#[test]
fn single_file_counts_before_an_index() {
    let index = br#"{"weight_map":{"x":"gone.safetensors"}}"#;
    let files: &[(&str, &[u8])] =
        &[("model.safetensors", &with_tensors(&["a"])), ("model.safetensors.index.json", index)];
    assert!(open(files).unwrap().get("a").is_some());
}

#[test]
fn numbered_shards_without_an_index() {
    let (one, two) = (with_tensors(&["b"]), with_tensors(&["a"]));
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    assert_eq!(open(&[(first, &one), (second, &two)]).unwrap().len(), 2);

    let missing = open(&[(second, &two)]).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/model/model-00001-of-00002.safetensors is missing, but model-00002-of-00002.safetensors requires it"
    );
    let mixed = open(&[(first, &one), (second, &two), ("model-00001-of-00003.safetensors", &one)]).unwrap_err();
    assert!(matches!(mixed, Error::MixedShards { .. }), "{mixed}");
}

/// A name can claim four billion shards; nothing is made for each of them.
#[test]
fn a_huge_count_in_a_name() {
    let error = open(&[("model-00002-of-4294967295.safetensors", b"")]).unwrap_err();
    assert!(matches!(error, Error::ShardMissing { .. }), "{error}");
    let beyond = open(&[("model-00001-of-99999999999.safetensors", b"")]).unwrap_err();
    assert!(matches!(beyond, Error::NoSafetensors { .. }), "{beyond}");
}

#[test]
fn a_single_file_of_any_name() {
    let storage = disk(&[("adapter_model.safetensors", &with_tensors(&["lora_A"]))]);
    let checkpoint = Checkpoint::open_file(&storage, Path::new("/model/adapter_model.safetensors")).unwrap();
    assert!(checkpoint.get("lora_A").is_some());
    assert_eq!(checkpoint.dir(), Path::new("/model"));
    let error = Checkpoint::open_file(&storage, Path::new("/model/gone.safetensors")).unwrap_err();
    assert!(error.to_string().contains("/model/gone.safetensors"), "{error}");
}

#[test]
fn bytes_of_tensors_and_rows() {
    let json =
        r#"{"m":{"dtype":"U8","shape":[3,2],"data_offsets":[1,7]},"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#;
    let mut content = safetensors(json, 0);
    content.extend([9, 10, 11, 20, 21, 30, 31]);
    let checkpoint = open(&[("model.safetensors", &content)]).unwrap();
    let matrix = checkpoint.get("m").unwrap();
    assert_eq!(matrix.read().unwrap(), [10, 11, 20, 21, 30, 31]);
    assert_eq!(checkpoint.get("s").unwrap().read().unwrap(), [9]);

    let rows = matrix.rows(1..3).unwrap();
    assert_eq!((rows.shape.as_slice(), rows.len), ([2, 2].as_slice(), 4));
    assert_eq!(rows.read().unwrap(), [20, 21, 30, 31]);
    assert_eq!(rows.rows(1..2).unwrap().read().unwrap(), [30, 31]);
    assert!(matrix.rows(3..3).unwrap().read().unwrap().is_empty());
    let mut two = [0; 2];
    rows.read_at(1, &mut two).unwrap();
    assert_eq!(two, [21, 30]);

    assert!(matches!(rows.read_at(3, &mut two), Err(Error::OutOfBounds { .. })));
    assert!(matches!(rows.read_at(u64::MAX, &mut two), Err(Error::OutOfBounds { .. })));
    assert!(matches!(matrix.rows(2..4), Err(Error::NoSuchRows { .. })));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = matrix.rows(2..1);
    assert!(matches!(reversed, Err(Error::NoSuchRows { .. })));
    assert!(matches!(checkpoint.get("s").unwrap().rows(0..1), Err(Error::NoSuchRows { .. })));
}

#[test]
fn rows_of_half_bytes_are_refused() {
    let json = r#"{"m":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}}"#;
    let checkpoint = open(&[("model.safetensors", &safetensors(json, 3))]).unwrap();
    let matrix = checkpoint.get("m").unwrap();
    assert!(matrix.rows(0..2).is_ok());
    assert!(matches!(matrix.rows(0..1), Err(Error::NoSuchRows { .. })));
}

/// Sixteen thousand bytes in more files than may stay open: reading works all the same.
#[test]
fn more_shards_than_handles_stay_open() {
    let dir = tempfile::tempdir().unwrap();
    for i in 1..=150 {
        let name = format!("model-{i:05}-of-00150.safetensors");
        let mut content = with_tensors(&[&format!("t{i:03}")]);
        *content.last_mut().unwrap() = i as u8;
        fs::write(dir.path().join(name), content).unwrap();
    }
    let checkpoint = Checkpoint::open(&local(), dir.path()).unwrap();
    for _ in 0..2 {
        let bytes: Vec<u8> = checkpoint.tensors().flat_map(|tensor| tensor.read().unwrap()).collect();
        assert_eq!(bytes, (1..=150).collect::<Vec<u8>>());
    }
    #[cfg(target_os = "linux")]
    {
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        let here = open.filter(|target| target.starts_with(dir.path())).count();
        assert!(here <= 100, "{here} files are open");
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, with_tensors(&["a", "b"])).unwrap();
    let checkpoint = Checkpoint::open(&local(), dir.path()).unwrap();
    checkpoint.check_unchanged().unwrap();

    // The same length, but another time.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let error = checkpoint.check_unchanged().unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
    assert!(error.to_string().contains("changed during the build"), "{error}");

    // Another length, noticed also when reading opens the file.
    fs::write(&path, with_tensors(&["a"])).unwrap();
    assert!(matches!(checkpoint.get("a").unwrap().read(), Err(Error::SourceChanged { .. })));
}

#[test]
fn a_file_that_shrinks_while_it_is_open_gives_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, with_tensors(&["a", "b"])).unwrap();
    let checkpoint = Checkpoint::open(&local(), dir.path()).unwrap();
    checkpoint.get("a").unwrap().read().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
    let error = checkpoint.get("b").unwrap().read().unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert!(error.hint().unwrap().contains("shorter"), "{error}");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The Hugging Face cache: `snapshots/<commit>/model...` are links to `blobs/<hash>`.
    #[test]
    fn links_of_a_download_cache_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/c0ffee"));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        let index =
            br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
        fs::write(blobs.join("11"), with_tensors(&["a"])).unwrap();
        fs::write(blobs.join("22"), with_tensors(&["b"])).unwrap();
        fs::write(blobs.join("33"), index).unwrap();
        symlink("../../blobs/11", snapshot.join("model-00001-of-00002.safetensors")).unwrap();
        symlink("../../blobs/22", snapshot.join("model-00002-of-00002.safetensors")).unwrap();
        symlink("../../blobs/33", snapshot.join("model.safetensors.index.json")).unwrap();
        let checkpoint = Checkpoint::open(&local(), &snapshot).unwrap();
        assert_eq!(checkpoint.get("b").unwrap().read().unwrap(), [0]);
        checkpoint.check_unchanged().unwrap();

        fs::remove_file(blobs.join("22")).unwrap();
        let error = Checkpoint::open(&local(), &snapshot).unwrap_err();
        assert!(matches!(error, Error::BrokenLink { .. }), "{error}");
    }

    /// Opening a pipe for reading would wait for a writer, for ever.
    #[test]
    fn attack_07_a_pipe_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("model.safetensors");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let error = Checkpoint::open(&local(), dir.path()).unwrap_err();
        assert!(matches!(error, Error::NotAFile { .. }), "{error}");
    }
}
