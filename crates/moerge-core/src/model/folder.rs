//! A model folder of unknown state: its files and configs, without weights. `inspect` and `verify` accept any folder,
//! complete or damaged, so everything here is optional.

use std::{path::Path, sync::Arc};

use moerge_checkpoint::{Checkpoint, ReadStorage};
use serde_json::{Map, Value};

use crate::{
    error::{Cause, Error, Result},
    model::{
        config::ModelConfig,
        families::{Description, describe},
        files::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, parse_object, read_bytes, read_text},
    },
    record::{MOERGE_JSON, MoergeJson},
};

/// A model folder.
pub struct ModelFolder<'a> {
    storage: &'a Arc<dyn ReadStorage>,
    dir: &'a Path,
    /// Names of all files in it, sorted.
    pub names: Vec<String>,
}

impl<'a> ModelFolder<'a> {
    /// Lists the folder.
    ///
    /// # Errors
    /// It does not exist, is not a folder, or cannot be listed.
    pub fn open(storage: &'a Arc<dyn ReadStorage>, dir: &'a Path) -> Result<Self> {
        let names = storage.list(dir).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::input(format!("{} does not exist", dir.display()))
                .cause(Cause::FileNotFound { path: dir.to_owned() }),
            std::io::ErrorKind::NotADirectory => Error::input(format!("{} is not a folder", dir.display()))
                .hint("give the folder that holds config.json and the weights"),
            _ => Error::io("open", dir, &e),
        })?;
        let names = names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(Self { storage, dir, names })
    }

    /// Whether it contains a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// Whether it is an adapter rather than a model.
    pub fn is_adapter(&self) -> bool {
        self.has(ADAPTER_CONFIG) && !self.has(CONFIG)
    }

    /// The weights of the model or adapter.
    ///
    /// # Errors
    /// There are none, not all of them, or they break their format.
    pub fn weights(&self) -> Result<Checkpoint> {
        let adapter = ADAPTER_WEIGHTS.iter().find(|name| self.is_adapter() && self.has(name));
        if let Some(name) = adapter {
            return Ok(Checkpoint::open_file(self.storage, &self.dir.join(name))?);
        }
        Ok(Checkpoint::open(self.storage, self.dir)?)
    }

    /// The path of the file `name`, for messages.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Reads a small file.
    ///
    /// # Errors
    /// As for [`read_bytes`].
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        read_bytes(self.storage.as_ref(), &self.dir.join(name))
    }

    /// Reads a text file, if it exists.
    ///
    /// # Errors
    /// As for [`read_text`].
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        if !self.has(name) {
            return Ok(None);
        }
        read_text(self.storage.as_ref(), &self.dir.join(name)).map(Some)
    }

    /// Reads a JSON object, if the file exists.
    ///
    /// # Errors
    /// It cannot be read, or is not a JSON object.
    pub fn object(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse_object(text.as_bytes(), &self.dir.join(name)).map(Some)
    }

    /// `adapter_config.json`, if it is an adapter.
    ///
    /// # Errors
    /// It cannot be read, or is not a JSON object.
    pub fn adapter_config(&self) -> Result<Option<Map<String, Value>>> {
        if self.is_adapter() { self.object(ADAPTER_CONFIG) } else { Ok(None) }
    }

    /// The typed `config.json` and the model's description.
    ///
    /// # Errors
    /// As for [`config`](Self::config), or moerge does not know the family.
    pub fn description(&self) -> Result<(ModelConfig, Description)> {
        let config = self.config()?;
        let description = describe(&config)?;
        Ok((config, description))
    }

    /// `model_type` in `config.json`, even if the rest is invalid.
    pub fn family(&self) -> Option<String> {
        let config = self.object(CONFIG).ok()??;
        config.get("model_type")?.as_str().map(str::to_owned)
    }

    /// Its `config.json`.
    ///
    /// # Errors
    /// There is none, or it is not the config of a model.
    pub fn config(&self) -> Result<ModelConfig> {
        let path = self.dir.join(CONFIG);
        let text = self.text(CONFIG)?.ok_or_else(|| {
            Error::input(format!("{} has no config.json", self.dir.display()))
                .hint("a model folder has config.json beside its .safetensors files")
        })?;
        ModelConfig::parse(&text, &path)
    }

    /// The record of the moerge run that wrote the folder, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is not a record of this version or an earlier one.
    pub fn record(&self) -> Result<Option<MoergeJson>> {
        let name = self.dir.join(MOERGE_JSON).display().to_string();
        self.text(MOERGE_JSON)?.map(|text| MoergeJson::parse(&text, &name)).transpose()
    }
}
