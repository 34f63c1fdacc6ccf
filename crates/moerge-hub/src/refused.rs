//! What the Hub's answers mean for a person, and what to do about each.

use super::{
    http::{Failure, Refusal},
    settings::HubSettings,
};
use moerge_core::{
    error::{Cause, Error, ErrorKind},
    model::locate::HubId,
    suggest::{printable, shorten},
};

/// What was asked for, for the words of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// Where, and who asks.
    pub settings: &'a HubSettings,
    /// The model.
    pub id: &'a HubId,
    /// The file, where it is one.
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
            Failure::Answer(what) => Error::new(ErrorKind::Io, format!("{}: {what}", self.cannot()))
                .fact("asked", self.settings.endpoint.clone())
                .hint("is that a Hub? HF_ENDPOINT says where it is; a proxy or a login page may be in between"),
            Failure::Wrong(what) => Error::new(ErrorKind::Io, format!("{}: {what}", self.cannot()))
                .hint("nothing of it was kept; try again later, or without a proxy in between"),
            Failure::Here(error) => *error,
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
            .fact("asked", self.settings.endpoint.clone())
            .fact("found", printable(what))
            .hint(
                "check the connection (HTTPS_PROXY is used where it is set); the same command goes on where it stopped",
            )
            .hint("models that are downloaded already need no network: HF_HUB_OFFLINE=1")
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let id = self.id;
        let web = format!("{}/{}", self.settings.endpoint, id.id);
        let Refusal { status, code, message, .. } = refusal;
        let bad_credentials = message.starts_with("Invalid credentials") || message.starts_with("Invalid username");
        let error = match (*status, code.as_str()) {
            (_, "RevisionNotFound") => {
                Error::input(format!("{} has no branch, tag or commit `{}`", id.id, shorten(&id.revision)))
                    .hint(format!("its branches are listed at {web}/tree/main; without `@...` it is main"))
            }
            (_, "EntryNotFound") => Error::input(format!("{id} has no file {}", self.file.unwrap_or("of this name"))),
            (_, "GatedRepo") => {
                Error::input(format!("{} is gated: its authors want their terms accepted first", id.id))
                    .hint(format!("open {web} in a browser, log in and accept them"))
                    .hint(match &self.settings.token {
                        None => "then log in here: `hf auth login`, or set HF_TOKEN".to_owned(),
                        Some(token) => {
                            format!("the token from {} must be of that account, and may read gated models", token.from)
                        }
                    })
            }
            (401, _) if bad_credentials => self.bad_token(),
            (401 | 404, _) if self.verb == "download" || code == "RepoNotFound" => {
                Error::input(format!("there is no model {} on the Hub, or it is private", id.id))
                    .hint(format!("is it spelt as at {web} ?"))
                    .hint(self.access_hint("read"))
            }
            (401, _) => self.bad_token(),
            (403, _) => Error::input(format!("{}: the Hub does not allow it", self.cannot())).hint(match self.verb {
                "upload" => self.access_hint("write to"),
                _ => self.access_hint("read"),
            }),
            (429, _) => Error::new(ErrorKind::Io, format!("{}: the Hub asks to slow down", self.cannot()))
                .cause(Cause::Network)
                .hint("wait some minutes, then run the same command again: it goes on where it stopped"),
            (500.., _) => Error::new(ErrorKind::Io, format!("{}: the Hub is in trouble", self.cannot()))
                .cause(Cause::Network)
                .hint("try again later; the same command goes on where it stopped"),
            _ => Error::new(ErrorKind::Io, format!("{}: the Hub says no", self.cannot())),
        };
        let said = if message.is_empty() { code.as_str() } else { message.as_str() };
        error.fact("answer", format!("{status} {}", printable(said.get(..300).unwrap_or(said))).trim_end())
    }

    fn bad_token(&self) -> Error {
        let new = format!("{}/settings/tokens", self.settings.endpoint);
        match &self.settings.token {
            Some(token) => Error::input("the Hub does not know this token")
                .fact("token", format!("from {}", token.from))
                .hint(format!("make a new one at {new}, then `hf auth login` or HF_TOKEN"))
                .hint("public models need none"),
            None => Error::input(format!("{}: the Hub wants to know who asks", self.cannot()))
                .hint(format!("make a token at {new}, then `hf auth login` or HF_TOKEN")),
        }
    }

    fn access_hint(&self, what: &str) -> String {
        match &self.settings.token {
            Some(token) => format!("the token from {} must be allowed to {what} {}", token.from, self.id.id),
            None => "if you have access to it, log in: `hf auth login`, or set HF_TOKEN".to_owned(),
        }
    }
}
