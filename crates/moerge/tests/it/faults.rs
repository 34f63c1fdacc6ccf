//! Power cuts and failing disks at every single operation of a whole merge or export, on a simulated disk.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use crate::common::{golden, llama, write_model};
use moerge_checkpoint::{Fault, OutputStorage, ReadStorage, SimulatedDisk, SimulatedObjects, Survives};
use moerge_core::{
    model::source::Source,
    plan::{Models, MoePlan, PlanOptions, gguf::FileType},
    progress::Silent,
    recipe::Recipe,
};
use moerge_lib::{
    export::{ExportOptions, prepare_export},
    memory::StorageMemory,
    merge::{MergeOptions, Prepared},
};
use serde_json::json;

const OUT: &str = "/made/out";

/// The files of a folder of models, by their path on the simulated disk.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn read_model(folder: &Path, name: &str) -> Files {
    let there = |path: &Path| Path::new("/models").join(name).join(path.file_name().unwrap());
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (there(&path), std::fs::read(&path).unwrap())).collect()
}

fn disk_with(files: &Files) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
    disk
}

/// A disk with two models on it.
fn disk_with_models() -> SimulatedDisk {
    static MODELS: LazyLock<Files> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let sizes = json!({"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32});
        let written = |(seed, name): (u32, &str)| {
            write_model(&dir.path().join(name), &llama(&sizes), seed);
            read_model(&dir.path().join(name), name)
        };
        (1..).zip(["base", "a"]).flat_map(written).collect()
    });
    disk_with(&MODELS)
}

/// The whole job, from opening the models to publishing the folder.
fn merge(storage: &Arc<dyn OutputStorage>, force: bool) -> moerge_core::Result<()> {
    let text =
        "base_model: base\ngate_mode: random\nexperts:\n- source_model: base\n- {source_model: a, noise_scale: 0.1}\n";
    let recipe = Recipe::parse("moe.yml", text)?;
    let sources: Arc<dyn ReadStorage> = storage.clone();
    let open = |name: &str| Source::open(&sources, name, &Path::new("/models").join(name), None);
    let models = Models { sources: vec![open("base")?, open("a")?], base: 0, experts: vec![0, 1], shared_expert: None };
    let options = MergeOptions { shard_bytes: 1_500, threads: Some(1), force, ..MergeOptions::default() };
    let plan =
        MoePlan::new(&recipe, &models, &PlanOptions { shard_bytes: 1_500, seed: 0, lora_dtype: None, balance: false })?;
    let prepared = Prepared { recipe, models, plan, earlier_tokenizers: 0 };
    prepared.build(sources.as_ref(), storage, Path::new(OUT), &options, &Silent).map(|_| ())
}

/// What a whole run leaves, and the number of its operations.
fn whole_run() -> (Files, u64) {
    let disk = disk_with_models();
    let before = disk.operations();
    merge(&disk.shared(), false).unwrap();
    let files = disk.files(OUT);
    assert!(files.iter().filter(|(name, _)| name.extension().is_some_and(|e| e == "safetensors")).count() > 3);
    (files, disk.operations() - before)
}

#[test]
fn after_a_power_cut_at_any_operation_the_folder_is_whole_or_absent_and_a_rerun_finishes_it() {
    let (expected, operations) = whole_run();
    for survives in [Survives::Synced, Survives::Everything, Survives::Some(7)] {
        for cut in 0..operations {
            let disk = disk_with_models();
            disk.power_off_at(disk.operations() + cut);
            let result = merge(&disk.shared(), false);
            let after = disk.crash(survives);
            let found = after.files(OUT);
            assert!(found.is_empty() || found == expected, "operation {cut}: a half-written folder");
            assert!(result.is_err() || found == expected, "operation {cut}: said to be done, and was not");
            merge(&after.shared(), false).unwrap_or_else(|e| panic!("operation {cut}: {e}"));
            assert_eq!(after.files(OUT), expected, "operation {cut}");
        }
    }
}

#[test]
fn any_operation_that_fails_gives_a_message_with_its_file_and_a_rerun_finishes() {
    let (expected, operations) = whole_run();
    for fault in [Fault::NoSpace, Fault::Io, Fault::ShortRead] {
        for n in 0..operations {
            let disk = disk_with_models();
            disk.fail_operation(disk.operations() + n, fault);
            if let Err(error) = merge(&disk.shared(), false) {
                let message = error.to_string();
                assert!(message.contains(" /"), "operation {n}: no path in: {message}");
            }
            let found = disk.files(OUT);
            assert!(found.is_empty() || found == expected, "operation {n}: a half-written folder");
            merge(&disk.shared(), false).unwrap_or_else(|e| panic!("operation {n}: {e}"));
            assert_eq!(disk.files(OUT), expected, "operation {n}");
        }
    }
}

#[test]
fn a_full_disk_is_said_before_anything_is_written_and_leaves_nothing() {
    let disk = disk_with_models();
    disk.set_free_space(10_000);
    let error = merge(&disk.shared(), false).unwrap_err().to_string();
    assert!(error.contains("not enough room") && error.contains("free"), "{error}");
    assert!(disk.files("/made").is_empty(), "{:?}", disk.files("/made"));
}

#[test]
fn force_replaces_an_old_folder_only_when_the_new_one_is_whole() {
    let (expected, operations) = whole_run();
    let record = moerge_core::record::MoergeJson::new("of an older run", "").to_text();
    let old = vec![("moerge.json".into(), record.clone().into_bytes())];
    for cut in (0..operations + 8).step_by(3) {
        let disk = disk_with_models();
        disk.put(Path::new(OUT).join("old.txt"), b"precious");
        assert!(merge(&disk.shared(), true).is_err(), "a folder that moerge did not make was overwritten");
        disk.put(Path::new(OUT).join("moerge.json"), b"{}");
        assert!(merge(&disk.shared(), true).is_err(), "an empty record is no proof");
        disk.put(Path::new(OUT).join("moerge.json"), record.as_bytes());
        assert!(merge(&disk.shared(), true).is_err(), "a file of the user was deleted");
        disk.shared().remove_file(&Path::new(OUT).join("old.txt")).unwrap();
        disk.shared().sync_dir(Path::new(OUT)).unwrap();
        assert!(merge(&disk.shared(), false).is_err(), "a folder with files in it was overwritten");
        disk.power_off_at(disk.operations() + cut);
        let _ = merge(&disk.shared(), true);
        let after = disk.crash(Survives::Synced);
        // Between the two renames neither is at its place; the rerun puts one there.
        merge(&after.shared(), true).unwrap_or_else(|e| panic!("operation {cut}: {e}"));
        assert_eq!(after.files(OUT), expected, "operation {cut}");
        assert_ne!(after.files(OUT), old);
    }
}

const FILE: &str = "/made/m.gguf";

/// A disk with a model that has a tokenizer, of GPT-2's kind: the pattern of the golden one takes longer to compile than
/// everything else.
fn disk_with_golden_model() -> SimulatedDisk {
    static MODEL: LazyLock<Files> = LazyLock::new(|| {
        let mut files = read_model(&golden("llama"), "llama");
        let (_, text) = files.iter_mut().find(|(path, _)| path.ends_with("tokenizer.json")).unwrap();
        let mut tokenizer: serde_json::Value = serde_json::from_slice(text).unwrap();
        tokenizer["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
        *text = tokenizer.to_string().into_bytes();
        files
    });
    disk_with(&MODEL)
}

/// Two GGUF files in one pass, both of them split.
fn export(storage: &Arc<dyn OutputStorage>) -> moerge_core::Result<()> {
    let sources: Arc<dyn ReadStorage> = storage.clone();
    let options = ExportOptions {
        file_types: vec![FileType::F16, FileType::Q8_0],
        max_bytes: Some(20_000),
        rules: Vec::new(),
        pre_tokenizer: None,
        name: None,
        imatrix: None,
        imatrix_out: None,
        force: false,
        threads: Some(1),
        memory: None,
        storages: StorageMemory::default(),
    };
    let prepared = prepare_export(&sources, Path::new("/models/llama"), Path::new(FILE), &options)?;
    prepared.write(sources.as_ref(), storage, &options, &Silent).map(|_| ())
}

#[test]
fn after_a_power_cut_at_any_operation_the_first_part_of_a_gguf_file_has_the_others_and_a_rerun_finishes_all() {
    let cuts = [(Survives::Synced, 1), (Survives::Everything, 4), (Survives::Some(7), 4)];
    cut_exports(&|disk: &SimulatedDisk| disk.shared(), &cuts);
}

#[test]
fn the_same_in_an_object_store() {
    cut_exports(&|disk: &SimulatedDisk| SimulatedObjects(disk.clone()).shared(), &[(Survives::Synced, 1)]);
}

/// Cuts an export to what `storage` makes of a disk before every `step`th operation.
fn cut_exports(storage: &dyn Fn(&SimulatedDisk) -> Arc<dyn OutputStorage>, cuts: &[(Survives, usize)]) {
    let whole = disk_with_golden_model();
    let before = whole.operations();
    export(&storage(&whole)).unwrap();
    let (expected, operations) = (made(&whole), whole.operations() - before);
    let names: Vec<String> = expected.iter().map(|(name, _)| name.display().to_string()).collect();
    for name in ["m-f16-00002-of-", "m-q8_0-00002-of-"] {
        assert!(names.iter().any(|own| own.contains(name)), "{names:?}");
    }
    for (survives, step) in cuts {
        for cut in (0..operations).step_by(*step) {
            let disk = disk_with_golden_model();
            disk.power_off_at(disk.operations() + cut);
            let result = export(&storage(&disk));
            let after = disk.crash(*survives);
            let found = made(&after);
            for stem in ["m-f16-", "m-q8_0-"] {
                let of_type = |(name, _): &&(PathBuf, Vec<u8>)| name.display().to_string().starts_with(stem);
                let own: Vec<_> = found.iter().filter(of_type).collect();
                let has_first = own.iter().any(|(name, _)| name.display().to_string().contains("-00001-of-"));
                let is_whole = own == expected.iter().filter(of_type).collect::<Vec<_>>();
                assert!(!has_first || is_whole, "operation {cut}: {stem} is not whole");
                assert!(result.is_err() || is_whole, "operation {cut}: said to be done, and was not");
            }
            export(&storage(&after)).unwrap_or_else(|e| panic!("operation {cut}: {e}"));
            let names: Vec<_> = made(&after).into_iter().map(|(name, _)| name).collect();
            assert!(made(&after) == expected, "operation {cut}: {names:?}");
        }
    }
}

/// What is in the folder of the output. In an object store, `prepared` alone means nothing.
fn made(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files("/made").into_iter().filter(|(name, _)| !name.ends_with("prepared")).collect()
}

#[test]
fn a_disk_that_is_too_small_for_all_gguf_files_together_is_said_and_left_as_it_is() {
    let disk = disk_with_golden_model();
    let whole = disk_with_golden_model();
    export(&whole.shared()).unwrap();
    let bytes: usize = whole.files("/made").iter().map(|(_, bytes)| bytes.len()).sum();
    disk.set_free_space(bytes as u64 - 1_000);
    let error = export(&disk.shared()).unwrap_err().to_string();
    assert!(error.contains("not enough room"), "{error}");
    assert!(disk.files("/made").is_empty(), "{:?}", disk.files("/made"));
}
