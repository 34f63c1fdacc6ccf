//! Models of a command line as tensors by name.

use std::{path::Path, sync::Arc};

use moerge_core::{Error, model::named_model::NamedModel, recipe::ModelRef};
use moerge_hub::Hub;

use super::{folder, storages::models};
use crate::progress::Reporter;

/// Opens the model that an argument names: a folder or `org/name[@revision]` on the Hub, optionally with `+adapter`. What
/// is on the Hub is downloaded.
pub fn open_named(argument: &str, hub: &Arc<Hub>, reporter: &Reporter) -> moerge_core::Result<NamedModel> {
    let storage = models();
    let written = folder(Path::new(argument)).display().to_string();
    let reference = ModelRef::parse(&written).map_err(|why| Error::input(format!("`{argument}`: {why}")))?;
    let folders = hub.ensure_downloaded(storage.as_ref(), &reference, Path::new("."), reporter)?;
    NamedModel::open(&storage, argument, &folders.model, folders.adapter.as_deref(), None)
}
