//! Where the files of a data set are in a folder: `org/name/config/split.jsonl` (or `.parquet`, `.json`, `.csv`), or
//! several files in `org/name/config/split/`. That is the layout of the Hub's own Parquet files, its branch
//! `refs/convert/parquet`.

use std::path::{Path, PathBuf};

use moerge_core::error::{Error, Result};

use super::{
    rows::{EXTENSIONS, read_rows},
    task::{Row, Task},
};

/// The rows of a split of the data set of `task` below `folder`.
///
/// # Errors
/// There is no such file, or it cannot be read.
pub fn read_split(folder: &Path, task: &Task, split: &str) -> Result<Vec<Row>> {
    let config = folder.join(task.repository).join(&task.config);
    let files = split_files(&config, split);
    if files.is_empty() {
        let names = EXTENSIONS.map(|extension| format!("{split}.{extension}")).join(", ");
        return Err(Error::input(format!("{} needs the split {split} of {}", task.name, task.repository))
            .fact("looked for", format!("{names}, or files in {split}/"))
            .fact("in", config.display().to_string()));
    }
    read_files(&files)
}

/// The files of a split in the folder of its configuration, in order.
pub fn split_files(config: &Path, split: &str) -> Vec<PathBuf> {
    let single = EXTENSIONS.iter().map(|extension| config.join(format!("{split}.{extension}")));
    if let Some(file) = single.into_iter().find(|path| path.is_file()) {
        return vec![file];
    }
    let listed = std::fs::read_dir(config.join(split)).into_iter().flatten().filter_map(std::result::Result::ok);
    let is_data = |path: &PathBuf| path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.path()).filter(is_data).collect();
    files.sort();
    files
}

/// The rows of all `files`.
///
/// # Errors
/// A file cannot be read, or is damaged.
pub fn read_files(files: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(read_rows(file)?);
    }
    Ok(rows)
}
