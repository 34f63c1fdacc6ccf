//! Several GGUF files from one pass over the weights, files in parts, and the file of the importance matrix.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use moerge_checkpoint::{
    Facts, LocalStorage, ReadAt, ReadStorage,
    gguf::{GgufFile, Value},
};
use moerge_core::{
    plan::gguf::FileType,
    progress::{Progress, Silent, Stage},
};
use moerge_lib::{
    export::{ExportOptions, ImatrixSource, prepare_export},
    memory::StorageMemory,
};

use crate::common::{example, golden, moerge, moerge_ok, write_short_self_calibrated};

fn export(dir: &Path, model: &Path, out: &str, more: &[&str]) -> String {
    let output = moerge_ok(dir, &[&["export", model.to_str().unwrap(), out], more].concat());
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn refusal(dir: &Path, arguments: &[&str]) -> String {
    let output = moerge(dir, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The type and the bytes of every tensor in these files.
fn tensors(paths: &[PathBuf]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut tensors = BTreeMap::new();
    for path in paths {
        let (file, bytes) = (GgufFile::open(&LocalStorage, path).unwrap(), fs::read(path).unwrap());
        for tensor in file.tensors {
            let own = bytes[tensor.offset as usize..(tensor.offset + tensor.len) as usize].to_vec();
            assert!(tensors.insert(tensor.name, (tensor.ggml_type, own)).is_none());
        }
    }
    tensors
}

#[test]
fn several_types_are_the_files_that_single_runs_write() {
    let dir = tempfile::tempdir().unwrap();
    let model = example("tiny/base");
    let types = ["--quant", "q8_0", "--quant", "Q4_0", "--quant", "bf16"];
    let said = export(dir.path(), &model, "m.gguf", &types);
    assert_eq!(names(dir.path()), ["m-bf16.gguf", "m-q4_0.gguf", "m-q8_0.gguf"]);
    assert!(said.contains("m-q4_0.gguf llama in q4_0"), "{said}");
    let single = tempfile::tempdir().unwrap();
    for name in ["q8_0", "q4_0", "bf16"] {
        let out = format!("m-{name}.gguf");
        export(single.path(), &model, &out, &["--quant", name]);
        assert!(fs::read(dir.path().join(&out)).unwrap() == fs::read(single.path().join(&out)).unwrap(), "{name}");
    }
    // What is missing of them is made; what is there stays.
    fs::remove_file(dir.path().join("m-q4_0.gguf")).unwrap();
    let kept = fs::metadata(dir.path().join("m-bf16.gguf")).unwrap().modified().unwrap();
    let said = export(dir.path(), &model, "m.gguf", &types);
    assert_eq!(fs::metadata(dir.path().join("m-bf16.gguf")).unwrap().modified().unwrap(), kept);
    assert_eq!(said.matches("already there").count(), 2, "{said}");
    assert!(fs::read(dir.path().join("m-q4_0.gguf")).unwrap() == fs::read(single.path().join("m-q4_0.gguf")).unwrap());
    assert_eq!(names(dir.path()).len(), 3);
    let twice =
        refusal(dir.path(), &["export", model.to_str().unwrap(), "x.gguf", "--quant", "q8_0", "--quant", "Q8_0"]);
    assert!(twice.contains("--quant q8_0 is given twice"), "{twice}");
}

fn options(file_types: &[FileType]) -> ExportOptions {
    ExportOptions {
        file_types: file_types.to_vec(),
        max_bytes: None,
        rules: Vec::new(),
        pre_tokenizer: None,
        name: None,
        imatrix: None,
        imatrix_out: None,
        force: false,
        threads: Some(2),
        memory: None,
        storages: StorageMemory::default(),
    }
}

/// A storage that counts the bytes which are read of weights.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingFile(Arc<AtomicU64>, Arc<dyn ReadAt>);

impl ReadStorage for Counting {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn ReadAt>> {
        let file = LocalStorage.open(path)?;
        match path.extension().is_some_and(|extension| extension == "safetensors") {
            true => Ok(Arc::new(CountingFile(self.0.clone(), file))),
            false => Ok(file),
        }
    }

    fn facts(&self, path: &Path) -> std::io::Result<Facts> {
        LocalStorage.facts(path)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
        LocalStorage.list(dir)
    }
}

impl ReadAt for CountingFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.1.read_exact_at(buffer, offset)
    }

    fn len(&self) -> u64 {
        self.1.len()
    }
}

#[test]
fn several_types_read_the_weights_once() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_read = |file_types: &[FileType]| {
        let counting = Counting::default();
        let read = counting.0.clone();
        let storage: Arc<dyn ReadStorage> = Arc::new(counting);
        let options = options(file_types);
        let out = dir.path().join(format!("m{}.gguf", file_types.len()));
        let prepared = prepare_export(&storage, &example("tiny/base"), &out, &options).unwrap();
        let before = read.load(Ordering::Relaxed);
        prepared.write(storage.as_ref(), &LocalStorage::shared(), &options, &Silent).unwrap();
        read.load(Ordering::Relaxed) - before
    };
    let one = bytes_read(&[FileType::Q8_0]);
    assert!(one > 1 << 20, "{one}");
    assert_eq!(bytes_read(&[FileType::Q8_0, FileType::Q4_0, FileType::F16]), one);
}

/// What an MoE needs besides its weights, routers and importance, is made once.
#[test]
fn an_moe_in_several_types_has_the_routers_and_the_importance_of_one() {
    let dir = tempfile::tempdir().unwrap();
    write_short_self_calibrated(dir.path());
    let imatrix = ["--imatrix", "self"];
    let both = ["merge", "moe.yml", "moe.gguf", "--quant", "q4_0", "--quant", "q5_1", "--json"];
    let output = moerge_ok(dir.path(), &[&both[..], &imatrix].concat());
    let events = String::from_utf8(output.stdout).unwrap();
    let result: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    let outs = result["files"].as_array().unwrap().iter().map(|file| file["out"].as_str().unwrap().to_owned());
    let outs: Vec<PathBuf> = outs.map(|out| dir.path().join(out)).collect();
    assert!(outs[0].ends_with("moe-q4_0.gguf") && outs[1].ends_with("moe-q5_1.gguf"), "{outs:?}");
    for (name, out) in ["q4_0", "q5_1"].iter().zip(outs) {
        let single = ["merge", "moe.yml", "single.gguf", "--force", "--quant", name];
        moerge_ok(dir.path(), &[&single[..], &imatrix].concat());
        assert!(tensors(&[out]) == tensors(&[dir.path().join("single.gguf")]), "{name}");
    }
}

fn parts(dir: &Path, stem: &str, count: usize) -> Vec<PathBuf> {
    (1..=count).map(|part| dir.join(format!("{stem}-{part:05}-of-{count:05}.gguf"))).collect()
}

#[test]
fn a_split_file_is_the_whole_one_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let model = example("tiny/base");
    export(dir.path(), &model, "whole.gguf", &["--quant", "q8_0", "--name", "m"]);
    let whole = tensors(&[dir.path().join("whole.gguf")]);
    let arguments = ["--quant", "q8_0", "--name", "m", "--max-size", "300KB"];
    let said = export(dir.path(), &model, "m.gguf", &arguments);
    let count = names(dir.path()).len() - 1;
    let parts = parts(dir.path(), "m", count);
    assert!(count > 2 && said.contains(&format!("in {count} files")), "{said}");
    assert!(tensors(&parts) == whole);
    for (number, path) in parts.iter().enumerate() {
        let file = GgufFile::open(&LocalStorage, path).unwrap();
        assert_eq!(file.get("split.no"), Some(&Value::Uint16(number as u16)));
        assert_eq!(file.get("split.count"), Some(&Value::Uint16(count as u16)));
        assert_eq!(file.get("split.tensors.count"), Some(&Value::Int32(whole.len() as i32)));
        assert_eq!(file.get("general.name").is_some(), number == 0);
        let weights: u64 = file.tensors.iter().map(|tensor| tensor.len).sum();
        assert!(weights <= 300_000 || file.tensors.len() == 1);
    }
    let first = parts[0].to_str().unwrap();
    moerge_ok(dir.path(), &["verify", first]);
    moerge_ok(dir.path(), &["export", first, "again.gguf", "--quant", "f32", "--name", "m"]);
    moerge_ok(dir.path(), &["export", "whole.gguf", "straight.gguf", "--quant", "f32", "--name", "m"]);
    assert!(tensors(&[dir.path().join("again.gguf")]) == tensors(&[dir.path().join("straight.gguf")]));

    assert!(export(dir.path(), &model, "m.gguf", &arguments).contains("already there"));
    fs::write(&parts[1], b"mine").unwrap();
    let refused =
        refusal(dir.path(), &[&["export", model.to_str().unwrap(), "m.gguf", "--force"], &arguments[..]].concat());
    assert!(refused.contains("00002-of-") && refused.contains("moerge did not make it"), "{refused}");
    assert_eq!(fs::read(&parts[1]).unwrap(), b"mine");
}

#[test]
fn plan_knows_every_byte_of_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = example("tiny/ties.yml");
    let types = ["--quant", "q8_0", "--quant", "q4_k_m", "--max-size", "500KB"];
    let arguments = [&[recipe.to_str().unwrap(), "out.gguf"], &types[..]].concat();
    let output = moerge_ok(dir.path(), &[&["plan"], &arguments[..], &["--json"]].concat());
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    moerge_ok(dir.path(), &[&["merge"], &arguments[..]].concat());
    let mut planned = 0;
    for file in plan["gguf"]["files"].as_array().unwrap() {
        for part in file["parts"].as_array().unwrap() {
            let path = dir.path().join(part["path"].as_str().unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), part["bytes"].as_u64().unwrap(), "{path:?}");
            planned += 1;
        }
    }
    assert!(planned > 4 && names(dir.path()).len() == planned, "{planned}");
    let total: u64 = names(dir.path()).iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
    assert_eq!(plan["gguf"]["bytes"].as_u64(), Some(total));
    let page = String::from_utf8(moerge_ok(dir.path(), &[&["plan"], &arguments[..]].concat()).stdout).unwrap();
    assert!(page.contains("out-q8_0-00001-of-0000"), "{page}");
}

#[test]
fn the_file_of_an_importance_matrix_is_no_one_else_s() {
    let dir = tempfile::tempdir().unwrap();
    let base = example("tiny/base");
    let base = base.to_str().unwrap();
    let texts = tempfile::tempdir().unwrap();
    let (text, other_text) = (short_text(texts.path(), "story"), short_text(texts.path(), "code"));
    let run = |out, text: &Path, more: &[&str]| {
        let text = text.to_str().unwrap();
        let arguments = ["export", base, out, "--quant", "q4_0", "--imatrix-text", text, "--imatrix-out", "i.gguf"];
        moerge(dir.path(), &[&arguments[..], more].concat())
    };
    let refused = |output: std::process::Output| {
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    fs::write(dir.path().join("i.gguf"), b"mine").unwrap();
    let said = refused(run("m.gguf", &text, &["--force"]));
    assert!(said.contains("i.gguf is not replaced"), "{said}");
    assert_eq!(names(dir.path()), ["i.gguf"]);
    fs::remove_file(dir.path().join("i.gguf")).unwrap();

    assert!(run("m.gguf", &text, &[]).status.success());
    let first = fs::read(dir.path().join("i.gguf")).unwrap();
    // The same again leaves it; that of another text needs leave.
    assert!(run("m.gguf", &text, &[]).status.success());
    let said = refused(run("n.gguf", &other_text, &[]));
    assert!(said.contains("i.gguf exists") && said.contains("--force"), "{said}");
    assert_eq!(fs::read(dir.path().join("i.gguf")).unwrap(), first);
    assert!(run("n.gguf", &other_text, &["--force"]).status.success());
    assert_ne!(fs::read(dir.path().join("i.gguf")).unwrap(), first);

    // Where the model is there, nothing is measured, and that is said.
    fs::remove_file(dir.path().join("i.gguf")).unwrap();
    let said = String::from_utf8(run("n.gguf", &other_text, &[]).stderr).unwrap();
    assert!(said.contains("i.gguf is not written: n.gguf is there already"), "{said}");
    let same = ["export", base, "i.gguf", "--quant", "q4_0", "--imatrix", "self", "--imatrix-out", "i.gguf"];
    assert!(refusal(dir.path(), &same).contains("both the model and its importance matrix"));
}

/// The beginning of a text of `examples/tiny/valid`, in `dir`.
fn short_text(dir: &Path, name: &str) -> PathBuf {
    let text = fs::read_to_string(example(&format!("tiny/valid/{name}.txt"))).unwrap();
    let path = dir.join(format!("{name}.txt"));
    fs::write(&path, text.chars().take(3_000).collect::<String>()).unwrap();
    path
}

/// Stops a run when weights are to be written, and remembers its stages.
#[derive(Default)]
struct UntilWeights {
    stop: bool,
    stages: Mutex<Vec<Stage>>,
}

impl Progress for UntilWeights {
    fn start(&self, stage: Stage, _: u64, _: u64) {
        self.stages.lock().unwrap().push(stage);
    }

    fn advance(&self, _: Stage, _: u64) {}

    fn finish(&self, _: Stage, _: &str) {}

    fn stop_requested(&self) -> bool {
        self.stop && self.stages.lock().unwrap().contains(&Stage::Weights)
    }
}

#[test]
fn an_importance_matrix_is_measured_once_by_a_run_and_its_resumption() {
    let (dir, texts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let options = ExportOptions {
        imatrix: Some(ImatrixSource::Texts(vec![short_text(texts.path(), "story")])),
        ..options(&[FileType::Q4_0, FileType::Q5_1])
    };
    let run = |out: &str, stop| {
        let prepared = prepare_export(&storage, &example("tiny/base"), &dir.path().join(out), &options).unwrap();
        let progress = UntilWeights { stop, ..UntilWeights::default() };
        let report = prepared.write(storage.as_ref(), &LocalStorage::shared(), &options, &progress);
        (report.is_ok(), progress.stages.into_inner().unwrap().contains(&Stage::Prompts))
    };
    assert_eq!(run("m.gguf", true), (false, true));
    assert_eq!(run("m.gguf", false), (true, false));
    assert_eq!(run("n.gguf", false), (true, true));
    for name in ["q4_0", "q5_1"] {
        let [resumed, straight] = ["m", "n"].map(|stem| tensors(&[dir.path().join(format!("{stem}-{name}.gguf"))]));
        assert!(resumed == straight, "{name}");
    }
    assert_eq!(names(dir.path()).len(), 4);
}

/// Stated before anything is written, and kept to.
#[test]
fn measuring_an_importance_matrix_counts_in_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = example("tiny/ties.yml");
    let plan = |more: &[&str]| {
        let arguments = ["plan", recipe.to_str().unwrap(), "m.gguf", "--quant", "q4_0", "--json"];
        let output = moerge_ok(dir.path(), &[&arguments[..], more].concat());
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["memory"]["needed"].as_u64().unwrap()
    };
    let text = example("tiny/valid/story.txt");
    let (without, with) = (plan(&[]), plan(&["--imatrix-text", text.to_str().unwrap()]));
    assert!(with > without, "{with} {without}");
    let golden = golden("llama");
    let arguments = ["export", golden.to_str().unwrap(), "g.gguf", "--quant", "q4_0", "--imatrix", "self"];
    let refused = refusal(dir.path(), &[&arguments[..], &["--memory", "17MiB"]].concat());
    assert!(refused.contains("measuring the importance matrix exceeds the memory budget"), "{refused}");
    assert!(names(dir.path()).is_empty());
}
