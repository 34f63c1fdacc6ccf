//! The promises of an output in an object store, with a cut before every single operation of a build and with every single
//! operation failing: a reader who finds `config.json` finds a whole output, and the same command again completes it.

use std::path::Path;
use std::sync::Arc;

use moerge_checkpoint::{
    Error, Fault, Found, OutputDir, OutputStorage, ReadStorage, SimulatedDisk, SimulatedObjects, Survives,
};

use crate::crash::build::{Done, Files, OUT, WORK, build, build_failing, build_part, build_whole, layout};

fn disk(old: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.put("/models/other/model.safetensors", b"not ours");
    if old {
        disk.put(Path::new(OUT).join("model.safetensors"), b"old weights");
        disk.put(Path::new(OUT).join("config.json"), b"old config");
    }
    disk
}

fn objects(disk: &SimulatedDisk) -> Arc<dyn OutputStorage> {
    SimulatedObjects(disk.clone()).shared()
}

/// What a build on a disk writes.
fn expected(plan: &str) -> Files {
    let disk = SimulatedDisk::new();
    build_whole(&disk.shared(), plan, false);
    disk.files(OUT)
}

/// What must hold at every moment: nobody reads half.
#[track_caller]
fn check_promises(disk: &SimulatedDisk, new: &Files, context: &str) {
    let out = disk.files(OUT);
    let whole = out == *new || out == self::disk(true).files(OUT);
    let readable = out.iter().any(|(path, _)| path == Path::new("config.json"));
    assert!(whole || !readable, "{context}: a reader would find {out:?}");
    assert_eq!(disk.files("/models/other").len(), 1, "{context}");
}

#[track_caller]
fn check_rerun(disk: &SimulatedDisk, old: bool, new: &Files, context: &str) -> Done {
    let mut done = Done::default();
    if let Err(error) = build(&objects(disk), "A", old, &mut done) {
        panic!("{context}: the rerun failed: {error}");
    }
    assert_eq!(disk.files(OUT), *new, "{context}");
    assert_eq!(disk.files(WORK), [], "{context}: something is left of the work area");
    done
}

/// Whether nothing but the output, and what the next build ignores, is left.
fn is_over(disk: &SimulatedDisk, new: &Files) -> bool {
    disk.files(OUT) == *new && !disk.files(WORK).iter().any(|(path, _)| path == Path::new("plan-id"))
}

fn operations(old: bool) -> std::ops::Range<u64> {
    let disk = disk(old);
    build_whole(&objects(&disk), "A", old);
    0..disk.operations()
}

#[test]
fn the_output_is_that_on_a_disk() {
    let disk = disk(false);
    let done = build_whole(&objects(&disk), "A", false);
    assert_eq!((done.found, disk.files(OUT)), (Some(Found::Fresh), expected("A")));
    assert_eq!(disk.files(WORK), []);
}

#[test]
fn cut_before_every_operation() {
    let new = expected("A");
    for old in [false, true] {
        for n in operations(old).chain([u64::MAX]) {
            let disk = disk(old);
            disk.power_off_at(n);
            let mut done = Done::default();
            let _ = build(&objects(&disk), "A", old, &mut done);
            let context = format!("replaces {old}, cut at {n}");
            let after = disk.crash(Survives::Synced);
            check_promises(&after, &new, &context);
            let over = is_over(&after, &new);
            assert!(over || n < u64::MAX, "{context}");
            if over && !old {
                assert!(matches!(build_failing(&objects(&after), "A", false), Error::OutputExists { .. }), "{context}");
                continue;
            }
            let again = check_rerun(&after, old, &new, &context);
            if !over {
                // A shard may have appeared just before the cut without being counted, but none is written twice.
                let written = done.shards_written + again.shards_written;
                assert!(written <= layout().shards.len(), "{context}: finished shards were written again");
            }
        }
    }
}

#[test]
fn every_operation_fails_once() {
    let new = expected("A");
    for old in [false, true] {
        for n in operations(old) {
            for fault in [Fault::Io, Fault::ShortRead] {
                let disk = disk(old);
                disk.fail_operation(n, fault);
                let _ = build(&objects(&disk), "A", old, &mut Done::default());
                let context = format!("replaces {old}, {fault:?} at {n}");
                check_promises(&disk, &new, &context);
                if !is_over(&disk, &new) || old {
                    check_rerun(&disk, old, &new, &context);
                }
            }
        }
    }
}

#[test]
fn another_plan_is_refused_and_replaced_by_force() {
    let disk = disk(false);
    build_part(&objects(&disk), "A", 0, 2).unwrap();
    let error = build_failing(&objects(&disk), "B", false);
    assert!(matches!(error, Error::OtherPlanUnfinished { .. }), "{error}");
    // The build of the first plan is as it was.
    assert_eq!(OutputDir::unfinished(&SimulatedObjects(disk.clone()), Path::new(OUT)).unwrap().as_deref(), Some("A"));
    let done = build_whole(&objects(&disk), "B", true);
    assert_eq!((done.found, disk.files(OUT)), (Some(Found::OtherPlanDiscarded), expected("B")));
}

#[test]
fn parts_write_at_once_and_one_finishes() {
    let disk = disk(false);
    for part in 0..2 {
        build_part(&objects(&disk), "A", part, 2).unwrap();
        assert!(SimulatedObjects(disk.clone()).facts(&Path::new(OUT).join("config.json")).is_err());
    }
    let done = build_whole(&objects(&disk), "A", false);
    assert_eq!((done.found, done.shards_written, disk.files(OUT)), (Some(Found::Resumed), 0, expected("A")));
}

#[test]
fn a_build_that_was_taken_over_is_not_published() {
    let disk = disk(false);
    let (first, _) = OutputDir::open(&objects(&disk), Path::new(OUT), "A", false).unwrap();
    first.write_file("config.json", b"A").unwrap();
    build_part(&objects(&disk), "A", 0, 2).unwrap();
    OutputDir::open(&objects(&disk), Path::new(OUT), "B", true).unwrap();
    assert!(matches!(first.publish(), Err(Error::TakenOver { .. })));
    assert_eq!(disk.files(OUT), []);
}
