//! `moerge serve`: the HTTP server. One worker thread owns the model; handlers talk to it by messages.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use super::running::{Loaded, ModelArgs, SamplingArgs};
use crate::{commands::command_line::wrong_usage, interrupt, progress::Reporter, terminal::one_line};

mod api_error;
mod bodies;
mod connections;
mod event;
mod guard;
mod logprobs;
mod page;
mod request;
mod response;
mod routes;
mod stop_strings;
mod worker;

/// Serve a model: a chat page in the browser, and OpenAI's API for programs
///
/// The page at / colours each word by the expert with the largest weight. The API has /v1/models, /v1/completions (with
/// echo and logprobs) and /v1/chat/completions. Requests are answered one at a time. Sampling options are defaults for
/// requests that omit them.
#[derive(Debug, clap::Args)]
#[command(mut_arg("seed", |seed| seed.help("Random seed; without it, every response gets a new one")))]
#[command(after_long_help = "\
Examples:
  moerge serve out
  moerge serve out --quant q4_k --port 9000
  MOERGE_API_KEY=... moerge serve out --host 0.0.0.0
  lm_eval --model local-completions --tasks arc_easy \\
    --model_args model=out,tokenizer=out,base_url=http://127.0.0.1:8080/v1/completions")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Address to listen on; serving other machines requires an API key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    host: IpAddr,
    /// Port; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Key that clients must send; prefer MOERGE_API_KEY, which other users of the machine cannot see
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How often to check whether the user wants to stop.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Serves until Ctrl-C.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, false, false);
    let guard = guard::Guard { key: key(args), loopback: args.host.is_loopback() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = SocketAddr::new(args.host, args.port);
    // Bind before loading the model, which takes long, so a port in use is reported at once.
    let listener = runtime.block_on(async { listen(address) }).map_err(|e| cannot_listen(address, &e))?;
    let address = listener.local_addr()?;
    let loaded = Arc::new(args.model.load(&reporter)?);
    let defaults = request::Defaults {
        sampling: args.sampling.sampling(&loaded.generation.sampling),
        max_tokens: args.sampling.max_tokens,
    };
    let worker = worker::Worker::start(Arc::clone(&loaded))?;
    let server = routes::Server {
        facts: facts(&loaded, &defaults, worker.has_template),
        worker,
        guard,
        model: name(&loaded.model.reference),
        defaults,
        fixed_seed: args.sampling.seed.is_some(),
        count: AtomicU64::new(0),
        bodies: bodies::Bodies::default(),
    };
    let mut out = anstream::stdout();
    writeln!(out, "serving {} at http://{address}", one_line(&server.model))?;
    out.flush()?;
    runtime.block_on(async {
        let serving = tokio::spawn(connections::serve(listener, routes::router(server)));
        while !interrupt::requested() && !serving.is_finished() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
        if serving.is_finished() { serving.await? } else { Ok(()) }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The API key from the command line or the environment. Serving other machines requires one.
fn key(args: &Args) -> Option<String> {
    let given = args.api_key.clone().or_else(|| std::env::var("MOERGE_API_KEY").ok());
    let key = given.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.is_none() && !args.host.is_loopback() {
        let what = "set MOERGE_API_KEY or --api-key; without --host, only this machine is served";
        wrong_usage("serve", &format!("listening at {} needs an API key: {what}", args.host));
    }
    key
}

/// Bytes of an answer that the system keeps for a client that does not read. With more, the model would go on for it.
const SEND_BUFFER: u32 = 64 << 10;

/// Listens at `address`; connections have a [`SEND_BUFFER`].
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As TcpListener::bind: on Windows it would let two programs listen at one address.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> moerge_core::Error {
    let refused = moerge_core::Error::new(moerge_core::ErrorKind::Io, format!("cannot listen at {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            refused.hint("another program uses the port: choose another one with --port, or 0 for any")
        }
        _ => refused,
    }
}

/// What the page wants to know about the model.
fn facts(loaded: &Loaded, defaults: &request::Defaults, has_template: bool) -> Value {
    let options = loaded.resident.options();
    let top_k = options.experts().map_or(0, |spec| spec.top_k);
    let name = |expert: usize| loaded.experts.get(expert).cloned().unwrap_or_else(|| format!("expert {expert}"));
    let sampling = defaults.sampling;
    json!({
        "experts": (0..loaded.slots.experts()).map(name).collect::<Vec<_>>(),
        "experts_per_token": top_k,
        "layers": options.layers.len(),
        "context": loaded.context,
        "chat_template": has_template,
        "defaults": {
            "temperature": rounded(sampling.temperature), "top_p": rounded(sampling.top_p), "top_k": sampling.top_k,
            "min_p": rounded(sampling.min_p), "repetition_penalty": rounded(sampling.repetition_penalty),
            "max_tokens": defaults.max_tokens,
        },
    })
}

/// 0.7 as a person writes it, not as f32 has it.
fn rounded(x: f32) -> f64 {
    (f64::from(x) * 1e5).round() / 1e5
}

/// What clients call the model: the last part of its name.
fn name(reference: &str) -> String {
    let reference = reference.trim_end_matches(['/', '\\']);
    let last = reference.rsplit(['/', '\\']).next().unwrap_or_default();
    if last.is_empty() || last == "." || last == ".." { "model".to_owned() } else { last.to_owned() }
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse().map_err(|_| "expected an address like 127.0.0.1 or 0.0.0.0".to_owned()),
    }
}
