//! Downloads a split of a data set: the Parquet files that the Hub makes of every data set, whatever its own files are, in
//! the branch `refs/convert/parquet` as `config/split/0000.parquet`, `0001.parquet` and so on.

use std::{collections::BTreeSet, path::PathBuf};

use moerge_checkpoint::LocalStorage;
use moerge_core::{
    error::{Error, Result},
    model::locate::HubId,
    progress::{Progress, Stage},
    suggest::printable,
};

use super::{Hub, RemoteFile, pull::Counted};

/// The split's first file. It is downloaded last: where it is, all are.
const FIRST: &str = "0000.parquet";

impl Hub {
    /// The folder of the configuration `config` of the data set `name` with the files of `split` in it. What is in the cache
    /// is used as it is, without the network.
    ///
    /// # Errors
    /// The Hub cannot be reached, or has no such data set, configuration or split.
    pub fn ensure_split_downloaded(
        &self,
        name: &str,
        config: &str,
        split: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let id = HubId::parquet(name).map_err(|_| Error::input(format!("{name} is not the name of a data set")))?;
        let folder = format!("{config}/{split}/");
        if let Ok(snapshot) = self.settings.cache.snapshot(&LocalStorage, &id, &format!("{folder}{FIRST}")) {
            return Ok(snapshot.join(config));
        }
        let listing = self.list(&id)?;
        let of_split = |file: &&RemoteFile| file.name.starts_with(&folder) && file.name.ends_with(".parquet");
        let mut files: Vec<&RemoteFile> = listing.files.iter().filter(of_split).collect();
        if !files.iter().any(|file| file.name == format!("{folder}{FIRST}")) {
            return Err(self.http.redactor().clean_error(no_split(&listing.files, &id, config, split)));
        }
        files.sort_by(|a, b| b.name.cmp(&a.name));
        let place = self.place(&listing)?;
        let total = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
        progress.start(Stage::Download, total, 0);
        for file in &files {
            self.download(&place, file, &Counted(progress))?;
        }
        place.point_here(&id.revision)?;
        progress.finish(Stage::Download, &format!("{} {config} {split}", id.id));
        Ok(place.snapshot().join(config))
    }
}

fn no_split(files: &[RemoteFile], id: &HubId, config: &str, split: &str) -> Error {
    let folder = |file: &RemoteFile| file.name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let found: BTreeSet<String> = files.iter().filter_map(folder).collect();
    let found: Vec<String> = found.iter().take(8).map(|name| printable(name)).collect();
    Error::input(format!("the data set {} has no split {config}/{split} on the Hub", id.id))
        .fact("found", if found.is_empty() { "no Parquet files".to_owned() } else { found.join(", ") })
}
