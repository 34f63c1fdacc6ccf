//! The promises of the output folder, with the power cut before every single operation of a build
//! and with every single operation failing: whenever the folder exists it is complete, the same
//! command again gives the same bytes with at most one shard's work repeated, and a previous
//! output is never lost before the new one is complete.

use std::path::Path;
use std::sync::Arc;

use moerge_checkpoint::{Error, Fault, Found, OutputStorage, Result, SimulatedDisk, Survives};

#[path = "common/build.rs"]
pub mod build;
use build::{Done, Files, OUT, WORK, build, build_failing, build_part, build_whole, layout};

/// What was at OUT before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    EmptyFolder,
    OldOutput,
}

impl Before {
    const ALL: [Before; 3] = [Before::Nothing, Before::EmptyFolder, Before::OldOutput];

    fn disk(self) -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.put("/models/other/model.safetensors", b"not ours");
        match self {
            Before::Nothing => {}
            Before::EmptyFolder => {
                disk.put(Path::new(OUT).join("x"), b"");
                let storage = disk.shared();
                storage.remove_file(&Path::new(OUT).join("x")).unwrap();
                storage.sync_dir(Path::new(OUT)).unwrap();
            }
            Before::OldOutput => {
                disk.put(Path::new(OUT).join("model.safetensors"), b"old weights");
                disk.put(Path::new(OUT).join("config.json"), b"old config");
            }
        }
        disk
    }

    fn overwrite(self) -> bool {
        self == Before::OldOutput
    }

    fn old(self) -> Option<Files> {
        (self == Before::OldOutput).then(|| self.disk().files(OUT))
    }
}

fn expected(plan: &str) -> Files {
    let disk = SimulatedDisk::new();
    build_whole(&disk.shared(), plan, false);
    disk.files(OUT)
}

/// Of a whole build, counted on a disk that has done `before.disk()`'s operations already.
fn operations(before: Before) -> std::ops::Range<u64> {
    let disk = before.disk();
    let first = disk.operations();
    build_whole(&disk.shared(), "A", before.overwrite());
    first..disk.operations()
}

/// What must hold at every moment.
#[track_caller]
fn check_promises(disk: &SimulatedDisk, old: Option<&Files>, new: &Files, context: &str) {
    let out = disk.files(OUT);
    assert!(out.is_empty() || out == *new || Some(&out) == old, "{context}: incomplete output: {out:?}");
    if let Some(old) = old
        && out != *new
    {
        let aside = disk.files(Path::new(WORK).join("old"));
        assert!(out == *old || aside == *old, "{context}: the old output is lost");
    }
    assert_eq!(disk.files("/models/other").len(), 1, "{context}");
}

/// The same command again must end with the new output, durable, and nothing beside it.
#[track_caller]
fn check_rerun(disk: &SimulatedDisk, before: Before, new: &Files, context: &str) -> Done {
    let mut done = Done::default();
    if let Err(error) = build(&disk.shared(), "A", before.overwrite(), &mut done) {
        panic!("{context}: the rerun failed: {error}");
    }
    for survives in [Survives::Everything, Survives::Synced] {
        let after = disk.crash(survives);
        assert_eq!(after.files(OUT), *new, "{context}: {survives:?} of the rerun");
        let names = after.shared().list(Path::new("/models")).unwrap();
        assert_eq!(names, ["other", "out"], "{context}: {survives:?} of the rerun");
    }
    done
}

/// Whether a build was published and its cleaning up came so far that nobody knows of it any more:
/// to run the command again then means to build again.
fn is_over(disk: &SimulatedDisk, new: &Files) -> bool {
    let plan_id = (Path::new("plan-id").to_owned(), b"A".to_vec());
    disk.files(OUT) == *new && !disk.files(WORK).contains(&plan_id)
}

fn all_survivals(seed: u64) -> impl Iterator<Item = Survives> {
    [Survives::Synced, Survives::Everything]
        .into_iter()
        .chain((0..8).map(move |i| Survives::Some(seed.wrapping_mul(8) + i)))
}

#[test]
fn power_cut_before_every_operation() {
    let new = expected("A");
    for before in Before::ALL {
        for n in operations(before).chain([u64::MAX]) {
            let disk = before.disk();
            disk.power_off_at(n);
            let mut done = Done::default();
            let _ = build(&disk.shared(), "A", before.overwrite(), &mut done);
            for survives in all_survivals(n) {
                let context = format!("{before:?}, cut at {n}, {survives:?}");
                let after = disk.crash(survives);
                check_promises(&after, before.old().as_ref(), &new, &context);
                let over = is_over(&after, &new);
                // A build that was reported as done is not undone by any cut.
                assert!(over || n < u64::MAX, "{context}");
                if over && survives == Survives::Everything {
                    // What is left when nobody knows of the build any more is the marker and the lock at most.
                    let left = after.files(WORK);
                    assert!(
                        left.iter().all(|(path, _)| path == Path::new("lock") || path == Path::new("made-by-moerge")),
                        "{context}: {left:?}"
                    );
                }
                if over && !before.overwrite() {
                    let error = build_failing(&after.shared(), "A", false);
                    assert!(matches!(error, Error::OutputExists { .. }), "{context}: {error}");
                    let names = after.shared().list(Path::new("/models")).unwrap();
                    assert_eq!(names, ["other", "out"], "{context}");
                    continue;
                }
                let again = check_rerun(&after, before, &new, &context);
                if !over {
                    let written = done.shards_written + again.shards_written;
                    assert!(written <= layout().shards.len(), "{context}: finished shards were written again");
                }
            }
        }
    }
}

/// A second cut while the rerun is at work.
#[test]
fn power_cut_during_the_rerun() {
    let new = expected("A");
    for before in [Before::Nothing, Before::OldOutput] {
        for n in operations(before) {
            let disk = before.disk();
            disk.power_off_at(n);
            let _ = build(&disk.shared(), "A", before.overwrite(), &mut Done::default());
            let first = disk.crash(if n % 2 == 0 { Survives::Synced } else { Survives::Some(n) });
            // A finished build is started again over its own output.
            let old = if is_over(&first, &new) { Some(new.clone()) } else { before.old() };
            for m in (n % 3..u64::MAX).step_by(3) {
                let disk = first.crash(Survives::Everything);
                disk.power_off_at(m);
                let outcome = build(&disk.shared(), "A", before.overwrite(), &mut Done::default());
                if outcome.is_ok() || matches!(outcome, Err(Error::OutputExists { .. })) {
                    break;
                }
                let context = format!("{before:?}, cut at {n}, then at {m}");
                let after = disk.crash(if m % 2 == 0 { Survives::Some(m) } else { Survives::Synced });
                check_promises(&after, old.as_ref(), &new, &context);
                if before.overwrite() || !is_over(&after, &new) {
                    check_rerun(&after, before, &new, &context);
                }
            }
        }
    }
}

#[test]
fn every_operation_fails_once() {
    let new = expected("A");
    for before in Before::ALL {
        for fault in [Fault::NoSpace, Fault::Io, Fault::ShortRead] {
            for n in operations(before) {
                let context = format!("{before:?}, {fault:?} at {n}");
                let disk = before.disk();
                disk.fail_operation(n, fault);
                let mut done = Done::default();
                let outcome = build(&disk.shared(), "A", before.overwrite(), &mut done);
                check_promises(&disk, before.old().as_ref(), &new, &context);
                let Err(error) = outcome else {
                    assert_eq!(disk.files(OUT), new, "{context}: reported as done");
                    continue;
                };
                let text = error.to_string();
                assert!(text.contains("/models"), "{context}: names no path: {text}");
                assert_eq!(error.is_no_space(), fault == Fault::NoSpace, "{context}: {text}");
                assert!(fault != Fault::NoSpace || error.hint().is_some(), "{context}");
                if let Error::Cleanup { .. } = error {
                    assert_eq!(disk.files(OUT), new, "{context}: {text}");
                }
                // Without a crash the old output is at its place, not only somewhere.
                if let Some(old) = before.old() {
                    let out = disk.files(OUT);
                    assert!(out == old || out == new, "{context}: the old output was left aside");
                }
                if is_over(&disk, &new) {
                    continue;
                }
                let again = check_rerun(&disk, before, &new, &context);
                let written = done.shards_written + again.shards_written;
                assert!(written <= layout().shards.len(), "{context}: finished shards were written again");
            }
        }
    }
}

/// After a cut the user decides for something else: another plan.
#[test]
fn another_plan_after_a_cut() {
    let (new_a, new_b) = (expected("A"), expected("B"));
    for before in Before::ALL {
        for n in operations(before) {
            let disk = before.disk();
            disk.power_off_at(n);
            let _ = build(&disk.shared(), "A", before.overwrite(), &mut Done::default());
            for survives in all_survivals(n) {
                let context = format!("{before:?}, cut at {n}, {survives:?}");
                // Replacing is allowed: ends with B whatever was there.
                let replacing = disk.crash(survives);
                let mut done = Done::default();
                build(&replacing.shared(), "B", true, &mut done).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(done.shards_written, layout().shards.len(), "{context}: took over shards of A");
                assert_eq!(replacing.crash(Survives::Synced).files(OUT), new_b, "{context}");

                // Replacing is not allowed: the old output, or A's, is back at its place.
                let keeping = disk.crash(survives);
                match build(&keeping.shared(), "B", false, &mut Done::default()) {
                    Ok(()) => {
                        assert!(before != Before::OldOutput, "{context}: replaced without leave");
                        assert_eq!(keeping.files(OUT), new_b, "{context}");
                    }
                    Err(Error::OutputExists { .. }) => {
                        let out = keeping.files(OUT);
                        assert!(out == new_a || Some(&out) == before.old().as_ref(), "{context}: {out:?}");
                    }
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
    }
}

/// The user tries another plan after a cut, which is cut off, too, and goes back to the first one:
/// nothing that the other plan began to clear away may be taken for something of the first.
#[test]
fn back_to_the_first_plan() {
    let new = expected("A");
    let last = operations(Before::OldOutput).end - 40;
    for n in operations(Before::OldOutput).take_while(|n| *n < last).step_by(5) {
        let disk = Before::OldOutput.disk();
        disk.power_off_at(n);
        let _ = build(&disk.shared(), "A", true, &mut Done::default());
        let first = disk.crash(Survives::Everything);
        for m in 0..60 {
            let disk = first.crash(Survives::Everything);
            disk.power_off_at(m);
            let _ = build(&disk.shared(), "B", true, &mut Done::default());
            for survives in all_survivals(n * 60 + m) {
                let context = format!("A cut at {n}, B cut at {m}, {survives:?}");
                let after = disk.crash(survives);
                check_promises(&after, Before::OldOutput.old().as_ref(), &new, &context);
                check_rerun(&after, Before::OldOutput, &new, &context);
            }
        }
    }
}

/// After a cut the user removes the output by hand. What comes back, if anything, is whole, and is
/// not taken for the new one. A second cut changes nothing about that.
#[test]
fn the_output_is_removed_after_a_cut() {
    let (old, new) = (Before::OldOutput.old(), expected("A"));
    for n in operations(Before::OldOutput) {
        let disk = Before::OldOutput.disk();
        disk.power_off_at(n);
        let _ = build(&disk.shared(), "A", true, &mut Done::default());
        for survives in all_survivals(n) {
            let context = format!("cut at {n}, {survives:?}");
            let after = disk.crash(survives);
            let _ = after.shared().remove_dir_all(Path::new(OUT));
            after.power_off_at(after.operations() + n % 12);
            let _ = build(&after.shared(), "A", false, &mut Done::default());
            let after = after.crash(Survives::Everything);
            match build(&after.shared(), "A", false, &mut Done::default()) {
                Ok(()) => assert_eq!(after.files(OUT), new, "{context}"),
                Err(Error::OutputExists { .. }) => assert_eq!(Some(after.files(OUT)), old, "{context}"),
                Err(error) => panic!("{context}: {error}"),
            }
        }
    }
}

/// Both parts, and what publishes them.
fn build_in_parts(storage: &Arc<dyn OutputStorage>, done: &mut Done) -> Result<()> {
    build_part(storage, "A", 0, 2)?;
    build_part(storage, "A", 1, 2)?;
    build(storage, "A", false, done)
}

#[test]
fn parts_with_the_power_cut_before_every_operation() {
    let (new, whole) = (expected("A"), SimulatedDisk::new());
    let mut done = Done::default();
    build_in_parts(&whole.shared(), &mut done).unwrap();
    assert_eq!((whole.files(OUT), done.found, done.shards_written), (new.clone(), Some(Found::Resumed), 0));
    for n in 0..whole.operations() {
        let disk = SimulatedDisk::new();
        disk.power_off_at(n);
        let _ = build_in_parts(&disk.shared(), &mut Done::default());
        for survives in all_survivals(n) {
            let context = format!("cut at {n}, {survives:?}");
            let after = disk.crash(survives);
            let out = after.files(OUT);
            assert!(out.is_empty() || out == new, "{context}: incomplete output: {out:?}");
            if out.is_empty() {
                build_in_parts(&after.shared(), &mut Done::default()).unwrap_or_else(|e| panic!("{context}: {e}"));
            } else if !is_over(&after, &new) {
                build_whole(&after.shared(), "A", false);
            }
            assert_eq!(after.files(OUT), new, "{context}");
        }
    }
}
