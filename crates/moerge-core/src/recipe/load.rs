//! Reading a recipe from disk, with the prompt files it names.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Located, Recipe};
use crate::{
    error::{Error, Result},
    recipe::prompts_file,
};

/// A recipe is written by hand; a larger file is not one.
const LARGEST_RECIPE: u64 = 16 << 20;

impl Recipe {
    /// Reads the recipe in the file `path`, and its prompt files: those come after the prompts in the recipe itself.
    ///
    /// For gate modes that are fitted to text, a plain file is one running text rather than a prompt a line.
    ///
    /// A prompt file's path counts from the recipe's folder, or else from the current one; `~` is the user's own.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = read_text(path, LARGEST_RECIPE)?;
        let mut recipe = Self::parse(&name, &text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut experts = std::mem::take(&mut recipe.experts);
        let mut shared_experts = std::mem::take(&mut recipe.shared_experts);
        for expert in experts.iter_mut().chain(&mut shared_experts) {
            if let Some(file) = &expert.positive_prompts_file {
                expert.positive_prompts.extend(recipe.texts(folder, file, recipe.gate_mode.is_fitted())?);
            }
            if let Some(file) = &expert.negative_prompts_file {
                expert.negative_prompts.extend(recipe.texts(folder, file, recipe.gate_mode.is_fitted())?);
            }
            if let Some(file) = &expert.validation_file {
                expert.validation.extend(recipe.texts(folder, file, true)?);
            }
        }
        (recipe.experts, recipe.shared_experts) = (experts, shared_experts);
        Ok(recipe)
    }

    fn texts(&self, folder: &Path, file: &Located<PathBuf>, running: bool) -> Result<Vec<String>> {
        let written = match (file.value.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => file.value.clone(),
        };
        let places = [folder.join(&written), written];
        let Some(place) = places.iter().find(|place| place.exists()) else {
            let mut error = Error::input(format!("no prompt file {}", file.value.display()))
                .at(self.snippet(&file.span, "not found"))
                .fact("looked for", places[0].display().to_string());
            if places[0] != places[1] {
                error = error.fact("looked for", format!("{} (from the current folder)", places[1].display()));
            }
            return Err(error.hint("paths count from the recipe's folder"));
        };
        if running { prompts_file::load_texts(place) } else { prompts_file::load(place) }
    }
}

/// Reads a text file of at most `largest` bytes, without its byte-order mark.
pub fn read_text(path: &Path, largest: u64) -> Result<String> {
    let io = |operation: &str, error: std::io::Error| Error::io(operation, path, &error);
    // A pipe would block and a device never end, so only a file is opened.
    let facts = std::fs::metadata(path).map_err(|e| io("open", e))?;
    if !facts.is_file() {
        let kind = if facts.is_dir() { "a folder" } else { "not a file" };
        return Err(Error::input(format!("{} is {kind}, expected a text file", path.display())));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| io("open", e))?;
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|e| io("read", e))?;
    if bytes.len() as u64 > largest {
        return Err(Error::input(format!("{} is larger than {} MiB", path.display(), largest >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(path, e.utf8_error().valid_up_to(), e.as_bytes()))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn not_utf8(path: &Path, at: usize, bytes: &[u8]) -> Error {
    let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("{} is not UTF-8 text: byte {at} (line {line}) is 0x{byte:02x}", path.display());
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Error::input(message).hint("it is UTF-16; save it as UTF-8"),
        _ => Error::input(message).hint("save it as UTF-8"),
    }
}
