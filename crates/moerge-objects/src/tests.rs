//! Reading and writing through a store in memory. Its tags are no checksums, so what is written is read back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use moerge_checkpoint::{FileKind, Found, OutputDir, OutputStorage, ReadStorage};
use object_store::{ObjectStoreExt, memory::InMemory, path::Path as Key};

use crate::blocks::BLOCK;
use crate::bucket::Bucket;
use crate::parts::MIN_PART;
use crate::place::Scheme;
use crate::storage::ObjectStorage;

fn storage() -> (Arc<ObjectStorage>, Arc<InMemory>) {
    let store = Arc::new(InMemory::new());
    let storage = ObjectStorage::new(Arc::new(|| false));
    storage.add(Bucket::of(Scheme::S3, "b", store.clone(), store.clone()));
    (Arc::new(storage), store)
}

fn byte(at: u64) -> u8 {
    // A MiB of zeros in each 8, as holes of a shard.
    if at >> 20 & 7 == 3 { 0 } else { (at ^ (at >> 9) ^ (at >> 21)) as u8 | 1 }
}

fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(byte).collect()
}

/// Writes an object of `len` bytes from several threads, in pieces that are no parts, zeros as holes.
fn write(storage: &ObjectStorage, path: &Path, len: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let file = storage.create(path)?;
    file.set_len(len)?;
    thread::scope(|scope| {
        let file = &file;
        let threads = (0..3).map(|own| {
            scope.spawn(move || {
                (own..len.div_ceil(PIECE)).rev().filter(|piece| piece % 3 == own).try_for_each(|piece| {
                    let range = piece * PIECE..((piece + 1) * PIECE).min(len);
                    let content = bytes(range.clone());
                    match content.iter().all(|byte| *byte == 0) {
                        true => file.leave_zero(range.start, range.end - range.start),
                        false => file.write_all_at(&content, range.start),
                    }
                })
            })
        });
        threads.collect::<Vec<_>>().into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    assert_eq!(storage.facts(path).unwrap_err().kind(), io::ErrorKind::NotFound, "it appeared before it was synced");
    file.sync()
}

#[test]
fn what_threads_write_in_any_order_is_read_again() {
    let (storage, _) = storage();
    for len in [1, 4097, MIN_PART, MIN_PART + 1, 3 * MIN_PART + 12_345] {
        let path = Path::new("s3://b/model").join(format!("{len}.safetensors"));
        write(&storage, &path, len).unwrap();
        let file = storage.open(&path).unwrap();
        assert_eq!(file.len(), len);
        let mut whole = vec![0; len as usize];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert!(whole == bytes(0..len), "{len}");
        // Samples, and a read over the border of two blocks.
        for (offset, count) in [(len / 2, 1), (len - 1, 1), (BLOCK - 3, 7), (BLOCK - 100_000, 300_000)] {
            let mut piece = vec![0; count];
            match file.read_exact_at(&mut piece, offset) {
                Ok(()) => assert!(piece == bytes(offset..offset + count as u64), "{len} {offset}"),
                Err(error) => {
                    assert!(offset + count as u64 > len, "{error}");
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                }
            }
        }
    }
}

#[test]
fn an_object_that_is_dropped_never_appears() {
    let (storage, _) = storage();
    let path = Path::new("s3://b/model.safetensors");
    let file = storage.create(path).unwrap();
    file.set_len(2 * MIN_PART).unwrap();
    file.write_all_at(&vec![1; MIN_PART as usize], 0).unwrap();
    drop(file);
    assert_eq!(storage.facts(path).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_change_between_two_reads_is_an_error() {
    let (storage, store) = storage();
    let (path, key) = (Path::new("s3://b/model.safetensors"), Key::from("model.safetensors"));
    let put = |byte: u8| {
        let (store, key) = (store.clone(), key.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move { store.put(&key, vec![byte; 9 * BLOCK as usize].into()).await.unwrap() });
    };
    put(1);
    let file = storage.open(path).unwrap();
    let before = storage.facts(path).unwrap();
    let mut piece = vec![0; 100_000];
    file.read_exact_at(&mut piece, 0).unwrap();
    put(2);
    // Beyond what was read ahead.
    let error = file.read_exact_at(&mut piece, 8 * BLOCK).unwrap_err();
    assert!(error.to_string().contains("was replaced"), "{error}");
    assert_ne!(storage.facts(path).unwrap(), before, "within the same second");
}

#[test]
fn keys_look_like_files_and_folders() {
    let (storage, _) = storage();
    let create = |path: &str| storage.create_new(Path::new(path), b"{}").unwrap();
    assert!(create("s3://b/models/base/config.json") && create("s3://b/models/v1.5/a.json"));
    assert!(!create("s3://b/models/base/config.json"), "one that is there is not replaced");
    let kind = |path: &str| storage.facts(Path::new(path)).map(|facts| facts.kind).map_err(|error| error.kind());
    for (path, expected) in [
        ("s3://b", Ok(FileKind::Dir)),
        ("s3://b/models", Ok(FileKind::Dir)),
        ("s3://b/models/v1.5", Ok(FileKind::Dir)),
        ("s3://b/models/base/config.json", Ok(FileKind::File)),
        ("s3://b/mod", Err(io::ErrorKind::NotFound)),
        ("s3://b/models/base/config", Err(io::ErrorKind::NotFound)),
    ] {
        assert_eq!(kind(path), expected, "{path}");
    }
    assert_eq!(storage.list(Path::new("s3://b/models")).unwrap(), ["base", "v1.5"]);
    assert_eq!(storage.list(Path::new("s3://b/none")).unwrap(), [""; 0]);
    storage.remove_file(Path::new("s3://b/models/v1.5/a.json")).unwrap();
    assert_eq!(kind("s3://b/models/v1.5"), Err(io::ErrorKind::NotFound));
}

/// Opens an output that another process, which does `next` after a while, has just claimed.
fn open_claimed(next: impl Fn(&ObjectStorage) + Sync) -> moerge_checkpoint::Result<(OutputDir, Found)> {
    let (storage, _) = storage();
    assert!(storage.create_new(&work("plan-id"), b"A").unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(std::time::Duration::from_millis(400));
            next(&storage);
        });
        let shared: Arc<dyn OutputStorage> = storage.clone();
        OutputDir::open_part(&shared, Path::new("s3://b/out"), "A", false)
    })
}

fn work(name: &str) -> std::path::PathBuf {
    Path::new("s3://b/.out.moerge-build").join(name)
}

/// On a slow store, a second process removed what the first, which was still preparing the output, had written by then.
#[test]
fn an_output_that_another_process_claimed_just_now_is_not_prepared_again() {
    let create = |storage: &ObjectStorage, name: &str| assert!(storage.create_new(&work(name), b"x").unwrap());
    let (output, found) = open_claimed(|storage| {
        create(storage, "kept/routers");
        create(storage, "prepared");
    })
    .unwrap();
    assert!(found == Found::Resumed && output.kept("routers").unwrap().is_some(), "{found:?}");

    let (_, found) = open_claimed(|storage| storage.remove_file(&work("plan-id")).unwrap()).unwrap();
    assert_eq!(found, Found::Fresh, "discarded meanwhile");

    let taken = open_claimed(|storage| {
        let claim = storage.create(&work("plan-id")).unwrap();
        claim.write_all_at(b"B", 0).and_then(|()| claim.sync()).unwrap();
        create(storage, "prepared");
    });
    assert!(taken.is_err(), "another plan took over");
}

#[test]
fn a_stop_ends_a_wait() {
    let storage = ObjectStorage::new(Arc::new(|| true));
    let store = Arc::new(object_store::throttle::ThrottledStore::new(
        InMemory::new(),
        object_store::throttle::ThrottleConfig {
            wait_list_with_delimiter_per_call: std::time::Duration::from_secs(60),
            ..Default::default()
        },
    ));
    storage.add(Bucket::of(Scheme::S3, "b", store, Arc::new(InMemory::new())));
    let start = std::time::Instant::now();
    assert!(storage.list(Path::new("s3://b/x")).unwrap_err().to_string().contains("stopped"));
    assert!(start.elapsed().as_secs() < 10);
}
