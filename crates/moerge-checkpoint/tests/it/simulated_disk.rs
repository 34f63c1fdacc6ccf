//! The simulated disk itself: what it forgets, keeps and tears is what the other tests rely on.

use std::path::Path;

use moerge_checkpoint::{Fault, OutputStorage, ReadStorage, SimulatedDisk, Survives};

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn create(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    disk.create(p(path)).unwrap().write_all_at(bytes, 0).unwrap();
}

fn synced(disk: &SimulatedDisk) -> Vec<String> {
    let files = disk.crash(Survives::Synced).files("/");
    files.into_iter().map(|(path, bytes)| format!("{}={}", path.display(), String::from_utf8_lossy(&bytes))).collect()
}

#[test]
fn content_lasts_by_sync_and_names_by_sync_dir() {
    let disk = SimulatedDisk::new();
    disk.create_dir_all(p("/d")).unwrap();
    create(&disk, "/d/f", b"new");
    assert!(synced(&disk).is_empty());
    disk.sync_dir(p("/d")).unwrap();
    assert!(synced(&disk).is_empty(), "the folder's own name is not safe yet");
    disk.sync_dir(p("/")).unwrap();
    assert_eq!(synced(&disk), ["d/f="]);
    let file = disk.create(p("/d/f")).unwrap();
    file.write_all_at(b"newer", 0).unwrap();
    assert_eq!(synced(&disk), ["d/f="]);
    file.start_writing(0, 5);
    assert_eq!(synced(&disk), ["d/f="]);
    file.sync().unwrap();
    assert_eq!(synced(&disk), ["d/f=newer"]);
    assert_eq!(disk.crash(Survives::Everything).files("/"), disk.files("/"));
}

#[test]
fn a_rename_between_folders_survives_as_a_whole_or_not() {
    let disk = SimulatedDisk::new();
    disk.put("/a/f", b"1");
    disk.put("/b/g", b"2");
    disk.rename(p("/a/f"), p("/b/f")).unwrap();
    assert_eq!(synced(&disk), ["a/f=1", "b/g=2"]);
    let outcomes: std::collections::BTreeSet<_> =
        (0..20).map(|seed| disk.crash(Survives::Some(seed)).files("/").len()).collect();
    assert_eq!(outcomes, [2].into());
    disk.sync_dir(p("/a")).unwrap();
    assert_eq!(synced(&disk), ["b/f=1", "b/g=2"]);
}

#[test]
fn a_sync_brings_along_what_it_builds_on() {
    let disk = SimulatedDisk::new();
    disk.put("/a/x", b"");
    disk.put("/b/x", b"");
    create(&disk, "/a/f", b"");
    disk.rename(p("/a/f"), p("/b/f")).unwrap();
    disk.sync_dir(p("/b")).unwrap();
    disk.sync_dir(p("/a")).unwrap();
    assert_eq!(synced(&disk), ["a/x=", "b/f=", "b/x="], "no ghost of the old name");
}

#[test]
fn some_writes_survive_torn() {
    let disk = SimulatedDisk::new();
    disk.put("/f", b"");
    let file = disk.create(p("/f")).unwrap();
    file.write_all_at(b"0123456789", 0).unwrap();
    let lengths: std::collections::BTreeSet<usize> =
        (0..200).map(|seed| disk.crash(Survives::Some(seed)).files("/")[0].1.len()).collect();
    assert_eq!(lengths, (0..=10).collect());
    let again = |seed| disk.crash(Survives::Some(seed)).files("/");
    assert!((0..20).all(|seed| again(seed) == again(seed)));
}

#[test]
fn folders_that_hold_something_are_not_replaced() {
    let disk = SimulatedDisk::new();
    disk.put("/a/f", b"1");
    disk.put("/b/g", b"2");
    assert!(disk.rename(p("/a"), p("/b")).is_err());
    disk.remove_file(p("/b/g")).unwrap();
    disk.rename(p("/a"), p("/b")).unwrap();
    assert_eq!(disk.files("/").len(), 1);
    disk.remove_dir_all(p("/b")).unwrap();
    assert!(disk.files("/").is_empty());
    assert!(disk.list(p("/b")).is_err());
}

#[test]
fn faults_strike_once_and_power_stays_off() {
    let disk = SimulatedDisk::new();
    disk.put("/f", b"1234");
    let file = disk.open(p("/f")).unwrap();
    disk.fail_operation(disk.operations(), Fault::ShortRead);
    let error = file.read_exact_at(&mut [0; 2], 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    file.read_exact_at(&mut [0; 2], 0).unwrap();

    let file = disk.create(p("/g")).unwrap();
    disk.fail_operation(disk.operations(), Fault::NoSpace);
    let error = file.write_all_at(b"1234", 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.files("/")[1].1, b"12");

    disk.power_off_at(disk.operations() + 1);
    disk.sync_dir(p("/")).unwrap();
    for _ in 0..3 {
        assert!(disk.sync_dir(p("/")).is_err());
    }
    assert!(disk.crash(Survives::Synced).sync_dir(p("/")).is_ok());
}

#[test]
fn locks_end_with_their_holder_or_the_crash() {
    let disk = SimulatedDisk::new();
    let lock = disk.lock(p("/l")).unwrap().unwrap();
    assert!(disk.lock(p("/l")).unwrap().is_none());
    assert!(disk.crash(Survives::Everything).lock(p("/l")).unwrap().is_some());
    drop(lock);
    assert!(disk.lock(p("/l")).unwrap().is_some());
}
