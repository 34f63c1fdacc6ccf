use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::running::{Loaded, ModelArgs, SamplingArgs};
use crate::{commands::command_line::wrong_usage, interrupt, progress::Reporter, terminal::harmless};

mod api_error;
mod connections;
mod event;
mod guard;
mod logprobs;
mod page;
mod request;
mod response;
mod routes;
mod stop_texts;
mod worker;

/// Serve a model: a web page to talk to it, and OpenAI's API for programs
///
/// The page at / colours each word by the expert that had most to say in it. Programs find /v1/models, /v1/completions
/// (with echo and logprobs) and /v1/chat/completions. Requests are answered one after the other. Sampling options are
/// what holds where a request says nothing.
#[derive(Debug, clap::Args)]
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
    /// Where to listen; others than this machine itself need an API key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    host: IpAddr,
    /// The port; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// The key that requests need; better given as MOERGE_API_KEY, which other users of the machine do not see
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// How often it is looked whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Serves until Ctrl-C.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(false, false, false);
    let guard = guard::Guard { key: key(args), loopback: args.host.is_loopback() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = SocketAddr::new(args.host, args.port);
    // Before the model is read, which takes long: a port that is taken is told at once.
    let listener = runtime.block_on(TcpListener::bind(address)).map_err(|e| cannot_listen(address, &e))?;
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
    };
    let mut out = anstream::stdout();
    writeln!(out, "serving {} at http://{address}", harmless(&server.model))?;
    out.flush()?;
    runtime.block_on(async {
        let serving = tokio::spawn(connections::serve(listener, routes::router(server)));
        while !interrupt::requested() && !serving.is_finished() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if serving.is_finished() { serving.await? } else { Ok(()) }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The API key of the command line or the environment; whoever serves other machines needs one.
fn key(args: &Args) -> Option<String> {
    let given = args.api_key.clone().or_else(|| std::env::var("MOERGE_API_KEY").ok());
    let key = given.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.is_none() && !args.host.is_loopback() {
        let what = "set MOERGE_API_KEY, or give --api-key; without --host only this machine is served";
        wrong_usage("serve", &format!("listening at {} needs an API key: {what}", args.host));
    }
    key
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> moerge_core::Error {
    let told = moerge_core::Error::new(moerge_core::ErrorKind::Io, format!("cannot listen at {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => told.hint("another program does: --port takes another one, 0 any"),
        _ => told,
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
