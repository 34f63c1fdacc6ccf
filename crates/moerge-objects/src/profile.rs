//! The files of the AWS tools, `~/.aws/credentials` and `~/.aws/config`: the keys and the region of a profile.

use std::collections::HashMap;
use std::path::Path;

/// The values of `[name]`, or `[profile name]`, in the text of such a file.
pub(crate) fn values(text: &str, name: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let section = section.trim();
            inside = section.strip_prefix("profile ").map_or(section, str::trim) == name;
        } else if let (true, Some((key, value))) = (inside && !line.starts_with(['#', ';']), line.split_once('=')) {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// The values of the profile that AWS_PROFILE names, or of `default`, in both files of the folder `.aws` in `home`.
pub(crate) fn read(home: &Path, variable: impl Fn(&str) -> Option<String>) -> HashMap<String, String> {
    let name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let files = [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
    let mut found = HashMap::new();
    for (named_by, file) in files {
        let path = variable(named_by).map_or_else(|| home.join(".aws").join(file), Into::into);
        if let Ok(text) = std::fs::read_to_string(path) {
            found.extend(values(&text, &name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_from_both_files() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        write("credentials", "[default]\naws_access_key_id = A\n# x = y\n[work]\naws_access_key_id=B\n");
        write("config", "[default]\nregion=us-west-2\n[profile work]\nregion = eu-west-1\n");
        let of =
            |profile: Option<&str>| read(home.path(), |n| profile.filter(|_| n == "AWS_PROFILE").map(str::to_owned));
        let pair = |key: &str, region: &str| {
            HashMap::from([("aws_access_key_id".to_owned(), key.to_owned()), ("region".to_owned(), region.to_owned())])
        };
        assert_eq!((of(None), of(Some("work"))), (pair("A", "us-west-2"), pair("B", "eu-west-1")));
        assert_eq!(of(Some("other")), HashMap::new());
    }
}
