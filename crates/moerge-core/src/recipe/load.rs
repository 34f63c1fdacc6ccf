//! Reading a recipe from disk, with the prompt files it names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use moerge_checkpoint::{FileKind, LocalStorage, ReadStorage};

use super::{
    Located, Recipe, prompts_file, read,
    source::{self, Source},
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

/// Reads a text file of at most `max_bytes` bytes, without its byte-order mark.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let io = |operation: &str, error: std::io::Error| Error::io(operation, path, &error);
    // Only regular files: a pipe would block, and a device might never end.
    let kind = match LocalStorage.facts(path).map_err(|e| io("open", e))?.kind {
        FileKind::File => None,
        FileKind::Dir => Some("a folder"),
        FileKind::Link | FileKind::Other => Some("not a file"),
    };
    if let Some(kind) = kind {
        return Err(Error::input(format!("{} is {kind}, expected a text file", path.display())));
    }
    let file = LocalStorage.open(path).map_err(|e| io("open", e))?;
    if file.len() > max_bytes {
        return Err(Error::input(format!("{} is larger than {} MiB", path.display(), max_bytes >> 20)));
    }
    let mut bytes = vec![0; file.len() as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|e| io("read", e))?;
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
