//! The declared licence of a source.

use std::{io, path::Path};

use moerge_checkpoint::{FileKind, ReadStorage};

use crate::error::{Error, Result};

/// Maximum bytes read of a card; the front matter is at its beginning.
const MAX_CARD: u64 = 1 << 20;

/// The `license` in the front matter of a model folder's README.md, or `None` if there is no readable one. The card is
/// read through `storage`, as the weights are, because the folder may be on the Hub.
///
/// For `license: other` this is `license_name`, so that two different "other"s never look alike.
///
/// # Errors
/// The card exists but cannot be read, such as when the connection to the Hub breaks.
pub fn source_licence(storage: &dyn ReadStorage, dir: &Path) -> Result<Option<String>> {
    let path = dir.join(super::MODEL_CARD);
    let read = || -> io::Result<Vec<u8>> {
        // Opening a pipe could wait for ever.
        if storage.facts(&path)?.kind != FileKind::File {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = storage.open(&path)?;
        let mut text = vec![0; usize::try_from(file.len().min(MAX_CARD)).unwrap_or(0)];
        file.read_exact_at(&mut text, 0)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(front_matter_licence(&String::from_utf8_lossy(&text))),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(e) => Err(Error::io("read", &path, &e)),
    }
}

fn front_matter_licence(readme: &str) -> Option<String> {
    let readme = readme.trim_start_matches('\u{feff}');
    let mut lines = readme.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let (mut licence, mut name) = (None, None);
    let mut list_follows = false;
    for line in lines {
        let line = line.trim_end();
        if line == "---" {
            break;
        }
        // Older cards hold a list of one: `license:` and `- mit` on the next line.
        if let (true, Some(item)) = (list_follows, line.trim_start().strip_prefix("- ")) {
            licence = value(item);
        }
        list_follows = false;
        if let Some(rest) = line.strip_prefix("license:") {
            licence = value(rest);
            list_follows = licence.is_none();
        } else if let Some(rest) = line.strip_prefix("license_name:") {
            name = value(rest);
        }
    }
    match licence?.as_str() {
        "unknown" => None,
        "other" => name,
        known => Some(known.to_owned()),
    }
}

/// A plain or quoted scalar without its comment; a list of one is taken for its item.
fn value(text: &str) -> Option<String> {
    let text = text.split(" #").next().unwrap_or_default().trim();
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).trim();
    let text = text.trim_matches(['"', '\'']).trim();
    let plain = !text.is_empty() && text.len() <= 100 && text.chars().all(|c| !c.is_control() && !"[],{}".contains(c));
    plain.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::front_matter_licence;

    #[test]
    fn reads_the_spellings_found_on_the_hub() {
        for (readme, expected) in [
            ("---\nlicense: apache-2.0\n---\n# x", Some("apache-2.0")),
            ("\u{feff}---\r\ntags:\r\n- x\r\nlicense: \"MIT\"  # ours\r\n---\r\n", Some("mit")),
            ("---\nlicense:\n- cc-by-nc-4.0\n---\n", Some("cc-by-nc-4.0")),
            ("---\nlicense: [llama2]\n---\n", Some("llama2")),
            ("---\nlicense: other\nlicense_name: qwen-research\n---\n", Some("qwen-research")),
            ("---\nlicense: other\n---\n", None),
            ("---\nlicense: unknown\n---\n", None),
            ("---\nlicense: [a, b]\n---\n", None),
            ("---\nmodel-index:\n  license: mit\n---\n", None),
            ("license: mit\n", None),
            ("---\n---\nlicense: mit\n", None),
            ("", None),
        ] {
            assert_eq!(front_matter_licence(readme).as_deref(), expected, "{readme:?}");
        }
    }
}
