//! The Hugging Face Hub: downloads into the cache that huggingface_hub shares, uploads, and reading without a download.
//!
//! No other crate uses the network. Downloaded bytes get their name in the cache only after their hash matches what the
//! Hub announced, and an interrupted download resumes where its bytes end. Servers are not trusted: answers are bounded
//! in size and time, and the token is removed from everything that is printed of them.

mod data_set;
mod download;
mod ensure_downloaded;
mod http;
mod lfs;
mod listing;
mod local_files;
mod lock;
mod needed;
mod pull;
mod push;
mod ranges;
mod redact;
mod refused;
mod remote_file;
mod remote_storage;
mod settings;
mod token;

use std::{path::PathBuf, sync::Arc};

pub use http::{Notes, Stop};
pub use listing::Listing;
pub use needed::RepoKind;
pub use pull::Pulled;
pub use push::{PushOptions, Pushed};
pub use remote_file::{FileHash, RemoteFile};
pub use remote_storage::HubStorage;
pub use settings::{HubSettings, Token};

use http::Http;
use moerge_core::{
    error::{Error, Result},
    model::locate::HubId,
};
use refused::Subject;

/// A client of one Hub.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    http: Http,
}

impl Hub {
    /// The Hub of these settings. Every wait for it ends when `stop` returns true, and `notes` receives a line about it.
    pub fn new(settings: HubSettings, stop: Stop, notes: Notes) -> Arc<Self> {
        Arc::new(Self { http: Http::new(&settings, stop, notes), settings })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// The folder of a repository in the cache.
    fn cache_folder(&self, id: &HubId) -> Result<PathBuf> {
        self.settings.cache.repository(id).ok_or_else(|| {
            Error::input("there is no place for downloads: no home folder is known")
                .hint("set HF_HOME to a folder with room for models")
        })
    }

    /// Whether the Hub may be contacted.
    fn check_online(&self, id: &HubId) -> Result<()> {
        if self.settings.offline {
            return Err(Error::input(format!(
                "{id} is not on this machine, and HF_HUB_OFFLINE forbids asking the Hub"
            ))
            .hint("unset HF_HUB_OFFLINE to download it"));
        }
        Ok(())
    }

    /// The error for a person; the token is removed from it.
    fn error(&self, subject: Subject, failure: http::Failure) -> Error {
        self.http.redactor().clean_error(subject.error(failure))
    }

    fn subject<'a>(&'a self, id: &'a HubId, file: Option<&'a str>, verb: &'static str) -> Subject<'a> {
        Subject { settings: &self.settings, id, file, verb }
    }
}
