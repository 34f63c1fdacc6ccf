//! Uploads a model folder: creates the repository, sends the large files, makes one commit, and checks what arrived.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::{
    FileHash, Hub,
    http::{Failure, Payload, Request, RetryPolicy, escaped},
    lfs::Object,
    listing::{is_commit, parse},
    local_files::{self, LocalFile},
};
use moerge_core::{
    error::{Error, ErrorKind, Result},
    model::locate::HubId,
    progress::Progress,
};

/// Files per preupload request.
const BATCH: usize = 256;

/// Options of a push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Whether a new repository is private.
    pub private: bool,
    /// The first line of the commit's message.
    pub message: String,
}

/// The result of a push.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Its address in a browser.
    pub url: String,
    /// The new commit, or the existing one if nothing changed.
    pub commit: String,
    /// Whether the Hub had all files already.
    pub unchanged: bool,
    /// Number of files in the folder.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// Bytes of large files sent.
    pub sent: u64,
}

/// A file, how the Hub stores it, and its hash.
struct Ready<'a> {
    file: &'a LocalFile,
    lfs: bool,
    hash: FileHash,
}

#[derive(Deserialize)]
struct WhoAmI {
    name: String,
    #[serde(default)]
    orgs: Vec<Organisation>,
}

#[derive(Deserialize)]
struct Organisation {
    name: String,
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadFile {
    path: String,
    upload_mode: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
}

impl Hub {
    /// Checks that this user may write to `id`, as far as the Hub says so in advance: before hours of work rather than after.
    ///
    /// # Errors
    /// There is no token or one of another owner, `id` has no owner, or the Hub cannot be reached.
    pub fn check_may_push(&self, id: &HubId) -> Result<()> {
        self.check_online_to_push(id)?;
        if self.settings.token.is_none() {
            return Err(Error::input(format!("cannot upload {}: the Hub needs a token", id.id)).hint(format!(
                "make a token with write access at {}/settings/tokens, then run `hf auth login` or set HF_TOKEN",
                self.settings.endpoint
            )));
        }
        let url = format!("{}/api/whoami-v2", self.settings.endpoint);
        let who = self.http.read(&Request::get(&url)).and_then(|bytes| parse::<WhoAmI>(&bytes));
        let who = who.map_err(|failure| self.error(self.subject(id, None, "upload"), failure))?;
        let owner = id.id.split('/').next().unwrap_or_default();
        let shown = |name: &str| self.http.redactor().clean(name);
        let theirs = who.orgs.iter().map(|o| o.name.as_str()).chain([who.name.as_str()]);
        if theirs.clone().any(|name| name == owner) {
            return Ok(());
        }
        let theirs: Vec<&str> = theirs.collect();
        Err(Error::input(format!("cannot upload {}: the token does not belong to {owner}", id.id))
            .fact(
                "may write to",
                theirs.iter().take(20).map(|n| format!("{}/...", shown(n))).collect::<Vec<_>>().join(", "),
            )
            .hint(format!("push to {}/{}", shown(&who.name), id.id.split('/').next_back().unwrap_or_default())))
    }

    fn check_online_to_push(&self, id: &HubId) -> Result<()> {
        if !id.has_owner() {
            return Err(Error::input(format!("`{}` is not a repository on the Hub", id.id)).hint("write user/name"));
        }
        if self.settings.offline {
            return Err(Error::input(format!("cannot upload {}: HF_HUB_OFFLINE forbids contacting the Hub", id.id))
                .hint("unset HF_HUB_OFFLINE"));
        }
        Ok(())
    }

    /// Uploads the files of `folder` to the repository `id`, on the branch that is its revision. Repository and branch are
    /// created if they do not exist. Other files in the repository stay.
    ///
    /// # Errors
    /// There is no token that may write, a file cannot be read, the Hub refuses a file or cannot be reached, or somebody else
    /// commits at the same time.
    pub fn push(&self, folder: &Path, id: &HubId, options: &PushOptions, progress: &dyn Progress) -> Result<Pushed> {
        self.check_may_push(id)?;
        let files = local_files::list(folder, progress)?;
        let failed = |failure| self.error(self.subject(id, None, "upload"), failure);
        self.create(id, options.private).map_err(failed)?;
        let large = self.preupload(id, &files).map_err(failed)?;
        let modes: Vec<(&LocalFile, bool)> = files.iter().map(|f| (f, large.get(&f.name) == Some(&true))).collect();
        let hashes = local_files::hashes(&modes, progress)?;
        let ready: Vec<Ready> =
            modes.into_iter().zip(hashes).map(|((file, lfs), hash)| Ready { file, lfs, hash }).collect();

        let head = self.commit_of(id).map_err(failed)?;
        let there = self.tree(id, &head).map_err(failed)?;
        let is_there = |r: &&Ready| there.iter().any(|f| f.name == r.file.name && f.hash == r.hash);
        let changed: Vec<&Ready> = ready.iter().filter(|r| !is_there(r)).collect();
        let pushed = |commit, unchanged, sent| Pushed {
            url: self.web_address(id),
            commit,
            unchanged,
            files: files.len(),
            bytes: files.iter().map(|f| f.size).fold(0, u64::saturating_add),
            sent,
        };
        if changed.is_empty() {
            return Ok(pushed(head, true, 0));
        }
        let objects: Vec<Object> =
            changed.iter().filter(|r| r.lfs).map(|r| Object { file: r.file, hash: &r.hash }).collect();
        let sent = self.send_objects(id, &id.revision, &objects, progress).map_err(failed)?;
        progress.check()?;
        let commit = self.commit(id, &head, &changed, &ready, &options.message)?;
        self.check_arrived(id, &commit, &ready)?;
        Ok(pushed(commit, false, sent))
    }

    fn web_address(&self, id: &HubId) -> String {
        let branch = if id.revision == "main" { String::new() } else { format!("/tree/{}", escaped(&id.revision)) };
        format!("{}/{}{branch}", self.settings.endpoint, id.id)
    }

    /// Creates the repository and the branch.
    fn create(&self, id: &HubId, private: bool) -> Result<(), Failure> {
        let (owner, name) = id.id.split_once('/').unwrap_or_default();
        let visibility = if private { "private" } else { "public" };
        let body = json!({
            "name": name, "organization": owner, "type": "model", "private": private, "visibility": visibility,
        });
        let url = format!("{}/api/repos/create", self.settings.endpoint);
        match self.http.read(&Request::post(&url, body.to_string().as_bytes())) {
            Ok(_) => {}
            Err(Failure::Status(refusal)) if refusal.status == 409 => {}
            // A token for one repository may write to it but create none.
            Err(Failure::Status(refusal)) if refusal.status == 403 => {
                let main = HubId { revision: "main".into(), ..id.clone() };
                self.commit_of(&main).map_err(|_| Failure::Status(refusal))?;
            }
            Err(failure) => return Err(failure),
        }
        if id.revision == "main" {
            return Ok(());
        }
        let url = format!("{}/api/models/{}/branch/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        match self.http.read(&Request::post(&url, b"{}")) {
            Err(Failure::Status(refusal)) if refusal.status == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Which files the Hub stores as large files rather than in git.
    fn preupload(&self, id: &HubId, files: &[LocalFile]) -> Result<BTreeMap<String, bool>, Failure> {
        let url = format!("{}/api/models/{}/preupload/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        let mut large = BTreeMap::new();
        for batch in files.chunks(BATCH) {
            let entry = |f: &LocalFile| json!({ "path": f.name, "size": f.size, "sample": STANDARD.encode(&f.sample) });
            let body = json!({ "files": batch.iter().map(entry).collect::<Vec<_>>() }).to_string();
            let bytes = self.http.read(&Request::post(&url, body.as_bytes()))?;
            let answer: Preupload = parse(&bytes)?;
            large.extend(answer.files.into_iter().map(|f| (f.path, f.upload_mode == "lfs")));
        }
        // The storage of large files refuses empty ones.
        for file in files.iter().filter(|f| f.size == 0) {
            large.insert(file.name.clone(), false);
        }
        Ok(large)
    }

    /// Commits all changes on top of `head`. If the answer is lost, no second commit is made: the branch has moved, and
    /// contains the files.
    fn commit(&self, id: &HubId, head: &str, changed: &[&Ready], all: &[Ready], message: &str) -> Result<String> {
        let failed = |failure| self.error(self.subject(id, None, "upload"), failure);
        let body = commit_body(head, changed, message)?;
        let url = format!("{}/api/models/{}/commit/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        let mut retries = RetryPolicy::new();
        loop {
            let payload = Payload::Bytes(&body, "application/x-ndjson");
            let request = Request { method: "POST", url: &url, headers: Vec::new(), payload };
            let failure = match self.http.once(&request).and_then(|a| self.http.bytes(a)).and_then(|b| committed(&b)) {
                Ok(commit) => return Ok(commit),
                Err(Failure::Stopped) => return Err(failed(Failure::Stopped)),
                Err(failure) => failure,
            };
            let moved = matches!(&failure, Failure::Status(r) if r.status == 409 || r.status == 412);
            if moved || matches!(failure, Failure::Network { .. } | Failure::Answer(_)) {
                let now = self.commit_of(id).map_err(failed)?;
                if now != head {
                    let arrived = self.check_arrived(id, &now, all);
                    return arrived
                        .map(|()| now)
                        .map_err(|e| e.hint("another commit was made at the same time; rerun the command"));
                }
            }
            let wait = retries.after(failure).map_err(failed)?;
            self.http.wait(wait).map_err(failed)?;
        }
    }

    /// Compares the files on the Hub with those of the folder.
    fn check_arrived(&self, id: &HubId, commit: &str, files: &[Ready]) -> Result<()> {
        let there = self.tree(id, commit).map_err(|failure| self.error(self.subject(id, None, "upload"), failure))?;
        for ready in files {
            let name = &ready.file.name;
            let found = there.iter().find(|f| f.name == *name);
            if found.is_none_or(|f| f.hash != ready.hash || f.size != ready.file.size) {
                let found = found.map_or("nothing".to_owned(), |f| format!("{} bytes, hash {}", f.size, f.hash));
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("{name} on {} differs from the file in the folder", id.id),
                )
                .fact("folder", format!("{} bytes, hash {}", ready.file.size, ready.hash))
                .fact("Hub", found)
                .hint("rerun the command; large files that arrived are not sent again"));
            }
        }
        Ok(())
    }
}

/// The commit in the answer to a commit request.
fn committed(answer: &[u8]) -> Result<String, Failure> {
    let commit = parse::<Committed>(answer)?.commit_oid;
    if is_commit(&commit) { Ok(commit) } else { Err(Failure::Answer("its answer names no commit".into())) }
}

/// The commit as JSON lines: a header, then one line per file.
fn commit_body(head: &str, changed: &[&Ready], message: &str) -> Result<Vec<u8>> {
    let header = json!({ "summary": message, "description": "", "parentCommit": head });
    let mut body = format!("{}\n", json!({ "key": "header", "value": header })).into_bytes();
    for ready in changed {
        let (file, name) = (ready.file, &ready.file.name);
        let line = if ready.lfs {
            let (oid, size) = (ready.hash.to_string(), file.size);
            json!({ "key": "lfsFile", "value": { "path": name, "algo": "sha256", "oid": oid, "size": size } })
        } else {
            let bytes = std::fs::read(&file.path).map_err(|e| Error::io("read", &file.path, &e))?;
            let content = STANDARD.encode(bytes);
            json!({ "key": "file", "value": { "content": content, "path": name, "encoding": "base64" } })
        };
        body.extend(format!("{line}\n").into_bytes());
    }
    Ok(body)
}
