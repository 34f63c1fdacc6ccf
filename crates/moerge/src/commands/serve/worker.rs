//! The thread that owns the model: it answers one request after the other, in the order in which they came.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use moerge_core::progress::{Progress, Stage};
use moerge_infer::{
    generate::{ChatTemplate, Conversation, Generator, Limits, Piece, Sampler, answer},
    tokenizer::Tokenizer,
};
use tokio::sync::{
    Semaphore,
    mpsc::{Receiver, Sender, channel, error::TrySendError},
};

use super::{
    api_error::ApiError,
    event::{Event, Reason, Token, Usage},
    logprobs::Logprobs,
    request::{Prompt, Request},
    stop_strings::StopStrings,
};
use crate::{commands::running::Loaded, interrupt};

/// Maximum number of requests that wait for their turn.
const WAITING: usize = 256;
/// Events of an answer that wait for a slow client. A client that reads nothing for [`CLIENT_TIMEOUT`] after that is disconnected.
const EVENTS: usize = 1024;
/// How long the model waits for a client that does not read.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// An upper bound of the bytes of a token. Longer prompts cannot fit the context and are refused without tokenizing.
const TOKEN_BYTES: usize = 128;
/// Prompts that are tokenized at the same time.
const TOKENIZING: usize = 2;

/// The way to the thread that owns the model.
#[derive(Clone)]
pub struct Worker {
    jobs: Sender<Job>,
    texts: Arc<Texts>,
    tokenizing: Arc<Semaphore>,
    /// Whether the model has a chat template.
    pub has_template: bool,
}

/// A request that waits, with the tokens of its prompts. The client has gone where `to` is closed.
struct Job {
    request: Request,
    prompts: Vec<Vec<u32>>,
    to: Sender<Event>,
}

/// What prompts are tokenized with.
struct Texts {
    loaded: Arc<Loaded>,
    template: Option<ChatTemplate>,
}

impl Worker {
    /// Starts the thread. It ends with the last `Worker`.
    pub fn start(loaded: Arc<Loaded>) -> anyhow::Result<Self> {
        let template = ChatTemplate::open(loaded.model.storage.as_ref(), &loaded.model.dir)?;
        let has_template = template.is_some();
        let (jobs, waiting) = channel(WAITING);
        let texts = Arc::new(Texts { loaded: Arc::clone(&loaded), template });
        thread::Builder::new().name("model".into()).spawn(move || work(&loaded, waiting))?;
        Ok(Self { jobs, texts, tokenizing: Arc::new(Semaphore::new(TOKENIZING)), has_template })
    }

    /// Tokenizes the prompts and queues the request. Its events arrive on the receiver; dropping that ends the work.
    pub async fn ask(&self, request: Request) -> Result<Receiver<Event>, ApiError> {
        // Off the model's thread, and dropped with the client that waits for it.
        let _turn = self.tokenizing.acquire().await.map_err(|_| ApiError::internal("the server is being stopped"))?;
        let texts = Arc::clone(&self.texts);
        let tokenized = tokio::task::spawn_blocking(move || {
            let prompts = request.prompts.iter().map(|p| texts.tokens(p)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, ApiError>((request, prompts))
        });
        let (request, prompts) = tokenized
            .await
            .map_err(|_| ApiError::internal("tokenizing the prompt failed: this is a bug in moerge"))??;
        let (to, events) = channel(EVENTS);
        self.jobs.try_send(Job { request, prompts, to }).map_err(|error| match error {
            TrySendError::Full(_) => {
                let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
                ApiError::new(status, "overloaded", format!("{WAITING} requests wait already: try again later"))
            }
            TrySendError::Closed(_) => {
                ApiError::internal("the thread that runs the model has ended: restart the server")
            }
        })?;
        Ok(events)
    }
}

impl Texts {
    /// The tokens of a prompt, checked.
    fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, ApiError> {
        let (tokenizer, context) = (&self.loaded.model.tokenizer, self.loaded.context);
        let bytes = match prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(_) => 0,
            Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
        };
        if bytes > context.saturating_mul(TOKEN_BYTES) {
            let what = format!("the prompt has {bytes} bytes, more than fit into a context of {context} tokens");
            return Err(ApiError::request(what));
        }
        let tokens = match (prompt, &self.template) {
            (Prompt::Text(text), _) => tokenizer.encode(text)?,
            (Prompt::Tokens(tokens), _) => tokens.clone(),
            (Prompt::Chat(messages), Some(template)) => {
                let text = template.render(&Conversation::new(messages), context, &UntilInterrupted)?;
                tokenizer.encode_rendered(&text)?
            }
            (Prompt::Chat(messages), None) => {
                tokenizer.encode(&messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n"))?
            }
        };
        let vocabulary = self.loaded.resident.options().vocabulary;
        if let Some(token) = tokens.iter().find(|t| **t as usize >= vocabulary) {
            return Err(ApiError::request(format!("token {token}: the model's vocabulary has {vocabulary} tokens")));
        }
        if tokens.len() > context {
            return Err(ApiError::too_long(tokens.len(), context));
        }
        if tokens.is_empty() {
            return Err(ApiError::request("the prompt has no tokens"));
        }
        Ok(tokens)
    }
}

fn work(loaded: &Loaded, mut waiting: Receiver<Job>) {
    // Kept from request to request: the turns of a conversation begin alike.
    let mut generator = Generator::new(&loaded.resident, loaded.context);
    while let Some(Job { request, prompts, to }) = waiting.blocking_recv() {
        if to.is_closed() {
            continue;
        }
        let client = Client { to: &to };
        let turn = Turn { loaded, request: &request, client: &client, generator: &mut generator };
        let last = match catch_unwind(AssertUnwindSafe(|| turn.run(&prompts))) {
            Ok(Ok(usage)) => Event::Done(usage),
            Ok(Err(error)) => Event::Failed(error),
            Err(_) => {
                // Whatever the generator was in the middle of is gone with it; the next request starts afresh.
                generator = Generator::new(&loaded.resident, loaded.context);
                Event::Failed(ApiError::internal("the model failed on this request: this is a bug in moerge"))
            }
        };
        client.send(last);
    }
}

/// The client that an answer goes to.
struct Client<'a> {
    to: &'a Sender<Event>,
}

impl Client<'_> {
    /// Hands an event over, waiting for a slow client for a while. [`Client::has_gone`] says
    /// whether it is still connected.
    fn send(&self, mut event: Event) {
        let since = Instant::now();
        loop {
            match self.to.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(back)) if since.elapsed() < CLIENT_TIMEOUT && !interrupt::requested() => {
                    event = back
                }
                Err(TrySendError::Full(_)) => return,
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether nobody reads any more.
    fn has_gone(&self) -> bool {
        self.to.is_closed() || self.to.capacity() == 0
    }
}

/// A request whose turn has come.
struct Turn<'w, 'm> {
    loaded: &'m Loaded,
    request: &'w Request,
    client: &'w Client<'w>,
    generator: &'w mut Generator<'m>,
}

impl<'m> Turn<'_, 'm> {
    fn run(mut self, prompts: &[Vec<u32>]) -> Result<Usage, ApiError> {
        #[cfg(debug_assertions)]
        panic_if_asked(self.request);
        self.client.send(Event::Begin);
        let mut usage = Usage { prompt: prompts.iter().map(Vec::len).sum(), completion: 0 };
        for (choice, prompt) in prompts.iter().enumerate() {
            let echoed = if self.request.echo { self.echo(choice, prompt)? } else { 0 };
            let reason = self.answer(choice, prompt, echoed, &mut usage)?;
            self.client.send(Event::End { choice, reason });
        }
        Ok(usage)
    }

    /// Gives the prompt back, with its tokens' log probabilities where wanted; returns how many characters it has.
    fn echo(&mut self, choice: usize, prompt: &[u32]) -> Result<usize, ApiError> {
        let (tokenizer, client) = (self.tokenizer(), self.client);
        let send = |token| client.send(Event::Token { choice, token });
        let Some(top) = self.request.logprobs else {
            let text = match &self.request.prompts[choice] {
                Prompt::Text(text) => text.clone(),
                _ => tokenizer.decode(prompt)?,
            };
            let characters = text.chars().count();
            send(Token { text, ..Token::default() });
            return Ok(characters);
        };
        let mut logprobs = Logprobs::new(tokenizer, &[], 0, top);
        let mut tokens = prompt.iter();
        let mut next = |scores: &[f32]| -> moerge_core::Result<()> {
            if let Some(token) = tokens.next() {
                let (text, scored) = logprobs.push(*token, scores)?;
                send(Token { text, scored: Some(scored), routes: None });
            }
            Ok(())
        };
        next(&[])?;
        self.generator.set_scored(prompt, &Listening { client }, &mut next)?;
        Ok(logprobs.characters())
    }

    /// Generates the text that follows `prompt`, of which `echoed` characters have been given back.
    fn answer(&mut self, choice: usize, prompt: &[u32], echoed: usize, usage: &mut Usage) -> Result<Reason, ApiError> {
        if self.request.max_tokens == 0 {
            return Ok(Reason::Length);
        }
        let (request, client, tokenizer) = (self.request, self.client, self.tokenizer());
        let stop = &self.loaded.generation.stop;
        let mut logprobs = request.logprobs.map(|top| Logprobs::new(tokenizer, prompt, echoed, top));
        let mut texts = StopStrings::new(request.stop.clone());
        let send =
            |tokens: Vec<Token>| tokens.into_iter().for_each(|token| client.send(Event::Token { choice, token }));
        let mut failure = None;
        let mut reason = Reason::Length;
        let mut piece = |piece: Piece<'_>| {
            usage.completion += 1;
            let ends = stop.contains(&piece.token);
            let scored = logprobs.as_mut().map(|l| l.push(piece.token, piece.scores)).transpose();
            let scored = match scored {
                Ok(scored) => scored.map(|(_, scored)| scored),
                Err(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            };
            if ends {
                // The token that ends the text is none of its words, but has a probability like all others.
                send(texts.finish());
                send(scored.map(|scored| Token { scored: Some(scored), ..Token::default() }).into_iter().collect());
                reason = Reason::Stop;
                return ControlFlow::Break(());
            }
            let routes = request.routes.then(|| piece.trace.by_expert(&self.loaded.slots).layers);
            let (clear, ended) = texts.push(Token { text: piece.text.to_owned(), scored, routes });
            send(clear);
            if ended {
                reason = Reason::Stop;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        // The tokens that end a text are looked for above.
        let limits = Limits { stop: Default::default(), tokens: request.max_tokens };
        let mut sampler = Sampler::new(request.sampling, choice as u64);
        if request.seeded {
            // A token computed alone, as in an answer, is rounded otherwise than one within a prompt.
            self.generator.clear();
        }
        answer(self.generator, tokenizer, prompt, &mut sampler, &limits, &Listening { client }, &mut piece)?;
        if reason == Reason::Length {
            send(texts.finish());
        }
        failure.map_or(Ok(reason), |error| Err(error.into()))
    }

    fn tokenizer(&self) -> &'m Tokenizer {
        &self.loaded.model.tokenizer
    }
}

/// The way for tests to see what happens after a panic; only in builds for development.
#[cfg(debug_assertions)]
fn panic_if_asked(request: &Request) {
    let asked = |prompt: &Prompt| matches!(prompt, Prompt::Text(text) if std::env::var("MOERGE_TEST_PANIC").as_ref() == Ok(text));
    assert!(!request.prompts.iter().any(asked), "a panic that a test asked for");
}

/// Ends a template when the server is to stop; its steps are bounded in any case.
struct UntilInterrupted;

impl Progress for UntilInterrupted {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

/// Ends the work when nobody listens any more.
struct Listening<'a> {
    client: &'a Client<'a>,
}

impl Progress for Listening<'_> {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}

    fn stop_requested(&self) -> bool {
        self.client.has_gone() || interrupt::requested()
    }
}
