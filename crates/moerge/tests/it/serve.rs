//! `moerge serve` as programs meet it: the real command, and a client over a plain socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::common::{command, example, golden, moerge, moerge_ok};
use moerge_checkpoint::{LocalStorage, ReadStorage};
use moerge_core::{model::locate::HubCache, progress::Silent};
use moerge_infer::{
    decoder::{Quantisation, ResidentModel},
    generate::Generator,
    model::Model,
};
use serde_json::{Value, json};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A running server; ended with the test.
pub struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    pub fn start(model: &Path, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut arguments = vec!["serve", model.to_str().unwrap(), "--port", "0", "--quant", "f32", "-j", "1"];
        arguments.extend(flags);
        let mut command = command(dir.path(), &arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Self::of(command, dir)
    }

    /// The server that `command` starts.
    fn of(mut command: std::process::Command, dir: tempfile::TempDir) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse();
        Self { child, port: port.unwrap_or_else(|_| panic!("no address in {line:?}")), _dir: dir }
    }

    /// Sends a request, and waits for nothing.
    fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|h| h.starts_with("Host:")) {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        if !headers.iter().any(|h| h.starts_with("Content-Length:")) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        Answer::read(self.send(method, path, headers, body))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &["Content-Type: application/json"], body.to_string().as_bytes())
    }

    pub fn complete(&self, body: &Value) -> Value {
        let answer = self.post("/v1/completions", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Self { status, head: head.to_owned(), body }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// Status, and type and code of the error.
    fn error(&self) -> (u16, String, String) {
        let error = self.json()["error"].clone();
        assert!(!error["message"].as_str().unwrap().is_empty());
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (self.status, text("type"), text("code"))
    }

    /// The events of a stream, which ends as it should.
    fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        assert!(self.head.contains("text/event-stream"), "{}", self.head);
        let mut lines: Vec<&str> = self.body.split("\n\n").filter(|l| !l.is_empty()).collect();
        assert_eq!(lines.pop(), Some("data: [DONE]"));
        lines.iter().map(|l| serde_json::from_str(l.strip_prefix("data: ").unwrap()).unwrap()).collect()
    }
}

/// The body out of its chunks: a length in hexadecimal, that many bytes, and so on.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole += &rest[..length];
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

fn base() -> PathBuf {
    example("tiny/base")
}

fn text(choice: &Value) -> &str {
    choice["text"].as_str().unwrap()
}

#[test]
fn models_and_page() {
    let server = Server::start(&golden("mixtral"), &[]);
    let models = server.get("/v1/models").json();
    let name = models["data"][0]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/models/{name}")).json()["id"], models["data"][0]["id"]);
    assert_eq!(server.get("/v1/models/another").status, 404);
    assert_eq!(models["data"][0]["id"], "mixtral");
    assert_eq!(models["data"][0]["moerge"]["experts"][1], "expert 1");
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let head = page.head.to_lowercase();
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{head}");
    assert!(!head.contains("access-control"), "{head}");
    assert!(page.body.starts_with("<!doctype html>"));
}

#[test]
fn greedy_completions_are_those_of_generate() {
    let (server, prompt) = (Server::start(&base(), &[]), "def add(a, b):");
    let dir = tempfile::tempdir().unwrap();
    let model = base();
    let flags = ["--temperature", "0", "-n", "24", "-q", "--quant", "f32", "-p", prompt];
    let arguments = [&["generate", model.to_str().unwrap()], &flags[..]].concat();
    let expected = String::from_utf8(moerge_ok(dir.path(), &arguments).stdout).unwrap();
    let expected = expected.strip_suffix('\n').unwrap();

    let body = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0});
    let whole = server.complete(&body);
    assert_eq!(text(&whole["choices"][0]), expected);
    assert_eq!(whole["usage"]["completion_tokens"], 24);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.post("/v1/completions", &streamed).events();
    let (usage, pieces) = events.split_last().unwrap();
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    assert_eq!(pieces.iter().map(|e| text(&e["choices"][0])).collect::<String>(), expected);

    let mut stopped = body.clone();
    let stop = &expected[expected.len() / 2..][..3];
    stopped["stop"] = json!([stop]);
    let stopped = server.complete(&stopped);
    assert_eq!(text(&stopped["choices"][0]), &expected[..expected.find(stop).unwrap()]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");

    let several = server.complete(&json!({"prompt": ["a b", prompt], "max_tokens": 24, "temperature": 0}));
    assert_eq!(text(&several["choices"][1]), expected);

    let seeded = |seed: u64| {
        let answer = server.complete(&json!({"prompt": prompt, "max_tokens": 24, "temperature": 1.5, "seed": seed}));
        text(&answer["choices"][0]).to_owned()
    };
    assert_eq!(seeded(1), seeded(1));
    // What stands in the cache was computed token by token, and rounded so.
    let long = |prompt: &str| {
        let body = json!({"prompt": prompt, "max_tokens": 4, "temperature": 1.5, "seed": 3, "logprobs": 1});
        server.complete(&body)["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    let said = server.complete(&json!({"prompt": prompt, "max_tokens": 40, "temperature": 0}));
    let continued = format!("{prompt}{}", text(&said["choices"][0]));
    seeded(1);
    let before = long(&continued);
    server.complete(&json!({"prompt": prompt, "max_tokens": 40, "temperature": 0}));
    assert_eq!(long(&continued), before);
    assert_ne!(seeded(1), seeded(2));
}

/// What `lm_eval --model local-completions` asks for.
#[test]
fn echoed_prompts_have_the_log_probabilities_of_the_library() {
    let server = Server::start(&base(), &[]);
    let storage: Arc<dyn ReadStorage> = Arc::new(LocalStorage);
    let reference = base().display().to_string();
    let model = Model::open(&storage, &reference, Path::new("."), &HubCache::from_env()).unwrap();
    let resident = ResidentModel::load(model.weights().unwrap().as_ref(), Quantisation::F32, &Silent).unwrap();
    let prompt = "And it came to pass in those days, that the king sent messengers.";
    let tokens = model.tokenizer.encode(prompt).unwrap();
    let mut generator = Generator::new(&resident, 512);
    let (mut expected, mut greedy) = (vec![], vec![]);
    for (at, token) in tokens.iter().enumerate().skip(1) {
        generator.set(&tokens[..at], &mut (), &Silent).unwrap();
        let scores = generator.scores();
        let sum: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
        expected.push(f64::from(scores[*token as usize]) - sum.ln());
        greedy.push(scores.iter().all(|s| *s <= scores[*token as usize]));
    }

    for prompt in [json!(prompt), json!([tokens])] {
        let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0});
        let choice = server.complete(&body)["choices"][0].clone();
        let logprobs = &choice["logprobs"];
        let found: Vec<Option<f64>> =
            logprobs["token_logprobs"].as_array().unwrap().iter().map(Value::as_f64).collect();
        assert_eq!((found.len(), found[0]), (tokens.len() + 1, None));
        for (index, (found, expected)) in found[1..].iter().zip(&expected).enumerate() {
            assert!((found.unwrap() - expected).abs() < 1e-4, "{index}: {found:?}, expected {expected}");
            let top = logprobs["top_logprobs"][index + 1].as_object().unwrap();
            let best = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(best <= found.unwrap(), greedy[index], "{index}");
        }
        let pieces: Vec<&str> = logprobs["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        let offset = |index: usize| logprobs["text_offset"][index].as_u64().unwrap() as usize;
        for (index, piece) in pieces.iter().enumerate().filter(|(_, p)| !p.starts_with('<')) {
            let at: String = text(&choice).chars().skip(offset(index)).collect();
            assert!(at.starts_with(piece), "{index}: {piece:?} at {at:?}");
        }
    }
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 5, "max_tokens": 0});
    let whole = server.complete(&body);
    assert_eq!(text(&whole["choices"][0]), prompt);
    assert_eq!(whole["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), tokens.len());
    assert_eq!(whole["usage"]["completion_tokens"], 0);
}

#[test]
fn chats_stream_with_their_experts() {
    let server = Server::start(&golden("mixtral"), &[]);
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "sort the list"}]}]);
    let mut body = json!({"messages": messages, "max_tokens": 12, "temperature": 0});
    let whole = server.post("/v1/chat/completions", &body).json();
    let expected = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(!expected.is_empty());

    body["stream"] = true.into();
    body["moerge_routes"] = true.into();
    let events = server.post("/v1/chat/completions", &body).events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, expected);
    assert!(events.last().unwrap()["choices"][0]["finish_reason"].is_string());
    let layers = server.get("/v1/models").json()["data"][0]["moerge"]["layers"].as_u64().unwrap();
    let routed: Vec<&Value> = events.iter().map(|e| &e["moerge"]["experts"]).filter(|e| !e.is_null()).collect();
    assert!(!routed.is_empty());
    for experts in routed {
        assert_eq!(experts.as_array().unwrap().len() as u64, layers);
        let weights: f64 = experts[0].as_array().unwrap().iter().map(|pair| pair[1].as_f64().unwrap()).sum();
        assert!((weights - 1.0).abs() < 1e-3, "{experts}");
    }

    let body = json!({"messages": messages, "max_tokens": 2, "temperature": 0, "logprobs": true, "top_logprobs": 2});
    let scored = server.post("/v1/chat/completions", &body).json();
    let content = scored["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(content[0]["logprob"], content[0]["top_logprobs"][0]["logprob"]);
}

#[test]
fn what_cannot_be_answered_gets_a_clear_error() {
    let server = Server::start(&golden("mixtral"), &["--context", "64"]);
    let invalid = |status, code: &str| (status, "invalid_request_error".to_owned(), code.to_owned());
    for path in ["/v1/completions", "/v1/chat/completions"] {
        for body in ["{\"prompt\": ", "", "[]", "\u{0}", r#"{"prompt": {}, "messages": {}}"#] {
            assert_eq!(server.ask("POST", path, &[], body.as_bytes()).error(), invalid(400, ""), "{path} {body:?}");
        }
        assert_eq!(server.ask("POST", path, &["Content-Length: 9000000"], b"{").error().0, 413);
        assert_eq!(server.get(path).error(), invalid(405, "method_not_allowed"));
    }
    let long = json!({"prompt": "the list ".repeat(100)});
    assert_eq!(server.post("/v1/completions", &long).error(), invalid(400, "context_length_exceeded"));
    assert_eq!(server.post("/v1/completions", &json!({"prompt": [1_000_000]})).error(), invalid(400, ""));
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "a", "temperature": "x"})).error(), invalid(400, ""));
    assert_eq!(server.get("/v1/nothing").error(), invalid(404, "not_found"));
    let foreign = [["Host: evil.example"], ["Origin: https://evil.example"]];
    for headers in foreign {
        assert_eq!(server.ask("GET", "/v1/models", &headers, b"").error().0, 403, "{headers:?}");
    }
    assert_eq!(server.get("/v1/models").status, 200, "the server has survived");
}

#[test]
fn other_machines_need_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("mixtral");
    let refused = moerge(dir.path(), &["serve", model.to_str().unwrap(), "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("needs an API key"));

    let server = Server::start(&model, &["--api-key", "s3cret"]);
    let status = |headers: &[&str]| server.ask("GET", "/v1/models", headers, b"").status;
    assert_eq!(status(&["Authorization: Bearer s3cret"]), 200);
    assert_eq!((status(&[]), status(&["Authorization: Bearer wrong"])), (401, 401));
    let error = server.post("/v1/completions", &json!({"prompt": "a"})).error();
    assert_eq!(error, (401, "authentication_error".into(), "invalid_api_key".into()));
    assert_eq!(server.get("/").status, 200, "the page asks for the key");
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let server = Server::start(&golden("mixtral"), &[]);
    let answers: Vec<Value> = thread::scope(|scope| {
        let ask = |index: usize| {
            let server = &server;
            scope.spawn(move || {
                let body = json!({"prompt": [index + 3, 5], "max_tokens": 4, "temperature": 0, "echo": true});
                server.complete(&body)
            })
        };
        let asked: Vec<_> = (0..32).map(ask).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (index, answer) in answers.iter().enumerate() {
        let body = json!({"prompt": [index + 3, 5], "max_tokens": 4, "temperature": 0, "echo": true});
        assert_eq!(server.complete(&body)["choices"], answer["choices"], "each got its own answer");
    }
}

/// Work for many minutes, were it done.
fn endless(stream: bool) -> Value {
    json!({"prompt": vec!["a b c"; 1000], "max_tokens": 500, "temperature": 1.0, "stream": stream})
}

/// One request is answered, 256 wait, and one more is too many.
#[test]
fn a_full_queue_turns_away_and_loses_nobody() {
    let server = Server::start(&base(), &[]);
    let mut first = server.send("POST", "/v1/completions", &[], endless(true).to_string().as_bytes());
    first.read_exact(&mut [0; 20]).unwrap();
    let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
    let mut clients: Vec<TcpStream> =
        (0..257).map(|_| server.send("POST", "/v1/completions", &[], body.as_bytes())).collect();
    let answered = |client: &TcpStream| {
        client.set_nonblocking(true).unwrap();
        let found = client.peek(&mut [0]).is_ok();
        client.set_nonblocking(false).unwrap();
        found
    };
    let started = Instant::now();
    let refused = loop {
        if let Some(refused) = clients.iter().position(answered) {
            break Answer::read(clients.remove(refused));
        }
        assert!(started.elapsed() < TIMEOUT);
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(refused.error(), (503, "server_error".into(), "overloaded".into()));
    assert!(refused.head.to_lowercase().contains("retry-after: 5"), "{}", refused.head);
    assert!(!clients.iter().any(answered), "the others wait");
    drop(first);
    for client in clients {
        let answer = Answer::read(client);
        assert_eq!((answer.status, answer.json()["usage"]["completion_tokens"].as_u64()), (200, Some(1)));
    }
}

#[test]
fn a_client_that_leaves_frees_its_work() {
    let server = Server::start(&base(), &[]);
    let headers = ["Content-Type: application/json"];
    for stream in [true, false] {
        let mut client = server.send("POST", "/v1/completions", &headers, endless(stream).to_string().as_bytes());
        if stream {
            let mut first = [0; 20];
            client.read_exact(&mut first).unwrap();
            assert_eq!(&first[..15], b"HTTP/1.1 200 OK");
        } else {
            thread::sleep(Duration::from_millis(300));
        }
        drop(client);
        let started = Instant::now();
        server.complete(&json!({"prompt": "a", "max_tokens": 1}));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_it_at_once() {
    let mut server = Server::start(&base(), &[]);
    let mut client = server.send("POST", "/v1/completions", &[], endless(true).to_string().as_bytes());
    client.read_exact(&mut [0; 20]).unwrap();
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let started = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(5), "still running");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

/// Fault 15, attack A6: after a panic every request waited for ever.
#[test]
fn fault_15_attack_06_a_panic_on_one_request_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("mixtral");
    let arguments = ["serve", model.to_str().unwrap(), "--port", "0", "--quant", "f32", "-j", "1"];
    let mut command = command(dir.path(), &arguments);
    command.env("MOERGE_TEST_PANIC", "boom").stdout(Stdio::piped()).stderr(Stdio::null());
    let server = Server::of(command, dir);
    for _ in 0..3 {
        let broken = server.post("/v1/completions", &json!({"prompt": "boom", "max_tokens": 2}));
        assert_eq!(broken.status, 500);
        assert!(broken.json()["error"]["message"].as_str().unwrap().contains("bug in moerge"));
        server.complete(&json!({"prompt": "a b", "max_tokens": 2}));
    }
}

/// Attack A9: 8 MB were tokenized for a context of 512.
#[test]
fn attack_09_a_prompt_that_cannot_fit_is_refused_by_its_length() {
    let server = Server::start(&golden("mixtral"), &[]);
    let answer = server.post("/v1/completions", &json!({"prompt": "a ".repeat(1 << 21), "max_tokens": 2}));
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("more than fit into a context"));
}

/// Attack A9: 16 strings of 480 kB were searched for in every answer.
#[test]
fn attack_09_long_stop_strings_are_refused() {
    let server = Server::start(&golden("mixtral"), &[]);
    let answer = server.post("/v1/completions", &json!({"prompt": "a", "stop": vec!["x".repeat(480_000); 16]}));
    assert_eq!(answer.error(), (400, "invalid_request_error".into(), String::new()));
    assert!(answer.body.contains("`stop`") && answer.body.contains("at most 1024 bytes"), "{}", answer.body);
}

/// Resident memory of a process in MiB.
#[cfg(target_os = "linux")]
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Attack A10: what nobody read was computed all the same and kept, 723 MB after the client had left.
#[test]
#[cfg(target_os = "linux")]
fn attack_10_a_stream_that_nobody_reads_stops_and_frees_the_model() {
    let server = Server::start(&base(), &[]);
    let before = resident(&server);
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..2 {
        let mut body = endless(true);
        body["logprobs"] = 5.into();
        let mut client = server.send("POST", "/v1/completions", &[], body.to_string().as_bytes());
        client.read_exact(&mut [0; 20]).unwrap();
        clients.push(client);
    }
    // Each is given up after ten seconds without reading, and the next has its turn.
    let started = Instant::now();
    let answer = server.complete(&json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 100, "{grown} MiB");
}

/// Attack A11: half a body held a connection for ever, as half the headers did.
#[test]
fn attack_11_half_bodies_are_cut_off_and_others_get_in() {
    let server = Server::start(&golden("mixtral"), &[]);
    let head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{";
    let connect = |_| TcpStream::connect(("127.0.0.1", server.port)).ok();
    let mut clients: Vec<TcpStream> = (0..600).map_while(connect).collect();
    assert!(clients.len() > 500, "{}", clients.len());
    clients.iter_mut().for_each(|client| drop(client.write_all(head.as_bytes())));
    let started = Instant::now();
    assert_eq!(server.get("/v1/models").status, 200);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let answer = Answer::read(clients.remove(0));
    assert_eq!(answer.error(), (408, "invalid_request_error".into(), "request_timeout".into()));
    // A small request gets in while large ones are on their way.
    let large = head.replace("100000", "8000000");
    let mut clients: Vec<TcpStream> = (0..20).filter_map(connect).collect();
    clients.iter_mut().for_each(|client| drop(client.write_all(large.as_bytes())));
    let started = Instant::now();
    server.complete(&json!({"prompt": "a", "max_tokens": 1}));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// Attack A11: with few file handles, half-open connections kept everybody out for ever.
#[test]
#[cfg(target_os = "linux")]
fn attack_11_with_few_file_handles_half_open_connections_are_closed_and_others_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let model = golden("mixtral");
    let inner = command(dir.path(), &["serve", model.to_str().unwrap(), "--port", "0", "--quant", "f32", "-j", "1"]);
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=100").arg(inner.get_program()).args(inner.get_args()).current_dir(dir.path());
    limited.env("HF_HUB_OFFLINE", "1").stdout(Stdio::piped()).stderr(Stdio::null());
    let server = Server::of(limited, dir);
    let mut half_open = Vec::new();
    for _ in 0..150 {
        let Ok(mut client) = TcpStream::connect(("127.0.0.1", server.port)) else { break };
        let _ = client.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9");
        half_open.push(client);
    }
    assert!(half_open.len() > 100, "{}", half_open.len());
    assert_eq!(server.get("/v1/models").status, 200);
}

/// Attack A11: connections that say nothing kept others out.
#[test]
fn attack_11_connections_that_say_nothing_are_closed_and_others_get_in() {
    let server = Server::start(&golden("mixtral"), &[]);
    let silent: Vec<TcpStream> = (0..600).map_while(|_| TcpStream::connect(("127.0.0.1", server.port)).ok()).collect();
    assert!(silent.len() > 500, "{}", silent.len());
    assert_eq!(server.get("/v1/models").status, 200);
}

/// Attack A14: a host that begins like this machine's was taken; a path that is not UTF-8 was answered in text.
#[test]
fn attack_14_odd_hosts_and_paths_are_answered_in_json() {
    let server = Server::start(&golden("mixtral"), &[]);
    let answer = server.ask("GET", "/v1/models", &["Host: [::1]evil.example"], b"");
    assert_eq!(answer.status, 403);
    let answer = server.get("/v1/models/%ff");
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"]["message"].is_string());
}
