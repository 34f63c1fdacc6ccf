//! The thread that owns the model: it answers one request after the other, in the order in which they came.

use std::{ops::ControlFlow, sync::Arc, thread};

use moerge_checkpoint::LocalStorage;
use moerge_core::progress::{Progress, Stage};
use moerge_infer::{
    generate::{ChatTemplate, Generator, Limits, Piece, Sampler, answer},
    tokenizer::Tokenizer,
};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};

use super::{
    api_error::ApiError,
    event::{Event, Reason, Token, Usage},
    logprobs::Logprobs,
    request::{Prompt, Request},
    stop_texts::StopTexts,
};
use crate::{commands::running::Loaded, interrupt};

/// Most requests that wait for their turn.
const WAITING: usize = 256;

/// The way to the thread that owns the model.
#[derive(Clone)]
pub struct Worker {
    jobs: Sender<Job>,
    /// Whether the model has a chat template.
    pub has_template: bool,
}

/// A request that waits. Whoever is to be told has gone away where `to` is closed.
struct Job {
    request: Request,
    to: UnboundedSender<Event>,
}

impl Worker {
    /// Starts the thread. It ends with the last `Worker`.
    pub fn start(loaded: Arc<Loaded>) -> anyhow::Result<Self> {
        let template = ChatTemplate::open(&LocalStorage, &loaded.model.dir)?;
        let has_template = template.is_some();
        let (jobs, waiting) = channel(WAITING);
        thread::Builder::new().name("model".into()).spawn(move || work(&loaded, template.as_ref(), waiting))?;
        Ok(Self { jobs, has_template })
    }

    /// Hands a request over. What is told about it comes out of the receiver; dropping that ends the work.
    pub fn ask(&self, request: Request) -> Result<UnboundedReceiver<Event>, ApiError> {
        let (to, events) = unbounded_channel();
        self.jobs.try_send(Job { request, to }).map_err(|_| {
            let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
            ApiError::new(status, "overloaded", format!("{WAITING} requests wait already: try again later"))
        })?;
        Ok(events)
    }
}

fn work(loaded: &Loaded, template: Option<&ChatTemplate>, mut waiting: Receiver<Job>) {
    // Kept from request to request: the turns of a conversation begin alike.
    let mut generator = Generator::new(&loaded.resident, loaded.context);
    while let Some(Job { request, to }) = waiting.blocking_recv() {
        if to.is_closed() {
            continue;
        }
        let turn = Turn { loaded, template, request: &request, to: &to, generator: &mut generator };
        let last = match turn.run() {
            Ok(usage) => Event::Done(usage),
            Err(error) => Event::Failed(error),
        };
        // Fails where the client has gone.
        let _ = to.send(last);
    }
}

/// A request whose turn has come.
struct Turn<'w, 'm> {
    loaded: &'m Loaded,
    template: Option<&'w ChatTemplate>,
    request: &'w Request,
    to: &'w UnboundedSender<Event>,
    generator: &'w mut Generator<'m>,
}

impl<'m> Turn<'_, 'm> {
    fn run(mut self) -> Result<Usage, ApiError> {
        let prompts = self.request.prompts.iter().map(|p| self.tokens(p)).collect::<Result<Vec<_>, _>>()?;
        self.tell(Event::Begin);
        let mut usage = Usage { prompt: prompts.iter().map(Vec::len).sum(), completion: 0 };
        for (choice, prompt) in prompts.iter().enumerate() {
            let echoed = if self.request.echo { self.echo(choice, prompt)? } else { 0 };
            let reason = self.answer(choice, prompt, echoed, &mut usage)?;
            self.tell(Event::End { choice, reason });
        }
        Ok(usage)
    }

    /// The tokens of a prompt, checked.
    fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, ApiError> {
        let tokenizer = self.tokenizer();
        let tokens = match (prompt, self.template) {
            (Prompt::Text(text), _) => tokenizer.encode(text)?,
            (Prompt::Tokens(tokens), _) => tokens.clone(),
            (Prompt::Chat(messages), Some(template)) => tokenizer.encode_rendered(&template.render(messages)?)?,
            (Prompt::Chat(messages), None) => {
                tokenizer.encode(&messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n"))?
            }
        };
        let vocabulary = self.loaded.resident.options().vocabulary;
        if let Some(token) = tokens.iter().find(|t| **t as usize >= vocabulary) {
            return Err(ApiError::request(format!("token {token}: the model's vocabulary has {vocabulary} tokens")));
        }
        if tokens.len() > self.loaded.context {
            return Err(ApiError::too_long(tokens.len(), self.loaded.context));
        }
        if tokens.is_empty() {
            return Err(ApiError::request("the prompt has no tokens"));
        }
        Ok(tokens)
    }

    /// Gives the prompt back, with its tokens' log probabilities where wanted; returns how many characters it has.
    fn echo(&mut self, choice: usize, prompt: &[u32]) -> Result<usize, ApiError> {
        let (tokenizer, to) = (self.tokenizer(), self.to);
        let tell = |token| drop(to.send(Event::Token { choice, token }));
        let Some(top) = self.request.logprobs else {
            let text = match &self.request.prompts[choice] {
                Prompt::Text(text) => text.clone(),
                _ => tokenizer.decode(prompt)?,
            };
            let characters = text.chars().count();
            tell(Token { text, ..Token::default() });
            return Ok(characters);
        };
        let mut logprobs = Logprobs::new(tokenizer, &[], 0, top);
        let mut tokens = prompt.iter();
        let mut next = |scores: &[f32]| -> moerge_core::Result<()> {
            if let Some(token) = tokens.next() {
                let (text, scored) = logprobs.push(*token, scores)?;
                tell(Token { text, scored: Some(scored), routes: None });
            }
            Ok(())
        };
        next(&[])?;
        self.generator.set_scored(prompt, &Listening { to }, &mut next)?;
        Ok(logprobs.characters())
    }

    /// Generates the text that follows `prompt`, of which `echoed` characters have been given back.
    fn answer(&mut self, choice: usize, prompt: &[u32], echoed: usize, usage: &mut Usage) -> Result<Reason, ApiError> {
        if self.request.max_tokens == 0 {
            return Ok(Reason::Length);
        }
        let (request, to, tokenizer) = (self.request, self.to, self.tokenizer());
        let stop = &self.loaded.generation.stop;
        let mut logprobs = request.logprobs.map(|top| Logprobs::new(tokenizer, prompt, echoed, top));
        let mut texts = StopTexts::new(request.stop.clone());
        let tell = |tokens: Vec<Token>| {
            for token in tokens {
                // Fails where the client has gone, which ends the answer soon.
                let _ = to.send(Event::Token { choice, token });
            }
        };
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
                tell(texts.finish());
                tell(scored.map(|scored| Token { scored: Some(scored), ..Token::default() }).into_iter().collect());
                reason = Reason::Stop;
                return ControlFlow::Break(());
            }
            let routes = request.routes.then(|| piece.trace.by_expert(&self.loaded.slots).layers);
            let (clear, ended) = texts.push(Token { text: piece.text.to_owned(), scored, routes });
            tell(clear);
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
        answer(self.generator, tokenizer, prompt, &mut sampler, &limits, &Listening { to }, &mut piece)?;
        if reason == Reason::Length {
            tell(texts.finish());
        }
        failure.map_or(Ok(reason), |error| Err(error.into()))
    }

    fn tokenizer(&self) -> &'m Tokenizer {
        &self.loaded.model.tokenizer
    }

    fn tell(&self, event: Event) {
        // Fails where the client has gone, which ends the work soon.
        let _ = self.to.send(event);
    }
}

/// Ends the work when nobody listens any more.
struct Listening<'a> {
    to: &'a UnboundedSender<Event>,
}

impl Progress for Listening<'_> {
    fn start(&self, _: Stage, _: u64, _: u64) {}
    fn advance(&self, _: Stage, _: u64) {}
    fn finish(&self, _: Stage, _: &str) {}

    fn stop_requested(&self) -> bool {
        self.to.is_closed() || interrupt::requested()
    }
}
