//! A Hub with a model, and a machine without a cache that runs the command.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::json;
use tempfile::TempDir;

use crate::common::{llama, write_model};
use crate::hub_server::{HubServer, git_hash, sha256};

pub const TOKEN: &str = "hf_ThisMustNeverBeSeen";

/// A Hub with `org/model`, and a machine without a cache.
pub struct Bench {
    pub hub: HubServer,
    pub dir: TempDir,
    pub commit: String,
}

impl Bench {
    pub fn new() -> Self {
        let (hub, dir) = (HubServer::start(), TempDir::new().unwrap());
        write_model(&dir.path().join("model"), &llama(&json!({})), 7);
        fs::write(dir.path().join("model/README.md"), "---\nlicense: mit\n---\n# a model\n").unwrap();
        fs::write(dir.path().join("model/training_args.bin"), "never asked for").unwrap();
        let commit = hub.add_folder("org/model", &dir.path().join("model"));
        hub.add_user(TOKEN, "me");
        Self { hub, dir, commit }
    }

    /// Adds a file of random bytes that stands for large weights.
    pub fn with_weights(self, bytes: usize) -> Self {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let weights: Vec<u8> = (0..bytes).map(|_| next()).collect();
        let commit = self.hub.add("org/model", vec![("model.safetensors".into(), weights)]);
        Self { commit, ..self }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moerge"));
        command.current_dir(self.dir.path()).args(args).env("NO_COLOR", "1").env("HF_ENDPOINT", self.hub.endpoint());
        command
            .env("HF_HOME", self.home())
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn repo(&self) -> PathBuf {
        self.home().join("hub/models--org--model")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.repo().join("snapshots").join(&self.commit)
    }

    /// Everything published in the cache must be what the Hub has, whatever happened.
    #[track_caller]
    pub fn nothing_wrong_is_published(&self) {
        let Ok(blobs) = fs::read_dir(self.repo().join("blobs")) else { return };
        for path in blobs.map(|e| e.unwrap().path()).filter(|p| p.extension().is_none()) {
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name == sha256(&bytes) || name == git_hash(&bytes), "{}", path.display());
        }
    }

    #[track_caller]
    pub fn is_whole(&self) {
        self.nothing_wrong_is_published();
        let expected = self.hub.files("org/model", "main");
        for name in ["config.json", "model.safetensors", "tokenizer.json", "README.md"] {
            assert_eq!(&fs::read(self.snapshot().join(name)).unwrap(), expected[name].as_ref(), "{name}");
        }
        assert_eq!(fs::read_to_string(self.repo().join("refs/main")).unwrap(), self.commit);
        let left: Vec<_> = fs::read_dir(self.repo().join("blobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|n| !n.to_str().unwrap().contains('.')), "{left:?}");
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
