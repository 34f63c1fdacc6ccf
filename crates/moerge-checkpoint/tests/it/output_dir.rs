//! The output folder on a real file system: who may build where, what is refused, and what is left
//! behind (nothing).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moerge_checkpoint::{
    Checkpoint, Dtype, Error, Fingerprint, Found, LocalStorage, OutputDir, OutputStorage, ReadStorage, Result,
    ShardLayout, ShardWriter, TensorSpec,
};
use tempfile::TempDir;

fn storage() -> Arc<dyn OutputStorage> {
    LocalStorage::shared()
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    (dir, out)
}

fn open(out: &Path, overwrite: bool) -> Result<(OutputDir, Found)> {
    OutputDir::open(&storage(), out, "plan", overwrite)
}

fn names(dir: &Path) -> Vec<String> {
    let names = LocalStorage.list(dir).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn one_shard() -> ShardLayout {
    let spec = |name: &str| TensorSpec { name: name.to_owned(), encoding: Dtype::F32.into(), shape: vec![1000] };
    ShardLayout::new(vec![spec("a"), spec("b")], u64::MAX).unwrap()
}

fn write_shard(output: &OutputDir, layout: &ShardLayout) -> Vec<(String, Fingerprint)> {
    let shard = &layout.shards[0];
    let writer = ShardWriter::create(output, shard).unwrap();
    let bytes: Vec<Vec<u8>> = (1..=2).map(|i| vec![i; 4000]).collect();
    std::thread::scope(|scope| {
        for (tensor, bytes) in bytes.iter().enumerate() {
            for (i, piece) in bytes.chunks(700).enumerate() {
                let writer = &writer;
                scope.spawn(move || writer.write(tensor, i as u64 * 700, piece).unwrap());
            }
        }
    });
    let names = shard.tensors.iter().map(|tensor| tensor.spec.name.clone());
    let fingerprints: Vec<_> = names.zip(bytes.iter().map(|bytes| Fingerprint::of(bytes))).collect();
    writer.finish(&fingerprints).unwrap();
    fingerprints
}

#[test]
fn a_build_from_start_to_end() {
    let (dir, _) = folder();
    let out = dir.path().join("a/b/out");
    let (output, found) = open(&out, false).unwrap();
    assert_eq!(found, Found::Fresh);
    assert!(output.free_space().unwrap() > 0);
    let layout = one_shard();
    assert_eq!(output.finished_shards(&layout).unwrap(), [None]);
    let fingerprints = write_shard(&output, &layout);
    assert_eq!(output.finished_shards(&layout).unwrap(), [Some(fingerprints)]);
    output.write_file("config.json", b"{}").unwrap();
    assert!(!out.exists());

    let reading: Arc<dyn ReadStorage> = storage();
    let staged = Checkpoint::open(&reading, &output.model_dir()).unwrap();
    assert_eq!(staged.get("b").unwrap().read().unwrap(), vec![2; 4000]);
    drop(staged);
    output.publish().unwrap();
    assert_eq!(names(&out), ["config.json", "model.safetensors"]);
    assert_eq!(names(out.parent().unwrap()), ["out"]);
    assert_eq!(fs::metadata(out.join("model.safetensors")).unwrap().len(), layout.total_file_bytes());
}

#[test]
fn an_unfinished_build_is_resumed_and_cleared_of_halves() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    output.keep("routers.bin", b"routers").unwrap();
    write_shard(&output, &layout);
    fs::write(output.model_dir().join("model-2.safetensors.part"), b"half").unwrap();
    fs::write(output.model_dir().join("config.json.part"), b"half").unwrap();
    drop(output);

    let (output, found) = open(&out, false).unwrap();
    assert_eq!(found, Found::Resumed);
    assert_eq!(names(&output.model_dir()), ["model.safetensors"]);
    assert_eq!(output.kept("routers.bin").unwrap().unwrap(), b"routers");
    assert_eq!(output.kept("other").unwrap(), None);
    assert!(output.finished_shards(&layout).unwrap()[0].is_some());
}

#[test]
fn a_shard_counts_as_finished_only_if_all_of_it_fits() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    write_shard(&output, &layout);
    let file = output.model_dir().join("model.safetensors");
    let kept = output.model_dir().parent().unwrap().join("kept/model.safetensors.fingerprints.json");
    let (good_file, good_kept) = (fs::read(&file).unwrap(), fs::read(&kept).unwrap());
    let finished = || output.finished_shards(&layout).unwrap()[0].is_some();
    assert!(finished());

    fs::write(&file, &good_file[..good_file.len() - 1]).unwrap();
    assert!(!finished(), "too short");
    let mut other_header = good_file.clone();
    other_header[10] ^= 1;
    fs::write(&file, other_header).unwrap();
    assert!(!finished(), "another header");
    fs::write(&file, &good_file).unwrap();
    assert!(finished());

    fs::write(&kept, b"[").unwrap();
    assert!(!finished(), "fingerprints cut off");
    fs::write(&kept, String::from_utf8(good_kept).unwrap().replace("\"a\"", "\"c\"")).unwrap();
    assert!(!finished(), "fingerprints of another tensor");
    fs::remove_file(&kept).unwrap();
    assert!(!finished(), "no fingerprints");
    fs::remove_file(&file).unwrap();
    assert!(!finished(), "no file");
}

#[test]
fn another_plan_discards_what_was_built() {
    let (_dir, out) = folder();
    let (output, _) = open(&out, false).unwrap();
    output.keep("routers.bin", b"of another plan").unwrap();
    write_shard(&output, &one_shard());
    drop(output);
    let (output, found) = OutputDir::open(&storage(), &out, "other plan", false).unwrap();
    assert_eq!(found, Found::OtherPlanDiscarded);
    assert_eq!(output.kept("routers.bin").unwrap(), None);
    assert_eq!(output.finished_shards(&one_shard()).unwrap(), [None]);
}

#[test]
fn discard_leaves_nothing() {
    let (dir, out) = folder();
    let (output, _) = open(&out, false).unwrap();
    output.write_file("config.json", b"{}").unwrap();
    output.discard().unwrap();
    assert!(names(dir.path()).is_empty());
}

#[test]
fn only_one_may_build() {
    let (dir, out) = folder();
    let (output, _) = open(&out, false).unwrap();
    let error = open(&out, true).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    // Another output beside it is nobody's business.
    open(&dir.path().join("out2"), false).unwrap().0.discard().unwrap();
    drop(output);
    assert_eq!(open(&out, false).unwrap().1, Found::Resumed);
}

/// The last thing a build does is to remove its lock file; whoever waits for it must not end up
/// with a lock on a file that has no name any more.
#[test]
fn many_that_start_at_once_take_turns() {
    let (dir, out) = folder();
    let builds = std::sync::atomic::AtomicUsize::new(0);
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    // Refused, or the folder vanished in between: both are fine, two inside are not.
                    if let Ok((output, _)) = open(&out, true) {
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        output.discard().unwrap();
                    }
                }
            });
        }
    });
    assert!(builds.into_inner() > 0);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_output_that_exists_is_replaced_only_with_leave() {
    let (dir, out) = folder();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("model-00007-of-00007.safetensors"), b"stale").unwrap();
    let error = open(&out, false).unwrap_err();
    assert!(matches!(error, Error::OutputExists { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("another name")));
    assert_eq!(names(dir.path()), ["out"], "a refused run leaves something");

    let (output, _) = open(&out, true).unwrap();
    output.write_file("config.json", b"{}").unwrap();
    assert!(out.join("model-00007-of-00007.safetensors").exists());
    output.publish().unwrap();
    assert_eq!(names(&out), ["config.json"]);
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn an_empty_output_folder_is_fine() {
    let (dir, out) = folder();
    fs::create_dir(&out).unwrap();
    let (output, _) = open(&out, false).unwrap();
    output.write_file("config.json", b"{}").unwrap();
    output.publish().unwrap();
    assert_eq!(names(&out), ["config.json"]);
    assert_eq!(names(dir.path()), ["out"]);
}

/// Someone puts something at OUT while the build goes on: it is not ours to replace.
#[test]
fn an_output_that_appears_during_the_build() {
    let (_dir, out) = folder();
    let (output, _) = open(&out, false).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), b"precious").unwrap();
    assert!(matches!(output.publish(), Err(Error::OutputExists { .. })));
    assert_eq!(names(&out), ["thesis.txt"]);
    let (output, found) = open(&out, true).unwrap();
    assert_eq!(found, Found::Resumed);
    output.discard().unwrap();
}

/// The same between the two renames of a replacement that was cut off.
#[test]
fn an_output_that_appears_after_a_cut() {
    let (_dir, out) = folder();
    let (output, _) = open(&out, true).unwrap();
    let work = output.model_dir().parent().unwrap().to_owned();
    drop(output);
    fs::create_dir(work.join("old")).unwrap();
    fs::create_dir(&out).unwrap();
    let error = open(&out, true).unwrap_err();
    assert!(matches!(error, Error::OutputInTheWay { .. }), "{error}");
    assert!(work.join("old").exists() && out.exists());
}

#[test]
fn an_output_that_is_a_file_or_has_no_name() {
    let (dir, out) = folder();
    fs::write(&out, b"").unwrap();
    assert!(matches!(open(&out, true), Err(Error::OutputIsFile { .. })));
    assert_eq!(names(dir.path()), ["out"]);
    for path in ["/", "..", ".", ""] {
        assert!(matches!(open(Path::new(path), true), Err(Error::OutputUnnamed { .. })), "{path}");
    }
    let below_a_file = open(&out.join("sub"), false).unwrap_err();
    assert!(below_a_file.to_string().contains("out"), "{below_a_file}");
}

#[test]
fn names_of_files_are_checked() {
    let (_dir, out) = folder();
    let (output, _) = open(&out, false).unwrap();
    for name in ["", "..", "../x", "/x", "a/b", "x.part"] {
        assert!(matches!(output.write_file(name, b""), Err(Error::BadFileName { .. })), "{name}");
        assert!(matches!(output.keep(name, b""), Err(Error::BadFileName { .. })), "{name}");
        assert!(matches!(output.kept(name), Err(Error::BadFileName { .. })), "{name}");
    }
}

#[test]
fn an_unfinished_shard_stops_publication() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
    drop(writer);
    let error = output.publish().unwrap_err();
    assert!(error.to_string().contains("model.safetensors.part is not finished"), "{error}");
    assert!(!out.exists());
}

#[test]
fn a_shard_with_a_hole_cannot_be_finished() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
    writer.write(0, 0, &[1; 4000]).unwrap();
    writer.write(1, 4, &[1; 3996]).unwrap();
    let fingerprint = Fingerprint::of(b"");
    let error = writer.finish(&[("a".to_owned(), fingerprint), ("b".to_owned(), fingerprint)]).unwrap_err();
    assert!(error.to_string().contains("tensor `b` is not complete: 3996 of 4000 bytes"), "{error}");
}

#[test]
fn writes_stay_inside_their_tensor() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
    for (tensor, offset, len) in [(0, 3999, 2), (0, 4000, 1), (1, u64::MAX, 1), (2, 0, 1)] {
        let error = writer.write(tensor, offset, &vec![0; len]).unwrap_err();
        assert!(matches!(error, Error::OutOfBounds { .. }), "{error}");
    }
}

#[test]
fn fingerprints_have_to_be_of_the_shards_tensors() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    let fingerprint = Fingerprint::of(b"");
    for names in [&["b", "a"][..], &["a"], &["a", "b", "c"], &[]] {
        let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
        writer.write(0, 0, &[1; 4000]).unwrap();
        writer.write(1, 0, &[1; 4000]).unwrap();
        let given: Vec<_> = names.iter().map(|name| (name.to_string(), fingerprint)).collect();
        assert!(matches!(writer.finish(&given), Err(Error::WrongFingerprints { .. })), "{names:?}");
    }
    assert_eq!(output.finished_shards(&layout).unwrap(), [None]);
}

/// Zeros are left out of the file, which was made of them; what is read is the same.
#[test]
fn zeros_are_written_by_leaving_them_out() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
    let mut mixed = vec![0; 4000];
    mixed[3998] = 7;
    writer.write(0, 0, &mixed[..2000]).unwrap();
    writer.write(0, 2000, &mixed[2000..]).unwrap();
    writer.write(1, 0, &[0; 4000]).unwrap();
    let fingerprint = Fingerprint::of(b"");
    writer.finish(&[("a".to_owned(), fingerprint), ("b".to_owned(), fingerprint)]).unwrap();
    let reading: Arc<dyn ReadStorage> = storage();
    let staged = Checkpoint::open(&reading, &output.model_dir()).unwrap();
    assert_eq!(staged.get("a").unwrap().read().unwrap(), mixed);
    assert_eq!(staged.get("b").unwrap().read().unwrap(), [0; 4000]);
}

/// A finished shard that is written once more is not finished until it is so again.
#[test]
fn a_shard_written_once_more() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let (output, _) = open(&out, false).unwrap();
    write_shard(&output, &layout);
    let writer = ShardWriter::create(&output, &layout.shards[0]).unwrap();
    assert_eq!(output.finished_shards(&layout).unwrap(), [None]);
    drop(writer);
    write_shard(&output, &layout);
    assert!(output.finished_shards(&layout).unwrap()[0].is_some());
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// `out -> /big/disk/out`: the folder that the link leads to is replaced, where it is.
    #[test]
    fn a_link_to_a_folder_stands_for_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (big, link) = (dir.path().join("big"), dir.path().join("out"));
        fs::create_dir_all(big.join("real")).unwrap();
        symlink("big/real", &link).unwrap();
        let (output, _) = open(&link, false).unwrap();
        assert!(output.model_dir().starts_with(fs::canonicalize(&big).unwrap()));
        output.write_file("config.json", b"{}").unwrap();
        output.publish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&link), ["config.json"]);
        assert_eq!(names(&big), ["real"]);
    }

    #[test]
    fn files_are_readable_as_the_users_mask_says() {
        let (_dir, out) = folder();
        let (output, _) = open(&out, false).unwrap();
        output.write_file("config.json", b"{}").unwrap();
        output.publish().unwrap();
        let plain = out.join("plain");
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out.join("config.json")), mode(&plain));
    }

    /// A folder that containers mount, such as `docker run -v /data:/out`, cannot be renamed.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_mount_point_is_refused_at_once() {
        let error = OutputDir::open(&storage(), Path::new("/proc"), "plan", true).unwrap_err();
        assert!(matches!(error, Error::OutputIsMountPoint { .. }), "{error}");
        assert!(error.hint().unwrap().contains("inside"));
    }

    fn work_of(out: &Path) -> PathBuf {
        out.with_file_name(".out.moerge-build")
    }

    #[track_caller]
    fn refused(out: &Path, why: &str) {
        for overwrite in [false, true] {
            let error = open(out, overwrite).unwrap_err();
            assert!(matches!(error, Error::NotAWorkFolder { .. }), "{error}");
            assert!(error.to_string().contains(why) && error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn attack_01_a_work_folder_that_is_a_link_is_refused_and_its_target_untouched() {
        let (dir, out) = folder();
        let precious = dir.path().join("precious");
        fs::create_dir_all(precious.join("old")).unwrap();
        fs::write(precious.join("thesis.txt"), b"x").unwrap();
        symlink(&precious, work_of(&out)).unwrap();
        refused(&out, "symbolic link");
        // Also where the target is empty, or one of moerge's own.
        fs::remove_dir_all(&precious).unwrap();
        refused(&out, "symbolic link");
        fs::create_dir(&precious).unwrap();
        refused(&out, "symbolic link");
        assert!(names(&precious).is_empty());
    }

    #[test]
    fn attack_01_a_work_folder_of_somebody_else_is_refused_and_untouched() {
        let (_dir, out) = folder();
        let work = work_of(&out);
        for planted in ["thesis.txt", "plan-id", "old/model.safetensors", "model/x", "made-by-moerge"] {
            fs::create_dir_all(work.join(planted).parent().unwrap()).unwrap();
            fs::write(work.join(planted), b"precious").unwrap();
            refused(&out, "made-by-moerge");
            assert_eq!(fs::read(work.join(planted)).unwrap(), b"precious");
            assert!(!out.exists());
            fs::remove_dir_all(&work).unwrap();
        }
        fs::write(&work, b"a file").unwrap();
        refused(&out, "not a folder");
    }

    #[test]
    fn attack_01_what_moerge_did_not_put_into_a_work_folder_is_refused_and_untouched() {
        let (dir, out) = folder();
        let work = work_of(&out);
        let precious = dir.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("thesis.txt"), b"x").unwrap();
        drop(open(&out, false).unwrap());
        for (link, target) in [
            ("old", precious.clone()),
            ("trash", precious.clone()),
            ("thesis", precious.clone()),
            ("model/model.safetensors", precious.join("thesis.txt")),
            ("kept/config.json.part", precious.join("thesis.txt")),
        ] {
            symlink(&target, work.join(link)).unwrap();
            refused(&out, link.rsplit('/').next().unwrap());
            assert!(!out.exists() && fs::symlink_metadata(work.join(link)).unwrap().is_symlink());
            fs::remove_file(work.join(link)).unwrap();
        }
        fs::rename(work.join("model"), work.join("../elsewhere")).unwrap();
        symlink("../elsewhere", work.join("model")).unwrap();
        refused(&out, "model is not a folder");
        assert_eq!(names(&precious), ["thesis.txt"]);
        fs::remove_file(work.join("model")).unwrap();
        open(&out, false).unwrap().0.discard().unwrap();
    }

    /// A cut right after the work folder or its lock was created.
    #[test]
    fn a_work_folder_without_anything_in_it_is_taken_over() {
        let (dir, out) = folder();
        fs::create_dir(work_of(&out)).unwrap();
        open(&out, false).unwrap().0.discard().unwrap();
        fs::create_dir(work_of(&out)).unwrap();
        fs::write(work_of(&out).join("lock"), b"").unwrap();
        open(&out, false).unwrap().0.discard().unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn attack_07_only_regular_files_are_opened_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let link = dir.path().join("link");
        symlink(&fifo, &link).unwrap();
        let storage = storage();
        for path in [&fifo, &link, Path::new("/dev/zero"), Path::new("/dev/null"), dir.path()] {
            assert!(storage.open(path).is_err(), "{}", path.display());
            assert!(storage.create(path).is_err(), "{}", path.display());
        }
        let target = dir.path().join("target");
        fs::write(&target, b"kept").unwrap();
        symlink(&target, dir.path().join("to-file")).unwrap();
        assert_eq!(storage.open(&dir.path().join("to-file")).unwrap().len(), 4);
        assert!(storage.create(&dir.path().join("to-file")).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"kept");
    }
}

#[test]
fn several_processes_write_shards_of_the_same_plan() {
    let (_dir, out) = folder();
    let layout = one_shard();
    let part = |plan: &str| OutputDir::open_part(&storage(), &out, plan, false);
    let (first, found) = part("plan").unwrap();
    assert_eq!(found, Found::Fresh);
    let (second, found) = part("plan").unwrap();
    assert_eq!(found, Found::Resumed);
    assert_eq!(OutputDir::unfinished(&LocalStorage, &out).unwrap().as_deref(), Some("plan"));

    // Both write the same shard, in files of their own; a third is killed while it does.
    let (third, _) = part("plan").unwrap();
    let unfinished = [&first, &second, &third].map(|output| ShardWriter::create(output, &layout.shards[0]).unwrap());
    assert_eq!(names(&first.model_dir()).len(), 3);
    let fingerprints = write_shard(&first, &layout);
    drop((unfinished, third));
    assert_eq!(write_shard(&second, &layout), fingerprints);
    assert_eq!(first.finished_shards(&layout).unwrap(), [Some(fingerprints)]);

    // Nobody publishes or replaces it meanwhile.
    assert!(matches!(open(&out, false), Err(Error::Locked { .. })));
    drop((first, second));
    let (whole, found) = open(&out, false).unwrap();
    assert_eq!(found, Found::Resumed);
    assert_eq!(names(&whole.model_dir()), ["model.safetensors"]);
    whole.publish().unwrap();
    assert_eq!(names(&out), ["model.safetensors"]);
    assert_eq!(OutputDir::unfinished(&LocalStorage, &out).unwrap(), None);
}
