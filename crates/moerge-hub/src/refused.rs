//! Error messages for refused and failed requests, with what to do about each.

use super::{
    http::{Failure, Refusal},
    settings::HubSettings,
};
use moerge_core::{
    error::{Cause, Error, ErrorKind},
    model::locate::HubId,
    suggest::{printable, shorten},
};

/// What was requested, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The Hub and the token.
    pub settings: &'a HubSettings,
    /// The model.
    pub id: &'a HubId,
    /// The file, if the request is for one.
    pub file: Option<&'a str>,
    /// `download` or `upload`, for "cannot ...".
    pub verb: &'static str,
}

impl Subject<'_> {
    /// The error for a person.
    pub fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stopped => Error::interrupted(),
            Failure::Network { what, .. } => self.network(&what),
            Failure::Status(refusal) => self.refused(&refusal),
            Failure::Answer(what) => Error::new(ErrorKind::Io, format!("{}: {}", self.cannot(), printable(&what)))
                .cause(Cause::Network)
                .fact("Hub", self.settings.endpoint.clone())
                .hint("is that a Hub? HF_ENDPOINT is its address; a proxy or a login page may be in between"),
            Failure::Wrong(what) => Error::new(ErrorKind::Io, format!("{}: {}", self.cannot(), printable(&what)))
                .cause(Cause::Network)
                .hint("nothing of it was kept; try again later, or without a proxy in between"),
            Failure::Local(error) => *error,
        }
    }

    fn cannot(&self) -> String {
        match self.file {
            Some(file) => format!("cannot {} {} of {}", self.verb, printable(file), self.id),
            None => format!("cannot {} {}", self.verb, self.id),
        }
    }

    fn network(&self, what: &str) -> Error {
        Error::new(ErrorKind::Io, format!("{}: the Hub cannot be reached", self.cannot()))
            .cause(Cause::Network)
            .fact("Hub", self.settings.endpoint.clone())
            .fact("found", printable(what))
            .hint("check the connection (HTTPS_PROXY is used if set), and rerun the command to resume")
            .hint("models in the cache need no network: set HF_HUB_OFFLINE=1")
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let id = self.id;
        let web = format!("{}/{}", self.settings.endpoint, id.id);
        let Refusal { status, code, message, .. } = refusal;
        let bad_credentials = message.starts_with("Invalid credentials") || message.starts_with("Invalid username");
        let error = match (*status, code.as_str()) {
            (_, "RevisionNotFound") => {
                Error::input(format!("{} has no branch, tag or commit `{}`", id.id, shorten(&id.revision)))
                    .hint(format!("see {web}/tree/main for its branches; the default is main"))
            }
            (_, "EntryNotFound") => {
                Error::input(format!("{id} has no file {}", printable(self.file.unwrap_or("of this name"))))
            }
            (_, "GatedRepo") => Error::input(format!("{} is gated: accept its terms first", id.id))
                .hint(format!("open {web} in a browser, log in and accept them"))
                .hint(match &self.settings.token {
                    None => "then run `hf auth login`, or set HF_TOKEN".to_owned(),
                    Some(token) => {
                        format!(
                            "the token from {} must belong to that account and allow reading gated models",
                            token.from
                        )
                    }
                }),
            (401, _) if bad_credentials => self.bad_token(),
            (401 | 404, _) if self.verb == "download" || code == "RepoNotFound" => {
                Error::input(format!("there is no model {} on the Hub, or it is private", id.id))
                    .hint(format!("check the spelling at {web}"))
                    .hint(self.access_hint("read"))
            }
            (401, _) => self.bad_token(),
            (403, _) => Error::input(format!("{}: the Hub does not allow it", self.cannot())).hint(match self.verb {
                "upload" => self.access_hint("write to"),
                _ => self.access_hint("read"),
            }),
            (429, _) => Error::new(ErrorKind::Io, format!("{}: the Hub limits the rate of requests", self.cannot()))
                .cause(Cause::Network)
                .hint("wait a few minutes, then rerun the command to resume"),
            (500.., _) => Error::new(ErrorKind::Io, format!("{}: the Hub has an internal error", self.cannot()))
                .cause(Cause::Network)
                .hint("try again later; rerunning the command resumes"),
            _ => Error::new(ErrorKind::Io, format!("{}: the Hub refused", self.cannot())),
        };
        let said = if message.is_empty() { code.as_str() } else { message.as_str() };
        error.fact("answer", format!("{status} {}", printable(&said.chars().take(300).collect::<String>())).trim_end())
    }

    fn bad_token(&self) -> Error {
        let new = format!("{}/settings/tokens", self.settings.endpoint);
        match &self.settings.token {
            Some(token) => Error::input("the Hub does not know this token")
                .fact("token", format!("from {}", token.from))
                .hint(format!("make a new one at {new}, then run `hf auth login` or set HF_TOKEN"))
                .hint("public models need no token"),
            None => Error::input(format!("{}: the Hub needs a token", self.cannot()))
                .hint(format!("make a token at {new}, then run `hf auth login` or set HF_TOKEN")),
        }
    }

    fn access_hint(&self, what: &str) -> String {
        match &self.settings.token {
            Some(token) => format!("the token from {} must have permission to {what} {}", token.from, self.id.id),
            None => "if you have access to it, log in: `hf auth login`, or set HF_TOKEN".to_owned(),
        }
    }
}
