//! Proof that moerge wrote a folder, asked for before a merge replaces it. A `moerge.json` can be
//! copied or written by anyone, so it must be a record, and every file beside it must be one that a
//! merge writes; weight files must hold tensors of the record. Pure but for reading headers.

use std::{collections::HashSet, path::Path};

use moerge_checkpoint::{FileKind, Header, INDEX_FILE, OutputStorage};

use super::{card::MODEL_CARD, files::RECIPE_FILE};
use crate::{
    error::{Error, Result},
    model::files::{CONFIG, GENERATION_CONFIG, TOKENIZER_FILES, read_text},
    record::{MOERGE_JSON, MoergeJson},
};

/// Files of an output besides weights, tokenizer and what `also` names in [`not_written_by_moerge`].
const WRITTEN: [&str; 6] = [CONFIG, GENERATION_CONFIG, INDEX_FILE, MODEL_CARD, RECIPE_FILE, MOERGE_JSON];

/// Why `dir`, a folder with something in it, cannot be replaced: one sentence that names what moerge did not write.
/// `None` if moerge wrote all of it. `also` are further file names that a merge writes.
///
/// # Errors
/// The folder cannot be read.
pub fn not_written_by_moerge(storage: &dyn OutputStorage, dir: &Path, also: &[&str]) -> Result<Option<String>> {
    let names = storage.list(dir).map_err(|e| Error::io("list", dir, &e))?;
    if !names.iter().any(|name| name == MOERGE_JSON) {
        return Ok(Some(format!("moerge did not make what is in it: it has no {MOERGE_JSON}")));
    }
    let record = match read_text(storage, &dir.join(MOERGE_JSON)).and_then(|text| MoergeJson::parse(&text, MOERGE_JSON))
    {
        Ok(record) => record,
        Err(error) => return Ok(Some(format!("moerge did not make what is in it: {}", error.parts().message))),
    };
    let tensors: HashSet<&str> = record.tensors.iter().map(|t| t.name.as_str()).collect();
    for name in &names {
        let path = dir.join(name);
        let facts = storage.link_facts(&path).map_err(|e| Error::io("look at", &path, &e))?;
        let text = name.to_str().unwrap_or_default();
        let ours = facts.kind == FileKind::File
            && if text.ends_with(".safetensors") {
                let header = Header::read(storage, &path);
                header.is_ok_and(|h| h.tensors.iter().all(|t| tensors.contains(t.name.as_str())))
            } else {
                is_written(text, also)
            };
        if !ours {
            return Ok(Some(format!("moerge did not write {}", path.display())));
        }
    }
    Ok(None)
}

/// The same of an unfinished output, whose record is not written yet: the names are those of files that a merge writes.
///
/// # Errors
/// The folder cannot be read.
pub fn not_named_by_moerge(storage: &dyn OutputStorage, dir: &Path, also: &[&str]) -> Result<Option<String>> {
    let names = storage.list(dir).map_err(|e| Error::io("list", dir, &e))?;
    let foreign = names.iter().find(|name| {
        let name = name.to_str().unwrap_or_default();
        !name.ends_with(".safetensors") && !is_written(name, also)
    });
    Ok(foreign.map(|name| format!("moerge did not write {}", dir.join(name).display())))
}

/// Whether a merge writes a file of this name beside the weights.
fn is_written(name: &str, also: &[&str]) -> bool {
    WRITTEN.contains(&name) || TOKENIZER_FILES.contains(&name) || also.contains(&name)
}
