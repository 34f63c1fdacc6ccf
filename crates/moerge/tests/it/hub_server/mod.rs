//! A small Hub on this machine that speaks the real one's HTTP routes (what huggingface_hub 2.4 asks, and what it is
//! answered): model info, tree, resolve with a redirect to another host for large files, ranges, ETags; creating
//! repositories, preupload, the LFS batch with parts, verify, commit. And it can be a bad line: cut connections, send
//! wrong bytes or lengths, be busy, say nothing.
#![allow(dead_code)]

mod reads;
mod repos;
mod wire;
mod writes;

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

pub use repos::{Repo, git_hash, sha256};
pub use wire::{Reply, Request};

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed after so many bytes of the body.
    CutAfter(u64),
    /// The body is another byte at this place, counted from its own start.
    FlipByte(u64),
    /// The body is so many bytes longer (or shorter) than the file, and the headers say so.
    Longer(i64),
    /// The range that was asked for is not heeded.
    WholeFile,
    /// The answer says that it is another range.
    OtherRange,
    /// This status, without a body.
    Status(u16),
    /// 429 with a Retry-After in seconds.
    Slow(u64),
    /// 403: access to a gated model was not granted.
    Gated,
    /// The login page of a captive portal.
    LoginPage,
    /// A listing with weights of an exabyte.
    Huge,
    /// A pause of this length.
    Silent(Duration),
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Logged {
    /// `GET`, ...
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Whether it came to the host of large files.
    pub cdn: bool,
    /// First byte that was asked for.
    pub from: u64,
    /// Bytes of the body that were sent.
    pub sent: u64,
    /// The Authorization header.
    pub authorization: Option<String>,
}

type Faults = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;
type Tampers = Box<dyn FnMut(&Request, &mut Reply) + Send>;

/// Everything the server knows.
pub struct State {
    /// Repositories by id.
    pub repos: Mutex<BTreeMap<String, Repo>>,
    /// Large objects by SHA-256.
    pub objects: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    /// Parts of uploads that are not complete, by object and number.
    pub parts: Mutex<BTreeMap<(String, usize), Vec<u8>>>,
    /// Token -> user. No token is known where this is empty; then anybody may write.
    pub users: Mutex<BTreeMap<String, String>>,
    /// Files on one page of a tree.
    pub page: Mutex<usize>,
    /// Bytes of a part of an upload; whole objects where it is 0.
    pub part_bytes: Mutex<usize>,
    faults: Mutex<Faults>,
    tampers: Mutex<Tampers>,
    log: Mutex<Vec<Logged>>,
    pub hub: String,
    pub cdn: String,
}

/// A running server; it ends with the process.
pub struct HubServer {
    pub state: Arc<State>,
}

impl HubServer {
    /// A server without repositories.
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// The same at an address.
    pub fn at(address: &str) -> Self {
        let (hub, cdn) = (TcpListener::bind(address).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let state = Arc::new(State {
            repos: Mutex::default(),
            objects: Mutex::default(),
            parts: Mutex::default(),
            users: Mutex::default(),
            page: Mutex::new(1000),
            part_bytes: Mutex::new(0),
            faults: Mutex::new(Box::new(|_| None)),
            tampers: Mutex::new(Box::new(|_, _| {})),
            log: Mutex::default(),
            hub: format!("http://127.0.0.1:{}", hub.local_addr().unwrap().port()),
            // Another name: clients tell hosts apart by their names.
            cdn: format!("http://localhost:{}", cdn.local_addr().unwrap().port()),
        });
        for (listener, is_cdn) in [(hub, false), (cdn, true)] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    thread::spawn(move || serve(&state, &stream, is_cdn));
                }
            });
        }
        Self { state }
    }

    /// What HF_ENDPOINT is to be.
    pub fn endpoint(&self) -> String {
        self.state.hub.clone()
    }

    /// Puts the files of a folder into a repository, as a new commit on main; the commit.
    pub fn add_folder(&self, id: &str, folder: &Path) -> String {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
        self.add(id, files)
    }

    /// Puts files into a repository, as a new commit on main; the commit.
    pub fn add(&self, id: &str, files: Vec<(String, Vec<u8>)>) -> String {
        let mut repos = lock(&self.state.repos);
        repos.entry(id.to_owned()).or_default().commit("main", files.into_iter().map(|(n, b)| (n, Arc::new(b))))
    }

    /// Puts files into the branch of a data set with its Parquet files.
    pub fn add_data_set(&self, id: &str, files: Vec<(String, Vec<u8>)>) {
        let mut repos = lock(&self.state.repos);
        let files = files.into_iter().map(|(name, bytes)| (name, Arc::new(bytes)));
        repos.entry(format!("datasets/{id}")).or_default().commit("refs/convert/parquet", files);
    }

    /// Changes a repository.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Repo)) {
        change(lock(&self.state.repos).get_mut(id).unwrap());
    }

    /// The files of a branch.
    pub fn files(&self, id: &str, branch: &str) -> BTreeMap<String, Arc<Vec<u8>>> {
        let repos = lock(&self.state.repos);
        let repo = &repos[id];
        repo.commits[&repo.branches[branch]].clone()
    }

    /// Lets a user in.
    pub fn add_user(&self, token: &str, name: &str) {
        lock(&self.state.users).insert(token.to_owned(), name.to_owned());
    }

    /// From now on, what goes wrong with each answer.
    pub fn faults(&self, faults: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *lock(&self.state.faults) = Box::new(faults);
    }

    /// From now on, changes each answer before it is sent.
    pub fn tampers(&self, tampers: impl FnMut(&Request, &mut Reply) + Send + 'static) {
        *lock(&self.state.tampers) = Box::new(tampers);
    }

    /// What was asked since the last call.
    pub fn log(&self) -> Vec<Logged> {
        std::mem::take(&mut lock(&self.state.log))
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(state: &State, stream: &TcpStream, is_cdn: bool) {
    let _ = stream.set_nodelay(true);
    let mut reader = std::io::BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader, is_cdn) {
        let fault = (lock(&state.faults))(&request);
        let mut reply = match fault {
            Some(Fault::Status(status)) => Reply::status(status),
            Some(Fault::Slow(seconds)) => Reply::status(429).with("Retry-After", &seconds.to_string()),
            Some(Fault::Gated) => Reply::refused(403, "GatedRepo", "Access to this model is restricted."),
            Some(Fault::LoginPage) => Reply { body: b"<html>log in</html>".to_vec(), ..Reply::status(200) },
            _ if is_cdn => reads::object(state, &request, fault),
            _ => route(state, &request, fault),
        };
        if fault == Some(Fault::Huge) {
            let mut entries: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            for entry in entries.as_array_mut().unwrap().iter_mut().filter(|e| !e["lfs"].is_null()) {
                entry["lfs"]["size"] = 1_000_000_000_000_000_000u64.into();
            }
            reply = Reply::json(&entries);
        }
        (lock(&state.tampers))(&request, &mut reply);
        if let Some(Fault::Silent(time)) = fault {
            thread::sleep(time);
        }
        let sent = reply.write(stream, &request, fault);
        lock(&state.log).push(Logged {
            method: request.method.clone(),
            target: request.target.clone(),
            cdn: is_cdn,
            from: request.range_start(),
            sent: sent.unwrap_or(0),
            authorization: request.header("authorization").map(str::to_owned),
        });
        if sent.is_none() || matches!(fault, Some(Fault::CutAfter(_))) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn route(state: &State, request: &Request, fault: Option<Fault>) -> Reply {
    if let Err(refused) = reads::user(state, request) {
        return refused;
    }
    let path = request.path();
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(wire::unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let id = |owner: &str, name: &str| format!("{owner}/{name}");
    let data_set = |owner: &str, name: &str| format!("datasets/{owner}/{name}");
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["api", "whoami-v2"]) => reads::whoami(state, request),
        ("GET", ["api", "models", owner, name]) => reads::info(state, request, &id(owner, name), "main"),
        ("GET", ["api", "models", owner, name, "revision", rev]) => reads::info(state, request, &id(owner, name), rev),
        ("GET", ["api", "models", owner, name, "tree", rev]) => reads::tree(state, request, &id(owner, name), rev),
        ("GET", ["api", "datasets", owner, name, "revision", rev]) => {
            reads::info(state, request, &data_set(owner, name), rev)
        }
        ("GET", ["api", "datasets", owner, name, "tree", rev]) => {
            reads::tree(state, request, &data_set(owner, name), rev)
        }
        ("GET" | "HEAD", ["datasets", owner, name, "resolve", rev, file @ ..]) => {
            reads::resolve(state, request, &data_set(owner, name), rev, &file.join("/"), fault)
        }
        ("POST", ["api", "models", owner, name, "paths-info", rev]) => {
            reads::paths_info(state, request, &id(owner, name), rev)
        }
        ("GET" | "HEAD", [owner, name, "resolve", rev, file]) => {
            reads::resolve(state, request, &id(owner, name), rev, file, fault)
        }
        ("POST", ["api", "repos", "create"]) => writes::create(state, request),
        ("POST", ["api", "models", owner, name, "branch", branch]) => {
            writes::branch(state, request, &id(owner, name), branch)
        }
        ("POST", ["api", "models", owner, name, "preupload", rev]) => {
            writes::preupload(state, request, &id(owner, name), rev)
        }
        ("POST", ["api", "models", owner, name, "commit", rev]) => {
            writes::commit(state, request, &id(owner, name), rev)
        }
        ("POST", [owner, name, "info", "lfs", "objects", "batch"]) => {
            writes::batch(state, request, &id(owner, name.trim_end_matches(".git")))
        }
        ("PUT", ["upload", oid, part]) => writes::part(state, request, oid, part),
        ("POST", ["complete", oid]) => writes::complete(state, request, oid),
        ("POST", ["verify"]) => writes::verify(state, request),
        _ => Reply::status(404),
    }
}
