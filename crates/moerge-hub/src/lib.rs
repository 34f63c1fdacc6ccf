//! The Hugging Face Hub: models from it and to it, over its HTTP routes, in the cache that huggingface_hub shares.
//!
//! Nothing outside this module knows a network. What comes from it is checked against the hashes that the Hub announced
//! before it gets a name in the cache; what stops goes on at the byte where it stopped.

mod bring;
mod download;
mod http;
mod lfs;
mod listing;
mod local_files;
mod lock;
mod needed;
mod pull;
mod push;
mod ranges;
mod refused;
mod remote_storage;
mod settings;

use std::{path::PathBuf, sync::Arc};

pub use http::{Notes, Stop};
pub use listing::{FileHash, Listing, RemoteFile};
pub use needed::Wanted;
pub use pull::Pulled;
pub use push::{PushOptions, Pushed};
pub use remote_storage::HubStorage;
pub use settings::{HubSettings, Token};

use http::Http;
use moerge_core::{
    error::{Error, Result},
    model::locate::HubId,
};
use refused::Subject;

/// A Hub that can be asked.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    http: Http,
}

impl Hub {
    /// The Hub of these settings. Every wait for it ends when `stop` says so, and `notes` hears of it.
    pub fn new(settings: HubSettings, stop: Stop, notes: Notes) -> Arc<Self> {
        Arc::new(Self { http: Http::new(&settings, stop, notes), settings })
    }

    /// Where it is and who asks.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The folder of a model in the cache.
    fn cache_folder(&self, id: &HubId) -> Result<PathBuf> {
        self.settings.cache.model(id).ok_or_else(|| {
            Error::input("there is no place for downloads: no home folder is known")
                .hint("set HF_HOME to a folder with room for models")
        })
    }

    fn check_online(&self, id: &HubId) -> Result<()> {
        if !self.settings.offline {
            return Ok(());
        }
        Err(Error::input(format!("{id} is not on this machine, and HF_HUB_OFFLINE says not to ask the Hub"))
            .hint("unset HF_HUB_OFFLINE to download it"))
    }

    fn subject<'a>(&'a self, id: &'a HubId, file: Option<&'a str>, verb: &'static str) -> Subject<'a> {
        Subject { settings: &self.settings, id, file, verb }
    }
}
