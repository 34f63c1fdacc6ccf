//! Reading a recipe from disk, with the prompt files it names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{LocalStorage, ReadStorage};

use super::{
    Located, Recipe, prompts_file, read,
    source::{self, Source},
    text_file::read_text,
};
use crate::error::{Error, Result};

/// Maximum size of a recipe in bytes: it is written by hand.
pub const MAX_RECIPE: u64 = 16 << 20;
/// Maximum bytes of all prompt files of a recipe together.
const MAX_PROMPTS: usize = 256 << 20;

impl Recipe {
    /// Reads the recipe in the file `path`, and its prompt files: those come after the prompts in the recipe itself.
    ///
    /// For gate modes that are fitted to text, a plain file is one running text rather than one prompt per line.
    ///
    /// A prompt file's path is relative to the recipe's folder, or else to the current one; `~` is the user's home.
    ///
    /// # Errors
    /// A file cannot be read, or the recipe is wrong; all faults are named, each with its line.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text: Arc<str> = read_text(path, MAX_RECIPE)?.into();
        let source = Source::new(&name, &text);
        let mut draft = read::read(&source)?;
        load_prompts(&source, &mut draft, path);
        Self::finish(source, draft)
    }
}

/// Adds what the prompt files of a recipe in the file `path` hold. Faults are noted.
pub(super) fn load_prompts(source: &Source, draft: &mut read::Draft, path: &Path) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let running = draft.recipe.gate_mode.is_fitted();
    let before = source.faults();
    let mut budget = MAX_PROMPTS;
    for expert in draft.recipe.experts.iter_mut().chain(&mut draft.recipe.shared_experts) {
        let files = [
            (&expert.positive_prompts_file, &mut expert.positive_prompts, running),
            (&expert.negative_prompts_file, &mut expert.negative_prompts, running),
            (&expert.validation_file, &mut expert.validation, true),
        ];
        for (file, texts, running) in files {
            let Some(file) = file else { continue };
            texts.extend(source.keep(texts_of(source, folder, file, running, &mut budget)).unwrap_or_default());
        }
    }
    draft.doubts.experts |= before < source.faults();
}

/// The texts in a prompt file. `budget` is what all files of the recipe may still hold, in bytes.
fn texts_of(
    source: &Source,
    folder: &Path,
    file: &Located<PathBuf>,
    running: bool,
    budget: &mut usize,
) -> Result<Vec<String>> {
    let at = |error: Error, label: &str| error.at(source::snippet(source.name, source.text, &file.span, label.into()));
    let written = match (file.value.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => file.value.clone(),
    };
    let places = [folder.join(&written), written];
    let Some(place) = places.iter().find(|place| LocalStorage.facts(place).is_ok()) else {
        let error = Error::input(format!("no prompt file {}", file.value.display()));
        let mut error = at(error, "not found").fact("looked for", places[0].display().to_string());
        if places[0] != places[1] {
            error = error.fact("looked for", format!("{} (from the current folder)", places[1].display()));
        }
        return Err(error.hint("paths are relative to the recipe's folder"));
    };
    let texts = if running { prompts_file::load_texts(place) } else { prompts_file::load(place) };
    let texts = texts.map_err(|error| if error.parts().snippet.is_some() { error } else { at(error, "") })?;
    match budget.checked_sub(texts.iter().map(String::len).sum()) {
        Some(rest) => *budget = rest,
        None => {
            let message = format!("the prompt files hold more than {} MiB", MAX_PROMPTS >> 20);
            return Err(at(Error::input(message), "").hint("a few thousand words per expert are enough"));
        }
    }
    Ok(texts)
}
