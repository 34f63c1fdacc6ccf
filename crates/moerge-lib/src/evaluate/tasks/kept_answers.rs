//! Answers kept in a file as they come, so that a run that was stopped resumes: JSON Lines, one file per
//! model, whose name is a fingerprint of its weights. Each of several machines writes a file of its own, and all are read.
//!
//! An answer is found by a hash of everything that was asked: all tokens, so also the prompt's wording, its solved examples
//! and the tokenizer.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use moerge_core::{
    error::{Error, Result},
    plan::Part,
};
use moerge_infer::{
    model::Model,
    runner::{Placement, Runner},
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::grade::Answer;

/// The kept answers of a model.
pub(crate) struct KeptAnswers {
    path: PathBuf,
    known: HashMap<String, Answer>,
    file: Mutex<File>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    asked: String,
    #[serde(flatten)]
    answer: Answer,
}

impl KeptAnswers {
    /// The answers of `model` in `folder`, which is made if need be. Weights that are kept with another precision are
    /// another model.
    ///
    /// # Errors
    /// The weights or a file cannot be read, or the file cannot be written to.
    pub(crate) fn open(
        folder: &Path,
        part: Option<Part>,
        model: &Model,
        runner: &Runner<'_>,
        placement: Placement,
    ) -> Result<Self> {
        let name = format!("{}-{}.", fingerprint(model)?, runner.precision(placement));
        let own = part.map(|part| part.to_string().replace('/', "-of-") + ".").unwrap_or_default();
        let path = folder.join(format!("{name}{own}jsonl"));
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, &e))?;
        let write = |e: &std::io::Error| Error::io("write", &path, e);
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(|e| write(&e))?;
        if !ends_with_a_line(&path)? {
            file.write_all(b"\n").map_err(|e| write(&e))?;
        }
        let mut known = HashMap::new();
        for entry in fs::read_dir(folder).map_err(|e| Error::io("list", folder, &e))?.flatten() {
            let of_model = entry.file_name().to_str().is_some_and(|n| n.starts_with(&name) && n.ends_with(".jsonl"));
            if of_model {
                known.extend(read(&entry.path())?);
            }
        }
        Ok(Self { path, known, file: Mutex::new(file) })
    }

    /// The answer to what has this hash.
    pub(super) fn get(&self, asked: &str) -> Option<&Answer> {
        self.known.get(asked)
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, asked: &str, answer: &Answer) -> Result<()> {
        let line = Line { asked: asked.to_owned(), answer: answer.clone() };
        let mut text = serde_json::to_string(&line).map_err(|e| Error::input(e.to_string()))?;
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, &e))
    }
}

/// The answers in a file. A line that was being written when the run was stopped is no answer.
fn read(path: &Path) -> Result<Vec<(String, Answer)>> {
    let text = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.map(|line| (line.asked, line.answer)).collect())
}

/// Whether the last line of a file is whole.
fn ends_with_a_line(path: &Path) -> Result<bool> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(bytes.last().is_none_or(|last| *last == b'\n'))
}

/// 32 hexadecimal digits of the bytes of all weights and of the config.
fn fingerprint(model: &Model) -> Result<String> {
    let mut hash = Xxh3::new();
    let config = serde_json::to_string(&model.config.raw).map_err(|e| Error::input(e.to_string()))?;
    hash.update(config.as_bytes());
    for file in model.weight_files() {
        hash.update(&file.content_hash()?.to_le_bytes());
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// A hash of lists of tokens, with a number for each.
pub(super) fn hash_of<'a>(asked: impl Iterator<Item = (usize, &'a [u32])>) -> String {
    let mut hash = Xxh3::new();
    for (number, tokens) in asked {
        hash.update(&(number as u64).to_le_bytes());
        hash.update(&(tokens.len() as u64).to_le_bytes());
        tokens.iter().for_each(|token| hash.update(&token.to_le_bytes()));
    }
    format!("{:032x}", hash.digest128())
}
