//! Which failures are worth another try, and how long to wait before it.

use std::time::Duration;

use super::failure::{Failure, Refusal};

/// The pause before another try.
#[derive(Debug)]
pub struct Wait {
    /// How long it takes.
    pub time: Duration,
    /// What to say about it; `None` for a short wait after a broken connection.
    pub note: Option<String>,
}

/// Counts the tries of one request.
pub struct RetryPolicy {
    tries: u32,
    wait: Duration,
}

impl RetryPolicy {
    const MAX_TRIES: u32 = 7;
    const FIRST_WAIT: Duration = Duration::from_millis(200);
    const NOTED_WAIT: Duration = Duration::from_secs(1);
    const MAX_WAIT: Duration = Duration::from_secs(10);
    const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

    /// The policy of a request that has not failed yet.
    pub fn new() -> Self {
        Self { tries: 0, wait: Self::FIRST_WAIT }
    }

    /// How long to wait after `failure` before the next try. Returns the failure where another try is useless.
    pub fn after(&mut self, failure: Failure) -> Result<Wait, Failure> {
        self.within(failure, Duration::MAX)
    }

    /// The same where the next try has to begin within `left`.
    pub fn within(&mut self, failure: Failure, left: Duration) -> Result<Wait, Failure> {
        self.tries += 1;
        let max = match &failure {
            // A first connection that fails usually means that there is no network: report it soon.
            Failure::Network { unreachable: true, .. } => 3,
            Failure::Network { .. } => Self::MAX_TRIES,
            Failure::Wrong(_) => 3,
            Failure::Status(refusal) if matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504) => Self::MAX_TRIES,
            _ => return Err(failure),
        };
        if self.tries >= max {
            return Err(failure);
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(Self::MAX_WAIT);
        let time = match &failure {
            Failure::Status(Refusal { retry_after: Some(asked), .. }) => (*asked).min(Self::MAX_RETRY_AFTER),
            _ => wait,
        };
        if time >= left {
            return Err(failure);
        }
        let what = match failure {
            Failure::Status(refusal) => Some(format!("the Hub answers {}", refusal.status)),
            // Broken connections are common and the next try is soon; only a longer wait is worth a line.
            Failure::Network { what, .. } if time >= Self::NOTED_WAIT => {
                Some(format!("no connection to the Hub ({what})"))
            }
            _ => None,
        };
        let when = match time.as_secs_f64() {
            0.0 => "at once".to_owned(),
            seconds if seconds < 1.0 => format!("in {seconds:.1} s"),
            seconds => format!("in {seconds:.0} s"),
        };
        let note = what.map(|what| format!("{what}; trying again {when} ({} of {max})", self.tries + 1));
        Ok(Wait { time, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, seconds: Option<u64>) -> Failure {
        let retry_after = seconds.map(Duration::from_secs);
        Failure::Status(Refusal { status, code: String::new(), message: String::new(), retry_after })
    }

    #[test]
    fn tries_are_bounded_and_only_for_what_may_pass() {
        let mut policy = RetryPolicy::new();
        let next = || policy.after(refusal(503, None)).ok();
        let waits: Vec<_> = std::iter::from_fn(next).map(|w| w.time.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400]);
        assert!(RetryPolicy::new().after(refusal(404, None)).is_err());
    }

    #[test]
    fn a_wait_is_announced_with_its_reason() {
        let note = |failure| RetryPolicy::new().after(failure).unwrap().note.unwrap_or_default();
        assert_eq!(note(refusal(503, None)), "the Hub answers 503; trying again in 0.2 s (2 of 7)");
        assert_eq!(note(refusal(429, Some(5))), "the Hub answers 429; trying again in 5 s (2 of 7)");
        assert_eq!(note(refusal(429, Some(0))), "the Hub answers 429; trying again at once (2 of 7)");
        assert_eq!(note(Failure::Network { what: String::new(), unreachable: false }), "");
    }
}
