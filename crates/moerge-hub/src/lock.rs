//! The lock of a blob in the cache. It is huggingface_hub's, so a file is downloaded once even if Python wants it at the
//! same time.

use std::{path::Path, time::Duration};

use moerge_checkpoint::{LocalStorage, Lock, OutputStorage};

use super::http::{Failure, Http};
use moerge_core::error::Error;

/// Takes the lock at `path`, and waits while another process holds it. `on_wait` is called once before a wait.
pub(super) fn lock(path: &Path, http: &Http, on_wait: &dyn Fn()) -> Result<Lock, Failure> {
    let refused = |e: std::io::Error| Failure::Local(Box::new(Error::io("lock", path, &e)));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(refused)?;
    }
    let mut waited = false;
    loop {
        if let Some(lock) = LocalStorage.lock(path).map_err(refused)? {
            return Ok(lock);
        }
        if !waited {
            on_wait();
            waited = true;
        }
        http.sleep(Duration::from_millis(100))?;
    }
}
