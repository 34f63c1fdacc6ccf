//! Which paths are in an object store: those that are written as URLs. They stay as they are written, since a path that is
//! taken apart and joined again loses one of the two slashes.

use std::path::Path;

/// The schemes of object stores: S3, Google Cloud Storage, Azure Blob Storage.
const SCHEMES: [&str; 3] = ["s3://", "gs://", "az://"];

/// Whether `path` is a URL in an object store, such as `s3://bucket/model`.
pub fn is_object(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    SCHEMES.iter().any(|scheme| bytes.starts_with(scheme.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        let is = |path: &str| is_object(Path::new(path));
        assert!(is("s3://bucket/model") && is("gs://b") && is("az://container/a/b"));
        assert!(!is("s3:/bucket/model") && !is("/s3://b") && !is("http://b/m") && !is("models/s3") && !is("S3://b"));
        // What the code relies on: these keep both slashes.
        let url = Path::new("s3://bucket/model");
        assert_eq!(url.join("config.json").to_str(), Some("s3://bucket/model/config.json"));
        assert_eq!(url.parent().and_then(Path::to_str), Some("s3://bucket"));
        assert_eq!(url.with_file_name("other").to_str(), Some("s3://bucket/other"));
    }
}
