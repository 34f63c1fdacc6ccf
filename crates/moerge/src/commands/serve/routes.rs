//! The addresses of the server.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _},
    extract::{DefaultBodyLimit, Path, Request as HttpRequest, State, rejection::PathRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::{
    api_error::ApiError,
    bodies::Bodies,
    event::Event,
    guard::Guard,
    page,
    request::{Defaults, Request},
    response::{Choice, Endpoint, Head},
    worker::Worker,
};

/// What the server knows.
pub struct Server {
    pub worker: Worker,
    pub guard: Guard,
    /// The model as clients name it.
    pub model: String,
    /// What the page wants to know about it.
    pub facts: Value,
    pub defaults: Defaults,
    /// Whether requests without a seed get the default's, rather than one of their own.
    pub fixed_seed: bool,
    /// Requests so far.
    pub count: AtomicU64,
    pub bodies: Bodies,
}

/// All addresses.
pub fn router(server: Server) -> Router {
    let server = Arc::new(server);
    let api = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat_completions))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&server), with_body))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), with_key));
    let guarded = middleware::from_fn_with_state(Arc::clone(&server), from_here);
    Router::new()
        .merge(api)
        .route("/", get(|| async { page::response() }))
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            ApiError::new(status, "method_not_allowed", "this address does not take this method")
        })
        .layer(guarded)
        .with_state(server)
}

async fn from_here(State(server): State<Arc<Server>>, request: HttpRequest, next: Next) -> Response {
    match server.guard.check_source(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn with_key(State(server): State<Arc<Server>>, request: HttpRequest, next: Next) -> Response {
    match server.guard.check_key(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Reads the body within its bounds. Its part of the budget is free again when the answer begins.
async fn with_body(State(server): State<Arc<Server>>, request: HttpRequest, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length = length.or_else(|| request.body().is_end_stream().then_some(0));
    let (parts, body) = request.into_parts();
    // A client that waits for leave to send a body that is too large gets the answer at once.
    match server.bodies.read(body, length).await {
        Ok((bytes, _permit)) => next.run(HttpRequest::from_parts(parts, Body::from(bytes))).await,
        Err(error) => error.into_response(),
    }
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    sent(&json!({ "object": "list", "data": [described(&server)] }))
}

async fn model(State(server): State<Arc<Server>>, name: Result<Path<String>, PathRejection>) -> Response {
    if name.is_ok_and(|Path(name)| name == server.model) {
        return sent(&described(&server));
    }
    let message = format!("there is no such model here, only {}", server.model);
    ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).into_response()
}

fn described(server: &Server) -> Value {
    json!({ "id": server.model, "object": "model", "created": now(), "owned_by": "moerge", "moerge": server.facts })
}

async fn completions(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let request = Request::completion(&body, &server.defaults());
    server.answer(Endpoint::Completion, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn chat_completions(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let request = Request::chat(&body, &server.defaults());
    server.answer(Endpoint::Chat, request).await.unwrap_or_else(IntoResponse::into_response)
}

fn sent(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Server {
    /// Defaults for requests that omit a field.
    fn defaults(&self) -> Defaults {
        let mut defaults = self.defaults.clone();
        if !self.fixed_seed {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            defaults.sampling.seed = (time as u64) ^ self.count.load(Ordering::Relaxed).rotate_left(48);
        }
        defaults
    }

    /// Waits for the request's turn, and answers it.
    async fn answer(&self, kind: Endpoint, request: Result<Request, ApiError>) -> Result<Response, ApiError> {
        let request = request?;
        let prefix = if kind == Endpoint::Chat { "chatcmpl" } else { "cmpl" };
        let id = format!("{prefix}-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let head = Head { kind, id, model: self.model.clone(), created: now() };
        let (stream, usage, logprobs) = (request.stream, request.stream_usage, request.logprobs.is_some());
        let choices = request.prompts.len();
        let mut events = self.worker.ask(request).await?;
        if let Some(Event::Failed(error)) = events.recv().await {
            return Err(error);
        }
        if stream {
            let pending = head.first().map(|first| line(&first)).unwrap_or_default();
            return Ok(stream_of(Pieces { head, usage, events, pending, over: false }));
        }
        let mut choices: Vec<Choice> = (0..choices).map(|_| Choice::default()).collect();
        while let Some(event) = events.recv().await {
            match event {
                Event::Begin => {}
                Event::Token { choice, token } => {
                    if let Some(choice) = choices.get_mut(choice) {
                        choice.push(token);
                    }
                }
                Event::End { choice, reason } => {
                    if let Some(choice) = choices.get_mut(choice) {
                        choice.end(reason);
                    }
                }
                Event::Done(usage) => return Ok(sent(&head.whole(choices, logprobs, usage))),
                Event::Failed(error) => return Err(error),
            }
        }
        Err(broken())
    }
}

/// The events ended without a last one: the client did not read for too long.
fn broken() -> ApiError {
    ApiError::internal("the answer broke off")
}

fn stream_of(pieces: Pieces) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(pieces)).into_response()
}

/// An answer as server-sent events. Dropped with the connection, it ends the work.
struct Pieces {
    head: Head,
    /// Whether the counts of tokens are wanted.
    usage: bool,
    events: Receiver<Event>,
    /// What goes out before the next event.
    pending: String,
    over: bool,
}

impl Pieces {
    /// The lines that an event becomes.
    fn lines(&mut self, event: Option<Event>) -> String {
        match event {
            Some(Event::Begin) => String::new(),
            Some(Event::Token { choice, token }) => line(&self.head.piece(choice, token)),
            Some(Event::End { choice, reason }) => line(&self.head.end(choice, reason)),
            Some(Event::Done(usage)) => {
                self.over = true;
                let usage = if self.usage { line(&self.head.usage(usage)) } else { String::new() };
                usage + "data: [DONE]\n\n"
            }
            Some(Event::Failed(error)) => {
                self.over = true;
                line(&error.json())
            }
            None => {
                self.over = true;
                line(&broken().json())
            }
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if !self.pending.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.pending).into())));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match self.events.poll_recv(context) {
                Poll::Ready(event) => self.pending = self.lines(event),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn line(json: &Value) -> String {
    format!("data: {json}\n\n")
}
