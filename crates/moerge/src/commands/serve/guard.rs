//! Access control: programs on this machine, or clients with the API key.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};

use super::api_error::ApiError;

/// The rules of a server.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The key that requests need, if any.
    pub key: Option<String>,
    /// Whether only this machine is served.
    pub loopback: bool,
}

impl Guard {
    /// Whether a request may come in at all.
    ///
    /// A web page from elsewhere could send requests to a server on its reader's machine: by a name that its owner
    /// turns to 127.0.0.1 (DNS rebinding), which shows in `Host`, or to the address itself, which shows in `Origin`.
    pub fn check_source(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if self.loopback && !is_loopback(host) {
            return Err(forbidden("the `Host` of the request is not this machine"));
        }
        match text(header::ORIGIN) {
            Some(origin) if origin.split_once("://").is_none_or(|(_, authority)| authority != host) => {
                Err(forbidden("requests from pages of other sites are refused"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a request has the key, where one is needed: `Authorization: Bearer KEY`.
    pub fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given =
            given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        match given {
            Some((_, given)) if same(given.trim().as_bytes(), key.as_bytes()) => Ok(()),
            given => {
                let what = if given.is_some() { "the API key is wrong" } else { "an API key is needed" };
                let message = format!("{what}: send `Authorization: Bearer KEY`");
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
            }
        }
    }
}

fn forbidden(why: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", why)
}

/// Whether `host[:port]` names this machine's loopback address, and nothing else stands there.
fn is_loopback(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((name, rest)) if name.contains(':') => (name, rest),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| !port.is_empty() && port.parse::<u16>().is_ok() && !port.starts_with('+');
    let known = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    known && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// Whether two texts are equal, compared in constant time.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(guard: &Guard, headers: &[(&'static str, &str)]) -> [bool; 2] {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        [guard.check_source(&headers).is_ok(), guard.check_key(&headers).is_ok()]
    }

    #[test]
    fn attack_14_only_this_machine_by_its_own_names() {
        let guard = Guard { key: None, loopback: true };
        let host = |host: &str| allowed(&guard, &[("host", host)])[0];
        for good in ["localhost", "localhost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "10.0.0.1:8080",
            "[::2]:80",
            "[::1]evil.example",
            "[::1]:80.evil.example",
            "localhost:",
            "localhost:80:80",
            "localhost:+80",
            "user@localhost",
            "[localhost]",
            "::1",
            "localhost.:80",
        ] {
            assert!(!host(bad), "{bad}");
        }
        assert!(allowed(&Guard { key: None, loopback: false }, &[("host", "box.lan:8080")])[0]);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = Guard { key: None, loopback: true };
        let origin = |origin: &str| allowed(&guard, &[("host", "localhost:8080"), ("origin", origin)])[0];
        assert!(origin("http://localhost:8080"));
        for bad in ["null", "https://evil.example", "http://localhost:9999"] {
            assert!(!origin(bad), "{bad}");
        }
    }

    #[test]
    fn the_key_must_be_the_key() {
        let guard = Guard { key: Some("s3cret".into()), loopback: true };
        let key = |value: &str| allowed(&guard, &[("authorization", value)])[1];
        assert!(key("Bearer s3cret") && key("bearer s3cret"));
        for bad in ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Basic s3cret", "s3cret", ""] {
            assert!(!key(bad), "{bad}");
        }
        assert!(!allowed(&guard, &[])[1]);
        assert!(allowed(&Guard { key: None, loopback: true }, &[])[1]);
    }
}
