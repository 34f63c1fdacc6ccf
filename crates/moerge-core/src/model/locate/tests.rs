//! Where models are found, and the errors for those that are not.

use std::{ffi::OsString, fs};

use insta::assert_snapshot;
use moerge_checkpoint::LocalStorage;
use tempfile::TempDir;

use super::*;
use crate::{error::Error, rendered::rendered};

/// A disk with a recipe's folder, a home and a Hub cache in it.
struct Disk(TempDir);

impl Disk {
    /// With these files; `name=content` gives one a content.
    fn with(files: &[&str]) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        for file in files.iter().chain(&["recipe/moe.yml"]) {
            let (name, text) = file.split_once('=').unwrap_or((file, ""));
            let path = disk.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        disk
    }

    fn locate(&self, written: &str) -> Result<ModelFolders, ModelNotFound> {
        let root = self.0.path();
        let cache = HubCache { folder: Some(root.join("hub")), home: Some(root.join("home")), ..HubCache::default() };
        locate(&LocalStorage, &ModelRef::parse(written).unwrap(), &root.join("recipe"), &cache)
    }

    /// The model's folder relative to the disk's root, and the adapter's after a `+`.
    fn found(&self, written: &str) -> String {
        let folders = self.locate(written).unwrap_or_else(|e| panic!("{}", rendered(&e.into())));
        let name = |path: &Path| path.strip_prefix(self.0.path()).unwrap_or(path).display().to_string();
        match folders.adapter {
            Some(adapter) => format!("{}+{}", name(&folders.model), name(&adapter)),
            None => name(&folders.model),
        }
    }

    fn error(&self, written: &str) -> String {
        let error: Error = self.locate(written).expect_err("the model was found").into();
        rendered(&error).replace(&self.0.path().display().to_string(), "<disk>")
    }

    fn is_on_the_hub(&self, written: &str) -> bool {
        matches!(self.locate(written).expect_err("the model was found").why, Why::NotDownloaded(_))
    }
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A model in the Hub's cache with the branch `main` and a pull request.
fn hub_model() -> [String; 4] {
    let repo = "hub/models--org--name";
    [
        format!("{repo}/refs/main={COMMIT}\n"),
        format!("{repo}/refs/refs/pr/1={COMMIT}"),
        format!("{repo}/snapshots/{COMMIT}/config.json"),
        format!("{repo}/snapshots/{COMMIT}/adapter_config.json"),
    ]
}

fn with_hub_model(more: &[&str]) -> Disk {
    let hub = hub_model();
    let files: Vec<&str> = hub.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Disk::with(&files)
}

#[test]
fn a_path_counts_from_the_recipes_folder() {
    let disk = Disk::with(&["recipe/models/a b/config.json", "recipe/plain/config.json", "beside/config.json"]);
    assert_eq!(disk.found("models/a b"), "recipe/models/a b");
    assert_eq!(disk.found("plain"), "recipe/plain");
    assert_eq!(disk.found("./plain/"), "recipe/plain");
    assert_eq!(disk.found("."), "recipe");
    assert_eq!(disk.found("../beside"), "recipe/../beside");
}

#[test]
fn a_path_counts_from_the_current_folder_as_in_mergekit() {
    assert_eq!(Disk::with(&[]).found("src/model/locate"), "src/model/locate");
}

#[test]
fn the_recipes_folder_comes_before_the_current_one() {
    let disk = Disk::with(&["recipe/src/model/locate/config.json"]);
    assert_eq!(disk.found("src/model/locate"), "recipe/src/model/locate");
}

#[test]
fn an_absolute_path_and_one_from_home() {
    let disk = Disk::with(&["home/models/a/config.json"]);
    assert_eq!(disk.found("~/models/a"), "home/models/a");
    assert_eq!(disk.found(disk.0.path().join("home/models/a").to_str().unwrap()), "home/models/a");
}

#[test]
fn a_folder_may_have_an_at_or_a_plus_in_its_name() {
    let disk = Disk::with(&["recipe/a@b/x", "recipe/c++/d/x", "recipe/me@home/e@v1/x", "recipe/f/x"]);
    assert_eq!(disk.found("a@b"), "recipe/a@b");
    assert_eq!(disk.found("c++/d"), "recipe/c++/d");
    assert_eq!(disk.found("c++/d+a@b"), "recipe/c++/d+recipe/a@b");
    assert_eq!(disk.found("me@home/e@v1+f"), "recipe/me@home/e@v1+recipe/f");
}

#[test]
fn a_model_and_its_adapter() {
    let disk = with_hub_model(&["recipe/lora/adapter_config.json"]);
    assert_eq!(disk.found("org/name+lora"), format!("hub/models--org--name/snapshots/{COMMIT}+recipe/lora"));
}

#[test]
fn the_hubs_cache_by_branch_pull_request_and_commit() {
    let disk = with_hub_model(&[]);
    let snapshot = format!("hub/models--org--name/snapshots/{COMMIT}");
    assert_eq!(disk.found("org/name"), snapshot);
    assert_eq!(disk.found("org/name@main"), snapshot);
    assert_eq!(disk.found("org/name@refs/pr/1"), snapshot);
    assert_eq!(disk.found(&format!("org/name@{COMMIT}")), snapshot);
    assert_eq!(disk.found("org/name+org/name"), format!("{snapshot}+{snapshot}"));
}

#[test]
fn an_old_id_without_owner() {
    let snapshot = format!("hub/models--gpt2/snapshots/{COMMIT}");
    let disk = Disk::with(&[&format!("hub/models--gpt2/refs/main={COMMIT}"), &format!("{snapshot}/config.json")]);
    assert_eq!(disk.found("gpt2"), snapshot);
}

#[test]
fn a_folder_comes_before_the_hub() {
    assert_eq!(with_hub_model(&["recipe/org/name/config.json"]).found("org/name"), "recipe/org/name");
}

#[test]
fn a_name_that_cannot_be_an_id_is_a_missing_folder() {
    let disk = Disk::with(&[]);
    assert!(disk.is_on_the_hub("org/name") && disk.is_on_the_hub("org/name@v1") && disk.is_on_the_hub("o-r.g/n_a"));
    for written in
        ["name", "a/b/c", "./a/b", "~/a", "/a/b", "a b/c", "a/b--c", "a/..", "../b", "a/", "ä/b", "a/b.", "C:\\a"]
    {
        assert!(!disk.is_on_the_hub(written), "{written}");
    }
}

#[test]
fn nothing_outside_of_the_cache_is_reached() {
    let disk = with_hub_model(&["hub/models--org--name/x/config.json", "x/config.json"]);
    for written in
        ["org/name@../x", "org/name@..", "org/name@a/../../x", "org/name@/x", "org/name@a//b", "org/name@.\\..\\x"]
    {
        assert!(!disk.is_on_the_hub(written), "{written}");
    }
    let disk = Disk::with(&["hub/models--org--name/refs/main=../../../x", "x/config.json"]);
    assert!(disk.is_on_the_hub("org/name"));
}

#[test]
fn the_environment_as_huggingface_hub_reads_it() {
    let folder = |vars: &[(&str, &str)]| {
        let get = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        HubCache::from_vars(get).folder.map(|f| f.display().to_string())
    };
    let home = ("HOME", "/h");
    assert_eq!(folder(&[home]).unwrap(), "/h/.cache/huggingface/hub");
    assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "/x")]).unwrap(), "/x/huggingface/hub");
    assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")]).unwrap(), "/h/hf/hub");
    assert_eq!(folder(&[home, ("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]).unwrap(), "/old");
    assert_eq!(folder(&[home, ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")]).unwrap(), "/c");
    assert_eq!(folder(&[home, ("HF_HUB_CACHE", ""), ("HF_HOME", "")]).unwrap(), "/h/.cache/huggingface/hub");
    assert_eq!(folder(&[]), None);
}

#[test]
fn without_a_home_the_error_says_so() {
    let cache = HubCache::default();
    let error = locate(&LocalStorage, &ModelRef::parse("~/a").unwrap(), Path::new("recipe"), &cache).unwrap_err();
    assert_snapshot!(rendered(&error.into()), @"
    error: there is no model folder ~/a
      looked at: ~: no home folder is known (HOME)
      hint: give a folder, from the recipe's or the current one, or an id on the Hub: `org/name`
    ");
    let error = locate(&LocalStorage, &ModelRef::parse("org/a").unwrap(), Path::new("recipe"), &cache).unwrap_err();
    assert_snapshot!(rendered(&error.into()), @"
    error: org/a is not downloaded yet
      looked at: recipe/org/a: no such folder
      looked at: org/a: no such folder
      looked at: ~/.cache/huggingface/hub: no home folder is known (HOME, HF_HOME)
    ");
}

#[test]
fn not_downloaded() {
    assert_snapshot!(Disk::with(&[]).error("org/name"), @"
    error: org/name is not downloaded yet
      looked at: <disk>/recipe/org/name: no such folder
      looked at: org/name: no such folder
      looked at: <disk>/hub/models--org--name: not downloaded
    ");
}

#[test]
fn a_revision_not_downloaded() {
    assert_snapshot!(with_hub_model(&[]).error("org/name@v2"), @"
    error: org/name@v2 is not downloaded yet
      looked at: <disk>/recipe/org/name@v2: no such folder
      looked at: org/name@v2: no such folder
      looked at: <disk>/hub/models--org--name/refs/v2: this revision is not downloaded
    ");
}

#[test]
fn a_commit_not_downloaded() {
    assert_snapshot!(with_hub_model(&[]).error("org/name@ffffffffffffffffffffffffffffffffffffffff"), @"
    error: org/name@ffffffffffffffffffffffffffffffffffffffff is not downloaded yet
      looked at: <disk>/recipe/org/name@ffffffffffffffffffffffffffffffffffffffff: no such folder
      looked at: org/name@ffffffffffffffffffffffffffffffffffffffff: no such folder
      looked at: <disk>/hub/models--org--name/snapshots/ffffffffffffffffffffffffffffffffffffffff: has no config.json
    ");
}

#[test]
fn a_download_without_config() {
    assert_snapshot!(Disk::with(&[&format!("hub/models--org--name/refs/main={COMMIT}")]).error("org/name"), @"
    error: org/name is not downloaded yet
      looked at: <disk>/recipe/org/name: no such folder
      looked at: org/name: no such folder
      looked at: <disk>/hub/models--org--name/snapshots/0123456789abcdef0123456789abcdef01234567: has no config.json
    ");
}

#[test]
fn a_broken_ref() {
    assert_snapshot!(Disk::with(&["hub/models--org--name/refs/main=x"]).error("org/name"), @"
    error: org/name is not downloaded yet
      looked at: <disk>/recipe/org/name: no such folder
      looked at: org/name: no such folder
      looked at: <disk>/hub/models--org--name/refs/main: contains no commit
    ");
}

#[test]
fn an_adapter_not_downloaded() {
    assert_snapshot!(with_hub_model(&[]).error("org/name+org/lora@v1"), @"
    error: org/lora@v1 is not downloaded yet
      looked at: <disk>/recipe/org/lora@v1: no such folder
      looked at: org/lora@v1: no such folder
      looked at: <disk>/hub/models--org--lora: not downloaded
    ");
}

#[test]
fn a_folder_that_is_not_there() {
    assert_snapshot!(Disk::with(&["recipe/models/mistral-7b-code/config.json"]).error("models/mistral-7b-coed"), @"
    error: there is no model folder models/mistral-7b-coed
      looked at: <disk>/recipe/models/mistral-7b-coed: no such folder
      looked at: models/mistral-7b-coed: no such folder
      looked at: <disk>/hub/models--models--mistral-7b-coed: not downloaded
      hint: did you mean `models/mistral-7b-code`?
    ");
}

#[test]
fn a_name_like_a_folders() {
    assert_snapshot!(Disk::with(&["recipe/SmolLM2/config.json"]).error("smollm2"), @"
    error: there is no model folder smollm2
      looked at: <disk>/recipe/smollm2: no such folder
      looked at: smollm2: no such folder
      looked at: <disk>/hub/models--smollm2: not downloaded
      hint: did you mean `SmolLM2`?
    ");
}

#[test]
fn a_name_like_no_other() {
    assert_snapshot!(Disk::with(&[]).error("smollm2"), @"
    error: there is no model folder smollm2
      looked at: <disk>/recipe/smollm2: no such folder
      looked at: smollm2: no such folder
      looked at: <disk>/hub/models--smollm2: not downloaded
      hint: give a folder, from the recipe's or the current one, or an id on the Hub: `org/name`
    ");
}

#[test]
fn a_path_like_no_other() {
    assert_snapshot!(Disk::with(&["home/other/x"]).error("~/models/a"), @"
    error: there is no model folder ~/models/a
      looked at: <disk>/home/models/a: no such folder
      hint: give a folder, from the recipe's or the current one, or an id on the Hub: `org/name`
    ");
}

#[test]
fn a_file_in_the_models_place() {
    assert_snapshot!(Disk::with(&["recipe/model.gguf"]).error("model.gguf"), @"
    error: there is no model folder model.gguf
      looked at: <disk>/recipe/model.gguf: a file, expected a model folder
      looked at: model.gguf: no such folder
      looked at: <disk>/hub/models--model.gguf: not downloaded
      hint: give a folder, from the recipe's or the current one, or an id on the Hub: `org/name`
    ");
}

#[test]
fn two_adapters() {
    assert_snapshot!(Disk::with(&["recipe/a/x", "recipe/b/x", "recipe/c/x"]).error("a+b+c"), @"
    error: there is no model folder a+b
      looked at: <disk>/recipe/a+b: no such folder
      looked at: a+b: no such folder
      hint: a model takes one adapter, `model+adapter`; merge further ones into the model first
    ");
}

#[test]
fn a_revision_that_climbs() {
    assert_snapshot!(with_hub_model(&[]).error("org/name@../x"), @r#"
    error: there is no model folder org/name@../x
      looked at: <disk>/recipe/org/name@../x: no such folder
      looked at: org/name@../x: no such folder
      hint: "../x" cannot be a revision
    "#);
}

#[test]
fn a_name_with_control_characters() {
    assert_snapshot!(Disk::with(&[]).error("a\u{1b}[31mb"), @r"
    error: there is no model folder a\u{1b}[31mb
      looked at: <disk>/recipe/a\u{1b}[31mb: no such folder
      looked at: a\u{1b}[31mb: no such folder
      hint: give a folder, from the recipe's or the current one, or an id on the Hub: `org/name`
    ");
}
