//! What the environment says about the Hub: where it is, who asks, and whether it may be asked at all. The variables are
//! those of huggingface_hub, and mean the same.

use std::{ffi::OsString, fmt, path::PathBuf};

use moerge_core::{
    error::{Error, Result},
    model::locate::HubCache,
};

/// The Hub everybody means where HF_ENDPOINT is not set.
pub(super) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the Hub is, and who asks.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Scheme and host, such as `https://huggingface.co`; no `/` at the end.
    pub endpoint: String,
    /// Who asks; nobody in particular where there is none.
    pub token: Option<Token>,
    /// Why a token that was given is not used.
    pub ignored_token: Option<String>,
    /// Whether nothing may be asked over the network.
    pub offline: bool,
    /// Where downloads go.
    pub cache: HubCache,
}

/// A secret that tells the Hub who asks. It never appears in anything that is printed or written.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: String,
    /// Where it is from, in words for messages.
    pub from: String,
}

impl Token {
    /// A token. Blanks around it are not part of it; `None` if nothing is left.
    pub fn new(secret: &str, from: impl Into<String>) -> Option<Self> {
        let secret = secret.trim();
        // A header holds visible ASCII only; anything else was never a token.
        let plain = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic());
        plain.then(|| Self { secret: secret.to_owned(), from: from.into() })
    }

    /// The value of the Authorization header.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.from)
    }
}

impl HubSettings {
    /// Reads the environment of the process, and the token file.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| std::env::var_os(name))
    }

    /// Reads HF_ENDPOINT, HF_TOKEN (HUGGING_FACE_HUB_TOKEN is its older name), HF_TOKEN_PATH, HF_HUB_OFFLINE and
    /// TRANSFORMERS_OFFLINE, and what [`HubCache`] reads. Without a variable the token is in `HF_HOME/token`, where
    /// `hf auth login` puts it.
    pub fn from_vars(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| get(name).and_then(|v| v.into_string().ok()).filter(|v| !v.trim().is_empty());
        let endpoint = endpoint(text("HF_ENDPOINT"))?;
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find_map(text);
        let offline = offline.is_some_and(|v| matches!(v.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"));
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
        let given = named.into_iter().find_map(|name| Some((text(name)?, name.to_owned()))).or_else(|| {
            let file =
                text("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(HubCache::hf_home(&get)?.join("token")))?;
            Some((std::fs::read_to_string(&file).ok()?, file.display().to_string()))
        });
        let token = given.as_ref().and_then(|(secret, from)| Token::new(secret, from.as_str()));
        let ignored_token = given.filter(|(secret, _)| token.is_none() && !secret.trim().is_empty());
        let ignored_token = ignored_token.map(|(secret, from)| {
            format!("the token in {from} is ignored: it contains {}", not_of_a_token(secret.trim()))
        });
        Ok(Self { endpoint, token, ignored_token, offline, cache: HubCache::from_vars(&get) })
    }
}

/// What a token cannot contain, as it was found in one. The token itself is never shown.
fn not_of_a_token(secret: &str) -> &'static str {
    match secret.chars().find(|c| !c.is_ascii_graphic()) {
        Some(' ') => "a space",
        Some('\n' | '\r') => "a line break",
        Some(c) if c.is_ascii() => "a control character",
        _ => "a character that is not ASCII",
    }
}

fn endpoint(written: Option<String>) -> Result<String> {
    let Some(written) = written else { return Ok(DEFAULT_ENDPOINT.to_owned()) };
    let endpoint = written.trim().trim_end_matches('/');
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let plain = |host: &str| !host.is_empty() && !host.contains(|c: char| "@?# \"".contains(c) || c.is_control());
    match rest {
        Some(host) if plain(host) => Ok(endpoint.to_owned()),
        // It may hold a password, so it is not repeated.
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
    fn means_the_same_as_for_huggingface_hub() {
        let none = settings(&[]).unwrap();
        assert_eq!((none.endpoint.as_str(), none.offline, none.token), (DEFAULT_ENDPOINT, false, None));
        let given = settings(&[("HF_ENDPOINT", "http://hub.local:8080/"), ("HF_HUB_OFFLINE", "1")]).unwrap();
        assert_eq!((given.endpoint.as_str(), given.offline), ("http://hub.local:8080", true));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "yes")]).unwrap().offline);
    }

    #[test]
    fn a_token_that_cannot_be_one_is_ignored_and_reported() {
        for (token, what) in [("hf_a b", "a space"), ("hf_a\r\nX: y", "a line break"), ("hf_ä", "not ASCII")] {
            let settings = settings(&[("HF_TOKEN", token)]).unwrap();
            let why = settings.ignored_token.unwrap();
            assert!(settings.token.is_none() && why.contains(what) && !why.contains("hf_"), "{why}");
        }
        assert_eq!(settings(&[("HF_TOKEN", " hf_a\n")]).unwrap().ignored_token, None);
    }

    #[test]
    fn the_variable_counts_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = dir.path().to_str().unwrap();
        let from_file = settings(&[("HF_HOME", home)]).unwrap().token.unwrap();
        assert_eq!(from_file.bearer(), "Bearer hf_file");
        let from_variable = settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable\n")]).unwrap().token.unwrap();
        assert_eq!((from_variable.bearer().as_str(), from_variable.from.as_str()), ("Bearer hf_variable", "HF_TOKEN"));
        assert_eq!(settings(&[("HF_HOME", home), ("HF_TOKEN_PATH", "/none")]).unwrap().token, None);
    }

    #[test]
    fn a_token_does_not_show_in_what_is_printed() {
        let token = Token::new("hf_secret", "HF_TOKEN");
        assert_eq!(format!("{token:?}"), "Some(Token(from HF_TOKEN))");
        let error = settings(&[("HF_ENDPOINT", "https://user:hf_secret@host")]).unwrap_err();
        assert!(!error.to_string().contains("hf_secret"), "{error}");
    }
}
