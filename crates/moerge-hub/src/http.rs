//! Requests as the Hub needs them: redirects that do not carry the token to other hosts, and patience with a server that
//! is busy, breaks off or is not there for a moment.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body, SendBody,
    http::{self, HeaderMap, Uri},
};

use super::settings::{HubSettings, Token};
use moerge_core::error::Error;

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Most redirects that are followed.
const REDIRECTS: usize = 8;
/// Longest text that is read of an answer that is not a file.
const LONGEST_ANSWER: u64 = 64 << 20;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The network, or the other end of it.
    Network {
        /// What the system said.
        what: String,
        /// Whether there never was a connection.
        unreachable: bool,
    },
    /// An answer that says no.
    Status(Refusal),
    /// An answer that is not what a Hub says.
    Answer(String),
    /// Bytes that are not those that the Hub announced.
    Wrong(String),
    /// This machine said no.
    Here(Box<Error>),
    /// The user wants to stop.
    Stopped,
}

impl Failure {
    /// The same where the Hub has answered before: then it is worth waiting for.
    pub fn on_the_way(self) -> Self {
        match self {
            Self::Network { what, .. } => Self::Network { what, unreachable: false },
            other => other,
        }
    }
}

/// An answer of 400 and above.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// The status code.
    pub status: u16,
    /// `X-Error-Code`, such as `RepoNotFound`.
    pub code: String,
    /// `X-Error-Message`, or the `error` in the body.
    pub message: String,
    retry_after: Option<Duration>,
}

/// What is sent, made anew for each try.
pub(super) enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes, of this type.
    Bytes(&'a [u8], &'static str),
    /// This many bytes from a reader.
    Stream(u64, &'a (dyn Fn() -> Box<dyn Read + 'a> + Sync)),
}

/// A request.
pub(super) struct Ask<'a> {
    /// GET, POST, PUT.
    pub method: &'static str,
    /// Absolute.
    pub url: &'a str,
    /// Besides those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Payload<'a>,
}

impl<'a> Ask<'a> {
    /// A GET.
    pub fn get(url: &'a str) -> Self {
        Self { method: "GET", url, headers: Vec::new(), payload: Payload::None }
    }

    /// A POST of JSON.
    pub fn post(url: &'a str, json: &'a [u8]) -> Self {
        Self { method: "POST", url, headers: Vec::new(), payload: Payload::Bytes(json, "application/json") }
    }
}

/// A good answer; its body is not yet read.
#[derive(Debug)]
pub(super) struct Answer {
    /// 200 to 299.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, whole; answers that are not files are small.
    pub fn bytes(self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut reader = self.body.into_reader().take(LONGEST_ANSWER + 1);
        reader.read_to_end(&mut bytes).map_err(|e| network(&ureq::Error::from(e)))?;
        if bytes.len() as u64 > LONGEST_ANSWER {
            return Err(Failure::Answer("an answer of more than 64 MiB where a list was expected".into()));
        }
        Ok(bytes)
    }
}

/// Whether the user wants to stop; asked from any thread.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Told in a line what is waited for; from any thread.
pub type Notes = Arc<dyn Fn(&str) + Send + Sync>;

/// The connection to one Hub.
pub(super) struct Http {
    agent: Agent,
    origin: String,
    token: Option<Token>,
    stop: Stop,
    notes: Notes,
    /// The last note and its time: many connections wait for the same, and one word of it is enough.
    noted: Mutex<Option<(String, Instant)>>,
    /// The watcher lives as long as this does.
    _alive: Arc<()>,
}

impl Http {
    /// A client that gives up when `stop` says so, even in the middle of waiting for the network.
    pub fn new(settings: &HubSettings, stop: Stop, notes: Notes) -> Self {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("moerge/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build()
            .new_agent();
        let alive = Arc::new(());
        watch(agent.clone(), stop.clone(), Arc::downgrade(&alive));
        let origin = origin(&settings.endpoint).unwrap_or_default();
        Self { agent, origin, token: settings.token.clone(), stop, notes, noted: Mutex::default(), _alive: alive }
    }

    /// Whether the user wants to stop.
    pub fn stopped(&self) -> bool {
        (self.stop)()
    }

    /// Waits, unless the user wants to stop.
    pub fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            if self.stopped() {
                return Err(Failure::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Waits before another try, and says so.
    pub fn wait(&self, wait: Wait) -> Result<(), Failure> {
        if let Some(note) = wait.note {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = noted.as_ref().is_none_or(|(last, at)| *last != note || at.elapsed() > Duration::from_secs(1));
            if is_new {
                (self.notes)(&note);
                *noted = Some((note, Instant::now()));
            }
        }
        self.sleep(wait.time)
    }

    /// Asks until there is an answer, as long as that makes sense.
    pub fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut patience = Patience::new();
        loop {
            match self.once(ask) {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.wait(patience.after(failure)?)?,
            }
        }
    }

    /// Asks and reads the whole answer.
    pub fn read(&self, ask: &Ask) -> Result<Vec<u8>, Failure> {
        let mut patience = Patience::new();
        loop {
            match self.once(ask).and_then(Answer::bytes) {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => self.wait(patience.after(failure)?)?,
            }
        }
    }

    /// One try; redirects are followed.
    pub fn once(&self, ask: &Ask) -> Result<Answer, Failure> {
        let mut url = ask.url.to_owned();
        for _ in 0..REDIRECTS {
            if self.stopped() {
                return Err(Failure::Stopped);
            }
            let response = self.send(ask, &url).map_err(|e| if self.stopped() { Failure::Stopped } else { e })?;
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            match status {
                200..=299 => return Ok(Answer { status, headers: parts.headers, body }),
                301 | 302 | 303 | 307 | 308 if ask.method == "GET" || status >= 307 => {
                    let location = parts.headers.get("location").and_then(|l| l.to_str().ok());
                    url = location
                        .and_then(|l| follow(&url, l))
                        .ok_or_else(|| Failure::Answer("a redirect that leads nowhere".into()))?;
                }
                _ => return Err(Failure::Status(refusal(status, &parts.headers, body))),
            }
        }
        Err(Failure::Answer(format!("more than {REDIRECTS} redirects")))
    }

    fn send(&self, ask: &Ask, url: &str) -> Result<http::Response<Body>, Failure> {
        let mut request = http::Request::builder().method(ask.method).uri(url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        // Signed addresses of other hosts need no token, and must not see it.
        if let Some(token) = self.token.as_ref().filter(|_| origin(url).is_some_and(|o| o == self.origin)) {
            request = request.header("authorization", token.bearer());
        }
        let bad = |e: http::Error| Failure::Answer(format!("an address that cannot be asked: {e}"));
        let sent = match &ask.payload {
            Payload::None => self.agent.run(request.body(SendBody::none()).map_err(bad)?),
            Payload::Bytes(bytes, kind) => {
                let request = request.header("content-type", *kind).header("content-length", bytes.len());
                let mut reader = *bytes;
                self.agent.run(request.body(SendBody::from_reader(&mut reader)).map_err(bad)?)
            }
            Payload::Stream(length, open) => {
                let mut reader = open();
                let request = request.header("content-length", *length);
                self.agent.run(request.body(SendBody::from_reader(&mut reader)).map_err(bad)?)
            }
        };
        sent.map_err(|e| network(&e))
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("origin", &self.origin).field("token", &self.token).finish_non_exhaustive()
    }
}

/// Ends waiting for the network as soon as the user wants to stop.
fn watch(agent: Agent, stop: Stop, alive: Weak<()>) {
    thread::spawn(move || {
        while alive.strong_count() > 0 {
            if stop() {
                agent.shutdown();
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
}

/// The time before another try.
#[derive(Debug)]
pub(super) struct Wait {
    time: Duration,
    /// What is waited for, where that is worth a line.
    note: Option<String>,
}

/// How many more tries a request is worth, and how long to wait before the next.
pub(super) struct Patience {
    tries: u32,
    wait: Duration,
}

impl Patience {
    const TRIES: u32 = 7;
    const FIRST_WAIT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(1);
    const LONGEST_WAIT: Duration = Duration::from_secs(10);
    const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

    /// For a request that has not failed yet.
    pub fn new() -> Self {
        Self { tries: 0, wait: Self::FIRST_WAIT }
    }

    /// How long to wait after `failure` before the next try; the failure itself where there is no use in one.
    pub fn after(&mut self, failure: Failure) -> Result<Wait, Failure> {
        self.tries += 1;
        let most = match &failure {
            // Nobody there at the very first try is most often no network at all: better said soon.
            Failure::Network { unreachable: true, .. } => 3,
            Failure::Network { .. } => Self::TRIES,
            Failure::Wrong(_) => 3,
            Failure::Status(refusal) if matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504) => Self::TRIES,
            _ => return Err(failure),
        };
        if self.tries >= most {
            return Err(failure);
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(Self::LONGEST_WAIT);
        let time = match &failure {
            Failure::Status(Refusal { retry_after: Some(asked), .. }) => (*asked).min(Self::LONGEST_RETRY_AFTER),
            _ => wait,
        };
        let what = match failure {
            Failure::Status(refusal) => Some(format!("the Hub answers {}", refusal.status)),
            // Lines that are cut are common, and the next try is soon; only a longer wait is worth a word.
            Failure::Network { what, .. } if time >= Self::LONG => Some(format!("no connection to the Hub ({what})")),
            _ => None,
        };
        let when = match time.as_secs_f64() {
            0.0 => "at once".to_owned(),
            seconds if seconds < 1.0 => format!("in {seconds:.1} s"),
            seconds => format!("in {seconds:.0} s"),
        };
        let note = what.map(|what| format!("{what}; trying again {when} ({} of {most})", self.tries + 1));
        Ok(Wait { time, note })
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: Body) -> Refusal {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut message = text("x-error-message");
    if message.is_empty() {
        let mut bytes = Vec::new();
        let _ = body.into_reader().take(16 << 10).read_to_end(&mut bytes);
        let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let error = json.as_ref().and_then(|j| j.get("error").or(j.get("message")));
        message = error.and_then(|e| e.as_str()).unwrap_or_default().to_owned();
    }
    let retry_after = text("retry-after").trim().parse().ok().map(Duration::from_secs);
    Refusal { status, code: text("x-error-code"), message, retry_after }
}

/// A failure of the network in words. Addresses with their signatures are not among them.
pub(super) fn network(error: &ureq::Error) -> Failure {
    let (what, unreachable) = match error {
        ureq::Error::Io(e) => {
            use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
            let kinds = [ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable];
            // An error that came through a reader is wrapped once more.
            if e.to_string().contains("lookup address") {
                // What std says where the resolver knows no such name; it has no kind of its own.
                return Failure::Network { what: "its name is not known (DNS)".to_owned(), unreachable: true };
            }
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
        ureq::Error::Timeout(_) => (format!("nothing came for {} s", SILENCE.as_secs()), false),
        other => (other.to_string(), false),
    };
    Failure::Network { what, unreachable }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = if scheme == "https" { 443 } else { 80 };
    Some(format!("{scheme}://{}:{}", authority.host().to_lowercase(), authority.port_u16().unwrap_or(default)))
}

/// Where a redirect from `url` leads.
fn follow(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        // Off https there is nobody to trust.
        return (location.starts_with("https://") || url.starts_with("http://")).then(|| location.to_owned());
    }
    let uri: Uri = url.parse().ok()?;
    let path = location.strip_prefix('/').filter(|rest| !rest.starts_with('/'))?;
    Some(format!("{}://{}/{path}", uri.scheme_str()?, uri.authority()?))
}

/// Text as a part of a path in an address.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say_and_not_off_https() {
        let from = "https://hub.co/a/resolve/main/x";
        assert_eq!(follow(from, "/b/resolve/main/x").as_deref(), Some("https://hub.co/b/resolve/main/x"));
        assert_eq!(follow(from, "https://cdn.co/x?sig=1").as_deref(), Some("https://cdn.co/x?sig=1"));
        for bad in ["http://hub.co/x", "//evil.co/x", "x", "ftp://x", ""] {
            assert_eq!(follow(from, bad), None, "{bad}");
        }
    }

    #[test]
    fn the_token_is_for_one_origin() {
        assert_eq!(origin("https://Hub.co/x?y"), origin("https://hub.co:443"));
        assert_ne!(origin("https://hub.co"), origin("http://hub.co"));
        assert_ne!(origin("https://hub.co"), origin("https://hub.co.evil.org"));
        assert_ne!(origin("http://127.0.0.1:80"), origin("http://127.0.0.1:81"));
    }

    #[test]
    fn patience_ends_and_is_only_for_what_may_pass() {
        let busy =
            || Failure::Status(Refusal { status: 503, code: String::new(), message: String::new(), retry_after: None });
        let mut patience = Patience::new();
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(busy()).ok()).map(|w| w.time.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400]);
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            Failure::Status(Refusal { status: 429, code: String::new(), message: String::new(), retry_after })
        };
        let note = |failure| Patience::new().after(failure).unwrap().note.unwrap_or_default();
        assert_eq!(note(busy()), "the Hub answers 503; trying again in 0.2 s (2 of 7)");
        assert_eq!(note(asked(5)), "the Hub answers 429; trying again in 5 s (2 of 7)");
        assert_eq!(note(asked(0)), "the Hub answers 429; trying again at once (2 of 7)");
        assert_eq!(note(Failure::Network { what: String::new(), unreachable: false }), "");
        let missing =
            Failure::Status(Refusal { status: 404, code: String::new(), message: String::new(), retry_after: None });
        assert!(Patience::new().after(missing).is_err());
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(escaped("a b?ü"), "a%20b%3F%C3%BC");
    }
}
