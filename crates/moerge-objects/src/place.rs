//! URLs of objects: the scheme says which store, then come a bucket (in Azure, a container) and a key.

use std::io;
use std::path::Path;

use moerge_checkpoint::StorageError;
use object_store::path::Path as Key;

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    S3,
    Google,
    Azure,
}

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub scheme: Scheme,
    pub bucket: String,
    /// Empty for the bucket itself.
    pub key: Key,
}

impl Scheme {
    const ALL: [Scheme; 3] = [Self::S3, Self::Google, Self::Azure];

    /// What a URL begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Google => "gs://",
            Self::Azure => "az://",
        }
    }
}

impl Place {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is not Unicode, names no bucket, or has a key with an empty part or a part `.` or `..`.
    pub fn parse(path: &Path) -> io::Result<Place> {
        let refuse = |message: String| {
            let hint = "write s3://bucket/folder, gs://bucket/folder, or az://container/folder".to_owned();
            Err(StorageError { message, hint }.into_io(io::ErrorKind::InvalidInput))
        };
        let Some(text) = path.to_str() else { return refuse("the URL is not Unicode".to_owned()) };
        let scheme = Scheme::ALL.into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme.prefix())?)));
        let Some((scheme, rest)) = scheme else { return refuse("it is not a URL of an object store".to_owned()) };
        let (bucket, key_text) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || bucket.contains(['?', '#', '@', '\\']) || bucket.chars().any(char::is_whitespace) {
            return refuse(format!("`{bucket}` is not the name of a bucket"));
        }
        match Key::parse(key_text.trim_end_matches('/')) {
            // The library would read over an empty first part.
            Ok(key) if !key_text.starts_with('/') => Ok(Place { scheme, bucket: bucket.to_owned(), key }),
            _ => refuse("its key has a part that is empty, `.` or `..`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parse = |url: &str| Place::parse(Path::new(url)).map(|p| (p.scheme, p.bucket, p.key.to_string()));
        assert_eq!(parse("s3://b/a/c.json").unwrap(), (Scheme::S3, "b".into(), "a/c.json".into()));
        assert_eq!(parse("gs://b/a/").unwrap(), (Scheme::Google, "b".into(), "a".into()));
        assert_eq!(parse("az://c").unwrap(), (Scheme::Azure, "c".into(), String::new()));
        for bad in ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/a//x", "/tmp/x", "s3://user@b/x"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}: {error}");
        }
    }
}
