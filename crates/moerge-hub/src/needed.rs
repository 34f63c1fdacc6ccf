//! Which files of a repository a model needs. Pure. The rest (other formats of the same weights, pictures, training
//! checkpoints) is never requested.

use moerge_checkpoint::{INDEX_FILE, IncompleteShards, Index, WeightFiles};

use super::{Listing, RemoteFile};
use moerge_core::{
    error::{Error, Result},
    model::files::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG, GENERATION_CONFIG, MODEL_CARD, TOKENIZER_FILES},
    output::files::RECIPE_FILE,
    record::MOERGE_JSON,
    suggest::printable,
};

/// What a repository should contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// An adapter.
    Adapter,
    /// Either of them.
    Either,
}

/// Files of a model other than weights and tokenizer.
const SMALL: [&str; 5] = [CONFIG, GENERATION_CONFIG, MODEL_CARD, MOERGE_JSON, RECIPE_FILE];

/// All files but the weights. They are small and downloaded first.
pub(super) fn small_files(listing: &Listing, wanted: RepoKind) -> Vec<&RemoteFile> {
    let mut names: Vec<&str> = vec![MODEL_CARD];
    if wanted != RepoKind::Adapter {
        names.extend(SMALL.iter().chain(&TOKENIZER_FILES));
        names.extend(index_name(listing));
    }
    if wanted != RepoKind::Model {
        names.push(ADAPTER_CONFIG);
    }
    listing.files.iter().filter(|f| names.contains(&f.name.as_str())).collect()
}

/// The name of the index, if the weights are sharded.
pub(super) fn index_name(listing: &Listing) -> Option<&'static str> {
    match weight_files(listing) {
        Ok(Some(WeightFiles::Indexed(name))) => Some(name),
        _ => None,
    }
}

/// The weight files; `index` is the content of the file that [`index_name`] names.
pub(super) fn weights<'a>(listing: &'a Listing, wanted: RepoKind, index: Option<&[u8]>) -> Result<Vec<&'a RemoteFile>> {
    if let (Some(index), RepoKind::Model | RepoKind::Either) = (index, wanted) {
        return of_index(listing, index);
    }
    let of_model = || -> Result<Option<Vec<&RemoteFile>>> {
        match weight_files(listing).map_err(|problem| incomplete(listing, problem))? {
            Some(WeightFiles::Single(name)) => Ok(listing.file(name).map(|file| vec![file])),
            Some(WeightFiles::Numbered(shards)) => Ok(shards.iter().map(|name| listing.file(name)).collect()),
            Some(WeightFiles::Indexed(_)) | None => Ok(None),
        }
    };
    let of_adapter = || {
        let weights = ADAPTER_WEIGHTS.iter().find_map(|name| listing.file(name));
        weights.filter(|_| listing.file(ADAPTER_CONFIG).is_some()).map(|file| vec![file])
    };
    let found = match wanted {
        RepoKind::Adapter => of_adapter(),
        RepoKind::Model => of_model()?,
        RepoKind::Either => of_model()?.or_else(of_adapter),
    };
    found.ok_or_else(|| nothing_to_read(listing, wanted))
}

/// Which files hold the weights, by the rule that folders on disk are opened by.
fn weight_files(listing: &Listing) -> Result<Option<WeightFiles>, IncompleteShards> {
    WeightFiles::among(&listing.files.iter().map(|f| f.name.clone()).collect())
}

fn incomplete(listing: &Listing, problem: IncompleteShards) -> Error {
    let what = match problem {
        IncompleteShards::Mixed { first, second } => {
            format!("{} and {} count differently", printable(&first), printable(&second))
        }
        IncompleteShards::Missing { file, counted_by } => {
            format!("{file} is missing beside {}", printable(&counted_by))
        }
    };
    Error::input(format!("{} is incomplete on the Hub: {what}", listing.id))
        .hint("another revision may be complete: `org/name@revision`")
}

fn of_index<'a>(listing: &'a Listing, index: &[u8]) -> Result<Vec<&'a RemoteFile>> {
    let name = index_name(listing).unwrap_or(INDEX_FILE);
    let index =
        Index::parse(name, index).map_err(|problem| Error::input(format!("{name} of {}: {problem}", listing.id)))?;
    let find = |name: &str| {
        listing.file(name).ok_or_else(|| {
            Error::input(format!("{} is incomplete on the Hub: its index lists {}", listing.id, printable(name)))
                .hint("another revision may be complete: `org/name@revision`")
        })
    };
    index.files().into_iter().map(find).collect()
}

fn nothing_to_read(listing: &Listing, wanted: RepoKind) -> Error {
    let (what, other) = match wanted {
        RepoKind::Adapter => ("adapter that moerge reads", listing.file(CONFIG).is_some()),
        _ => ("weights that moerge reads", listing.file(ADAPTER_CONFIG).is_some()),
    };
    let error = Error::input(format!("{} holds no {what}", listing.id));
    let weights = listing.names().into_iter().filter(|name| WeightFiles::resembled_by(name));
    let found: Vec<String> = weights.take(4).map(printable).collect();
    let error = error.fact("found", if found.is_empty() { "no weights".to_owned() } else { found.join(", ") });
    match (wanted, other) {
        (RepoKind::Adapter, true) => error.hint("it is a model, not an adapter"),
        (_, true) => error.hint("it is an adapter: write `model+adapter`, with the model it was trained on"),
        _ if found.iter().any(|n| n.ends_with(".gguf")) => error.hint(
            "moerge reads safetensors and PyTorch weights; the card of a GGUF repository names the original model",
        ),
        _ => error.hint("model.safetensors or pytorch_model.bin is needed, or the shards of one with their index"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileHash;
    use moerge_core::model::locate::HubId;

    fn listing(names: &[&str]) -> Listing {
        let file = |name: &&str| RemoteFile { name: (*name).into(), size: 1, hash: FileHash::Git([0; 20]) };
        Listing {
            id: HubId::parse("org/name", None).unwrap(),
            commit: "0".repeat(40),
            files: names.iter().map(file).collect(),
        }
    }

    fn names(files: Vec<&RemoteFile>) -> String {
        files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(wanted: RepoKind, files: &[&str], index: Option<&str>, small: &str, weight_names: &str) {
        let listing = listing(files);
        assert_eq!(names(small_files(&listing, wanted)), small);
        assert_eq!(names(weights(&listing, wanted, index.map(str::as_bytes)).unwrap()), weight_names);
    }

    #[test]
    fn one_format_of_the_weights_is_enough() {
        let many = [
            ".gitattributes",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
            "model.gguf",
        ];
        check(RepoKind::Model, &many, None, "README.md config.json tokenizer.json", "model.safetensors");
        check(RepoKind::Either, &many, None, "README.md config.json tokenizer.json", "model.safetensors");
        check(RepoKind::Model, &["config.json", "pytorch_model.bin"], None, "config.json", "pytorch_model.bin");
    }

    #[test]
    fn an_index_lists_the_shards() {
        let index =
            r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
        let files = ["config.json", INDEX_FILE, "model-1.safetensors", "model-2.safetensors", "model-3.safetensors"];
        let small = format!("config.json {INDEX_FILE}");
        check(RepoKind::Model, &files, Some(index), &small, "model-1.safetensors model-2.safetensors");
        let error = weights(&listing(&files[..3]), RepoKind::Model, Some(index.as_bytes())).unwrap_err();
        assert!(error.to_string().contains("its index lists model-2.safetensors"), "{error}");
        let shards = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        check(RepoKind::Model, &shards, None, "config.json", &shards[1..].join(" "));
        // As a folder on disk is opened.
        let beside = [&shards[..], &["pytorch_model.bin"]].concat();
        check(RepoKind::Model, &beside, None, "config.json", &shards[1..].join(" "));
        let error = weights(&listing(&shards[..2]), RepoKind::Model, None).unwrap_err();
        assert!(error.to_string().contains("model-00002-of-00002.safetensors is missing"), "{error}");
    }

    #[test]
    fn adapters_and_models_are_distinguished() {
        let adapter = ["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"];
        check(RepoKind::Adapter, &adapter, None, "README.md adapter_config.json", "adapter_model.safetensors");
        let error = weights(&listing(&adapter), RepoKind::Model, None).unwrap_err();
        assert!(error.to_string().contains("`model+adapter`"), "{error}");
        let gguf = weights(&listing(&["model.Q4_0.gguf"]), RepoKind::Model, None).unwrap_err();
        assert!(gguf.to_string().contains("names the original model"), "{gguf}");
    }
}
