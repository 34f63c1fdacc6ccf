//! Which failures are tried again, and for how long. The client library repeats a request that gets no answer or a 5xx; here
//! a whole transfer is repeated, also after a cut in the middle of an answer and after damaged bytes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, Error, RetryConfig};
use tokio::time::{Instant, sleep};

/// For how long a transfer is repeated.
const PERIOD: Duration = Duration::from_secs(180);
/// How often at most.
const MAX_TRIES: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What the client library repeats itself.
pub(crate) fn retry_config() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: MAX_PAUSE, base: 2.0 };
    RetryConfig { backoff, max_retries: 6, retry_timeout: Duration::from_secs(60) }
}

/// Timeouts: of a connection, of silence in an answer, of a whole request, which moves at most some MiB.
pub(crate) fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(Duration::from_secs(30))
        .with_timeout(Duration::from_secs(180))
}

/// Why a transfer failed.
#[derive(Debug)]
pub(crate) enum TransferError {
    /// The store's error.
    Store(Error),
    /// The object is another version than the one that was opened.
    Changed,
    /// Bytes arrived damaged, or not all of them.
    Damaged,
}

impl From<Error> for TransferError {
    fn from(error: Error) -> Self {
        match error {
            Error::Precondition { .. } | Error::NotModified { .. } => Self::Changed,
            error => Self::Store(error),
        }
    }
}

impl TransferError {
    /// Whether the server said so.
    fn is_answer(&self) -> bool {
        match self {
            Self::Store(error @ Error::Generic { .. }) => status(&error.to_string()).is_some(),
            _ => true,
        }
    }

    /// Whether another try may succeed.
    fn is_passing(&self) -> bool {
        match self {
            Self::Changed => false,
            Self::Damaged => true,
            Self::Store(error) => is_passing(error),
        }
    }
}

fn is_passing(error: &Error) -> bool {
    let Error::Generic { .. } = error else { return false };
    let text = error.to_string();
    // What arrived at the server was not what was sent.
    let damaged = ["ContentSHA256Mismatch", "BadDigest", "IncompleteBody", "RequestTimeout"];
    let status = status(&text);
    damaged.iter().any(|code| text.contains(code)) || status.is_none_or(|status| status >= 500 || status == 429)
}

/// The HTTP status in the text of an error.
pub(crate) fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// Repeats `transfer` until it succeeds, fails for good, or too much time has passed. `answered` says whether the server
/// ever answered: one that never did is hardly there, and nobody wants to wait minutes to learn it.
pub(crate) async fn repeated<T, F>(answered: &AtomicBool, transfer: impl Fn() -> F) -> Result<T, TransferError>
where
    F: Future<Output = Result<T, TransferError>>,
{
    let transfer = || async {
        let result = transfer().await;
        if result.as_ref().map_or_else(TransferError::is_answer, |_| true) {
            answered.store(true, Ordering::Relaxed);
        }
        result
    };
    let end = Instant::now() + PERIOD;
    let mut pause = FIRST_PAUSE;
    for _ in 1..MAX_TRIES {
        match transfer().await {
            Err(error) if error.is_passing() && answered.load(Ordering::Relaxed) && Instant::now() + pause < end => {}
            other => return other,
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
    transfer().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_failures_are_told_from_lasting_ones() {
        let generic = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        for passing in [
            "Server returned non-2xx status code: 503 Service Unavailable: SlowDown",
            "HTTP error: error decoding response body",
            "Server returned non-2xx status code: 400 Bad Request: <Code>XAmzContentSHA256Mismatch</Code>",
        ] {
            assert!(is_passing(&generic(passing)), "{passing}");
        }
        let lasting = "Server returned non-2xx status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>";
        assert!(!is_passing(&generic(lasting)));
        assert!(!is_passing(&Error::NotFound { path: "x".into(), source: "no".into() }));
    }
}
