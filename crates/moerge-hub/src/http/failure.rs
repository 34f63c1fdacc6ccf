//! Why a request failed.

use std::{io, time::Duration};

use moerge_core::error::Error;

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The network, or the other end of it.
    Network {
        /// What the system said.
        what: String,
        /// Whether no connection was ever made.
        unreachable: bool,
    },
    /// A status of 400 or above.
    Status(Refusal),
    /// An answer that a Hub would not give.
    Answer(String),
    /// Bytes that differ from what the Hub announced.
    Wrong(String),
    /// An error of this machine, such as a full disk.
    Local(Box<Error>),
    /// The user stopped the run.
    Stopped,
}

impl Failure {
    /// The same failure on a Hub that has answered before, which is worth more tries.
    pub fn after_contact(self) -> Self {
        match self {
            Self::Network { what, .. } => Self::Network { what, unreachable: false },
            other => other,
        }
    }
}

/// An answer with a status of 400 or above.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// `X-Error-Code`, such as `RepoNotFound`.
    pub code: String,
    /// `X-Error-Message`, or `error` or `message` of a JSON body.
    pub message: String,
    /// `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
}

/// Describes a network error. Signed addresses are left out.
pub fn network(error: &ureq::Error) -> Failure {
    let (what, unreachable) = match error {
        ureq::Error::Io(e) => {
            use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
            let kinds = [ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable];
            // The standard library has no error kind for a name that does not resolve.
            if e.to_string().contains("lookup address") {
                return Failure::Network { what: "its name is not known (DNS)".to_owned(), unreachable: true };
            }
            // An error that came through a reader is wrapped once more.
            let inner = e.get_ref().and_then(|i| i.downcast_ref::<ureq::Error>());
            return inner.map_or_else(
                || Failure::Network { what: e.to_string(), unreachable: kinds.contains(&e.kind()) },
                network,
            );
        }
        ureq::Error::HostNotFound => ("its name is not known (DNS)".to_owned(), true),
        ureq::Error::ConnectionFailed => ("no connection".to_owned(), true),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            ("it does not answer".to_owned(), true)
        }
        ureq::Error::Timeout(_) => (format!("nothing came for {} s", super::SILENCE.as_secs()), false),
        other => (other.to_string(), false),
    };
    Failure::Network { what, unreachable }
}
