//! Requests to a Hub: redirects that never carry the token to another host, retries while the server is busy or the
//! connection breaks, and bounds on the size and time of every answer.

mod address;
mod body;
mod failure;
mod retry;

use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body, SendBody,
    http::{self, HeaderMap},
};

pub(super) use address::{escaped, next_page, origin, resolve};
pub(super) use failure::{Failure, Refusal, network};
pub(super) use retry::{RetryPolicy, Wait};

use super::{
    redact::Redactor,
    settings::{HubSettings, Token},
};

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(20);
/// Time for making a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for the headers of an answer.
const HEADERS: Duration = Duration::from_secs(60);
/// Maximum number of redirects that one request follows.
const MAX_REDIRECTS: usize = 8;
/// Time for a request whose answer is read whole, all tries together.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// The body of a request, made again for each try.
pub(super) enum Payload<'a> {
    /// No body.
    None,
    /// These bytes, of this media type.
    Bytes(&'a [u8], &'static str),
    /// This many bytes from a reader.
    Stream(u64, &'a (dyn Fn() -> Box<dyn Read + 'a> + Sync)),
}

/// A request.
pub(super) struct Request<'a> {
    /// GET, POST or PUT.
    pub method: &'static str,
    /// Absolute.
    pub url: &'a str,
    /// Headers besides those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Payload<'a>,
}

impl<'a> Request<'a> {
    /// A GET.
    pub fn get(url: &'a str) -> Self {
        Self { method: "GET", url, headers: Vec::new(), payload: Payload::None }
    }

    /// A POST of JSON.
    pub fn post(url: &'a str, json: &'a [u8]) -> Self {
        Self { method: "POST", url, headers: Vec::new(), payload: Payload::Bytes(json, "application/json") }
    }
}

/// A successful answer whose body is not read yet.
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
    /// A header as a string.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Returns whether the user wants to stop; called from any thread.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Receives one line about each wait; called from any thread.
pub type Notes = Arc<dyn Fn(&str) + Send + Sync>;

/// The client of one Hub.
pub(super) struct Http {
    agent: Agent,
    origin: String,
    token: Option<Token>,
    redactor: Redactor,
    stop: Stop,
    notes: Notes,
    /// The last note and its time: parallel connections wait for the same reason, and one line about it is enough.
    noted: Mutex<Option<(String, Instant)>>,
    /// The thread that watches for a stop ends with this.
    _alive: Arc<()>,
}

impl Http {
    /// A client that gives up when `stop` says so, even while it waits for the network.
    pub fn new(settings: &HubSettings, stop: Stop, notes: Notes) -> Self {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("moerge/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_recv_response(Some(HEADERS))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build()
            .new_agent();
        let alive = Arc::new(());
        end_waits_on_stop(agent.clone(), stop.clone(), Arc::downgrade(&alive));
        Self {
            agent,
            origin: origin(&settings.endpoint).unwrap_or_default(),
            token: settings.token.clone(),
            redactor: Redactor::new(settings.token.as_ref()),
            stop,
            notes,
            noted: Mutex::default(),
            _alive: alive,
        }
    }

    /// Whether the user wants to stop.
    pub fn stopped(&self) -> bool {
        (self.stop)()
    }

    /// Removes the token from what is printed.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Whether an address has the Hub's scheme, host and port.
    pub fn is_own(&self, url: &str) -> bool {
        origin(url).is_some_and(|o| o == self.origin)
    }

    /// Sleeps, unless the user wants to stop.
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

    /// Waits before another try, and notes why.
    pub fn wait(&self, wait: Wait) -> Result<(), Failure> {
        if let Some(note) = wait.note {
            let note = self.redactor.clean(&note);
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = noted.as_ref().is_none_or(|(last, at)| *last != note || at.elapsed() > Duration::from_secs(1));
            if is_new {
                (self.notes)(&note);
                *noted = Some((note, Instant::now()));
            }
        }
        self.sleep(wait.time)
    }

    /// Sends a request until it succeeds or another try is useless.
    pub fn send(&self, request: &Request) -> Result<Answer, Failure> {
        let mut retries = RetryPolicy::new();
        loop {
            match self.once(request) {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.wait(retries.after(failure)?)?,
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub fn read(&self, request: &Request) -> Result<Vec<u8>, Failure> {
        self.read_before(request, Instant::now() + ANSWER_TIME).map(|(_, bytes)| bytes)
    }

    /// The headers and the body of an answer that has to be complete before `deadline`, retries included.
    pub fn read_before(&self, request: &Request, deadline: Instant) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let mut retries = RetryPolicy::new();
        loop {
            let failure = match self.once(request).and_then(|answer| self.whole(answer, deadline)) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait(retries.within(failure, left)?)?;
        }
    }

    /// Reads the whole body of an answer.
    pub fn bytes(&self, answer: Answer) -> Result<Vec<u8>, Failure> {
        self.whole(answer, Instant::now() + ANSWER_TIME).map(|(_, bytes)| bytes)
    }

    fn whole(&self, answer: Answer, deadline: Instant) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let bytes = body::read(answer.body, body::MAX_ANSWER, deadline, &|| self.stopped())?;
        Ok((answer.headers, bytes))
    }

    /// Sends a request once; follows redirects.
    pub fn once(&self, request: &Request) -> Result<Answer, Failure> {
        let mut url = request.url.to_owned();
        for _ in 0..MAX_REDIRECTS {
            if self.stopped() {
                return Err(Failure::Stopped);
            }
            let sent = self.send_to(request, &url);
            let response = sent.map_err(|e| if self.stopped() { Failure::Stopped } else { e })?;
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            match status {
                200..=299 => return Ok(Answer { status, headers: parts.headers, body }),
                301 | 302 | 303 | 307 | 308 if request.method == "GET" || status >= 307 => {
                    let location = parts.headers.get("location").and_then(|l| l.to_str().ok());
                    let next = location
                        .and_then(|l| resolve(&url, l))
                        .ok_or_else(|| Failure::Answer("a redirect without a usable address".into()))?;
                    if next == url {
                        return Err(Failure::Answer("a redirect to itself".into()));
                    }
                    url = next;
                }
                _ => {
                    let refusal = body::refusal(status, &parts.headers, body, &|| self.stopped());
                    return Err(Failure::Status(refusal));
                }
            }
        }
        Err(Failure::Answer(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn send_to(&self, request: &Request, url: &str) -> Result<http::Response<Body>, Failure> {
        let mut builder = http::Request::builder().method(request.method).uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        // Signed addresses on other hosts need no token, and those hosts must not see it.
        if let Some(token) = self.token.as_ref().filter(|_| self.is_own(url)) {
            builder = builder.header("authorization", token.bearer());
        }
        let invalid = |e: http::Error| Failure::Answer(format!("an invalid address: {e}"));
        let sent = match &request.payload {
            Payload::None => self.agent.run(builder.body(SendBody::none()).map_err(invalid)?),
            Payload::Bytes(bytes, kind) => {
                let builder = builder.header("content-type", *kind).header("content-length", bytes.len());
                let mut reader = *bytes;
                self.agent.run(builder.body(SendBody::from_reader(&mut reader)).map_err(invalid)?)
            }
            Payload::Stream(length, open) => {
                let mut reader = open();
                let builder = builder.header("content-length", *length);
                self.agent.run(builder.body(SendBody::from_reader(&mut reader)).map_err(invalid)?)
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

/// Starts a thread that ends every wait for the network as soon as the user wants to stop.
fn end_waits_on_stop(agent: Agent, stop: Stop, alive: Weak<()>) {
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
