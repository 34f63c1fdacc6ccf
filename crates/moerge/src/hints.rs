//! Hints that only the command can give: which of its flags helps, and which file the user may have meant.
//!
//! The library says why something failed ([`Cause`]) and knows no command line. This table adds the flag.

use std::path::Path;

use moerge_core::{
    Cause, Error,
    suggest::{did_you_mean, printable},
};

/// The error with the hints of its cause added.
pub fn with_flags(error: &Error) -> Error {
    of(&error.parts().cause).into_iter().fold(error.clone(), Error::hint)
}

/// What the command line offers against a cause.
fn of(cause: &Cause) -> Option<String> {
    match cause {
        Cause::OverMemoryBudget { needed } => Some(format!("--memory {}MiB allows it", needed.div_ceil(1 << 20))),
        Cause::NeedsResidentModel => {
            Some("--quant q8_0 or q4_k makes the model smaller, --memory raises the limit".to_owned())
        }
        Cause::UnknownTask => Some("`moerge eval --list-tasks` names all tasks and groups".to_owned()),
        Cause::TooFewExamples => Some("ask for fewer with --shots".to_owned()),
        Cause::RoutersMissing => Some("`--routers-only` in place of `--part` makes them".to_owned()),
        Cause::VocabulariesDiffer => Some(
            "--unsafe-truncate-embeddings cuts them to the shortest, if the rows at the end are padding".to_owned(),
        ),
        Cause::SameExperts => {
            Some("if you will train it: --i-understand-this-is-not-useful-without-training".to_owned())
        }
        Cause::ContextTooLong { longest } => Some(format!("use --context {longest} or less")),
        Cause::UnknownPreTokenizer => {
            Some("--pre NAME gives llama.cpp's name of a pre-tokenizer that splits text in the same way".to_owned())
        }
        Cause::NeedsImatrix => Some("--imatrix self measures one, --imatrix FILE reads one".to_owned()),
        Cause::OutputExists { .. } => Some("--force replaces it, if moerge made it".to_owned()),
        Cause::OtherBuildUnfinished { .. } => {
            Some("--force discards it; make sure that no other process is building it".to_owned())
        }
        Cause::NotDownloaded { id } => Some(format!("moerge pull {id}")),
        Cause::CacheFull => Some("`moerge merge --no-cache` reads models from the Hub without storing them".to_owned()),
        Cause::FileTooLarge => Some("--out-shard-size 1B makes smaller files".to_owned()),
        Cause::FileNotFound { path } => neighbour(path).map(|near| format!("did you mean `{near}`?")),
        _ => None,
    }
}

/// Directory entries that are compared with a name.
const MAX_NEIGHBOURS: usize = 10_000;

/// The file or folder beside `path` whose name is nearest to it, as the user would write it.
fn neighbour(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).ok()?.take(MAX_NEIGHBOURS);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let near = did_you_mean(wanted, names.iter().map(String::as_str))?;
    Some(printable(&path.with_file_name(near).display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_rough_edges_a_missing_file_suggests_its_neighbour() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("recipe.yml"), "").unwrap();
        let hint = |name: &str| of(&Cause::FileNotFound { path: dir.path().join(name) });
        let expected = format!("did you mean `{}`?", dir.path().join("recipe.yml").display());
        assert_eq!((hint("recpie.yml"), hint("story.txt")), (Some(expected), None));
    }

    #[test]
    fn fault_rough_edges_the_flag_follows_the_hints_of_the_library() {
        let error = Error::input("too small").hint("close other programs").cause(Cause::OverMemoryBudget { needed: 1 });
        assert_eq!(with_flags(&error).parts().hints, ["close other programs", "--memory 1MiB allows it"]);
    }
}
