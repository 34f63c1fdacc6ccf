//! The lock of a blob in the cache: huggingface_hub's, so that a file is downloaded once even where Python wants it at the
//! same time.

use std::{path::Path, time::Duration};

use moerge_checkpoint::{LocalStorage, Lock, Storage};

use super::http::{Failure, Http};
use moerge_core::error::Error;

/// Takes the lock at `path`; waits for whoever holds it. `waits` is called once if it has to.
pub(super) fn lock(path: &Path, http: &Http, waits: &dyn Fn()) -> Result<Lock, Failure> {
    let refused = |e: std::io::Error| Failure::Here(Box::new(Error::io("lock", path, &e)));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(refused)?;
    }
    let mut told = false;
    loop {
        if let Some(lock) = LocalStorage.lock(path).map_err(refused)? {
            return Ok(lock);
        }
        if !told {
            waits();
            told = true;
        }
        http.sleep(Duration::from_millis(100))?;
    }
}
