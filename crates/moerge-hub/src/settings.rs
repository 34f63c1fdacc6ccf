//! Settings of the Hub from the environment: its address, the token, and whether it may be contacted at all. The variables
//! are those of huggingface_hub, with the same meaning.

use std::{ffi::OsString, path::PathBuf};

use moerge_core::{
    error::{Error, Result},
    model::locate::HubCache,
};

pub use super::token::Token;

/// The Hub where HF_ENDPOINT is not set.
pub(super) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The Hub's address, the user's token, and the cache.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Scheme and host, such as `https://huggingface.co`, without a `/` at the end.
    pub endpoint: String,
    /// The user's token; requests are anonymous without one.
    pub token: Option<Token>,
    /// Why a token that was given is not used. Requests are anonymous then, which is enough for public models.
    pub ignored_token: Option<String>,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Where downloads go.
    pub cache: HubCache,
}

impl HubSettings {
    /// Reads the environment of the process, and the token file.
    ///
    /// # Errors
    /// As for [`from_vars`](Self::from_vars).
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Reads HF_ENDPOINT, HF_TOKEN (formerly HUGGING_FACE_HUB_TOKEN), HF_TOKEN_PATH, HF_HUB_OFFLINE and
    /// TRANSFORMERS_OFFLINE, and the variables of [`HubCache`]. Without a variable, the token is read from
    /// `HF_HOME/token`, where `hf auth login` writes it.
    ///
    /// # Errors
    /// HF_ENDPOINT is not the address of a Hub.
    pub fn from_vars(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| get(name).filter(|v| !v.to_string_lossy().trim().is_empty());
        let string = |name: &str| set(name).and_then(|v| v.into_string().ok());
        let endpoint = endpoint(set("HF_ENDPOINT"))?;
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find_map(string);
        let offline = offline.is_some_and(|v| matches!(v.trim().to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"));
        let variable = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| Some((name, set(name)?)));
        let token = match variable {
            Some((name, value)) => Token::new(&value.to_string_lossy(), name),
            None => {
                let file = set("HF_TOKEN_PATH").map(PathBuf::from);
                file.or_else(|| Some(HubCache::hf_home(&get)?.join("token"))).map_or(Ok(None), |f| Token::read(&f))
            }
        };
        let (token, ignored_token) = match token {
            Ok(token) => (token, None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self { endpoint, token, ignored_token, offline, cache: HubCache::from_vars(&get) })
    }
}

fn endpoint(written: Option<OsString>) -> Result<String> {
    let Some(written) = written else { return Ok(DEFAULT_ENDPOINT.to_owned()) };
    let written = written.to_string_lossy();
    let endpoint = written.trim().trim_end_matches('/');
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let is_plain =
        |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"@?#\"".contains(&b));
    match rest {
        Some(host) if is_plain(host) => Ok(endpoint.to_owned()),
        // It may contain a password, so it is not repeated.
        _ => Err(Error::input("HF_ENDPOINT is not the address of a Hub")
            .fact("expected", "such as https://huggingface.co, without a user or a query")
            .hint("unset it to use huggingface.co")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<HubSettings> {
        HubSettings::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(*v)))
    }

    #[test]
    fn variables_mean_the_same_as_for_huggingface_hub() {
        let none = settings(&[]).unwrap();
        assert_eq!((none.endpoint.as_str(), none.offline, none.token), (DEFAULT_ENDPOINT, false, None));
        let given = settings(&[("HF_ENDPOINT", "http://hub.local:8080/"), ("HF_HUB_OFFLINE", "1")]).unwrap();
        assert_eq!((given.endpoint.as_str(), given.offline), ("http://hub.local:8080", true));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "yes")]).unwrap().offline);
    }

    #[test]
    fn the_variable_takes_precedence_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let from_file = settings(&[("HF_HOME", home)]).unwrap().token.unwrap();
        assert_eq!(from_file.bearer(), "Bearer hf_file");
        let from_variable = settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable\n")]).unwrap().token.unwrap();
        assert_eq!((from_variable.bearer().as_str(), from_variable.from.as_str()), ("Bearer hf_variable", "HF_TOKEN"));
        assert_eq!(settings(&[("HF_HOME", home), ("HF_TOKEN_PATH", "/none")]).unwrap().token, None);
    }

    /// FAULTS A14: a token with a line break was dropped without a word.
    #[test]
    fn attack_14_a_token_that_cannot_be_sent_is_reported_with_its_source() {
        for (token, found) in [
            ("hf_a\r\nX-Evil: 1", "a line break"),
            ("hf_a\nb", "a line break"),
            ("hf_a b", "a space"),
            ("hf_a\tb", "a control character"),
            ("hf_aü", "a character that is not ASCII"),
            ("hf_a\u{1b}b", "a control character"),
        ] {
            let settings = settings(&[("HF_TOKEN", token)]).unwrap();
            let error = settings.ignored_token.unwrap();
            assert!(error.contains("HF_TOKEN") && error.contains(found), "{error}");
            assert!(settings.token.is_none() && !error.contains("hf_a"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hf_a\r\nhf_b\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let error = settings(&[("HF_HOME", home)]).unwrap().ignored_token.unwrap();
        assert!(error.contains(file.to_str().unwrap()) && !error.contains("hf_a"), "{error}");
        let error = settings(&[("HF_TOKEN_PATH", home)]).unwrap().ignored_token.unwrap();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = Token::new("hf_secret", "HF_TOKEN").unwrap();
        assert_eq!(format!("{token:?}"), "Some(Token(from HF_TOKEN))");
        let error = settings(&[("HF_ENDPOINT", "https://user:hf_secret@host")]).unwrap_err();
        assert!(!error.to_string().contains("hf_secret"), "{error}");
    }
}
