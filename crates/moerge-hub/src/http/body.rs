//! Bodies that are read whole: bounded in bytes and in time, because a server may send for ever.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use ureq::{Body, http::HeaderMap};

use super::failure::{Failure, Refusal, network};

/// Maximum bytes of an answer that is read whole. A page of 1,000 files is below 1 MB.
pub const MAX_ANSWER: u64 = 16 << 20;
/// Maximum bytes of the body of a refusal.
const MAX_REFUSAL: u64 = 16 << 10;
/// Time for the body of a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(10);
/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Reads all of a body. `stopped` is asked between reads.
pub fn read(body: Body, max: u64, deadline: Instant, stopped: &dyn Fn() -> bool) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut reader = body.into_reader();
    let mut buffer = vec![0; CHUNK];
    loop {
        if stopped() {
            return Err(Failure::Stopped);
        }
        if Instant::now() >= deadline {
            return Err(Failure::Answer("its answers take too long".into()));
        }
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if stopped() => return Err(Failure::Stopped),
            Err(e) => return Err(network(&ureq::Error::from(e))),
        }
        if bytes.len() as u64 > max {
            return Err(Failure::Answer(format!("its answer is longer than {max} bytes")));
        }
    }
}

/// What an answer with a status of 400 or above says. A body that cannot be read leaves the message empty.
pub fn refusal(status: u16, headers: &HeaderMap, body: Body, stopped: &dyn Fn() -> bool) -> Refusal {
    let header = |name: &str| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let mut message = header("x-error-message").unwrap_or_default();
    if message.is_empty() {
        let bytes = read(body, MAX_REFUSAL, Instant::now() + REFUSAL_TIME, stopped).unwrap_or_default();
        let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let error = json.as_ref().and_then(|j| j.get("error").or(j.get("message")));
        message = error.and_then(|e| e.as_str()).unwrap_or_default().to_owned();
    }
    let retry_after = header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
    Refusal { status, code: header("x-error-code").unwrap_or_default(), message, retry_after }
}
