//! A model folder to the Hub: the repository, the large files, one commit, and a look at what arrived.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::{
    FileHash, Hub,
    http::{Ask, Failure, Patience, Payload, escaped},
    lfs::Object,
    listing::parse,
    local_files::{self, LocalFile},
};
use moerge_core::{
    error::{Error, ErrorKind, Result},
    model::locate::HubId,
    progress::Progress,
};

/// Files that are asked about at once.
const BATCH: usize = 256;

/// What the user sets of a push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// Whether a repository that is made is seen by its owner only.
    pub private: bool,
    /// The first line of the commit's message.
    pub message: String,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// Where a browser finds it.
    pub url: String,
    /// The commit; the one that was there where nothing had to be changed.
    pub commit: String,
    /// Whether the Hub had all of it already.
    pub unchanged: bool,
    /// Files of the folder.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of large files that were sent.
    pub sent: u64,
}

/// A file, how it is kept, and what its bytes hash to.
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
    /// Whether this user may write to `id`, as far as that can be told without doing it: before hours of work, not after.
    pub fn check_may_push(&self, id: &HubId) -> Result<()> {
        self.check_online_to_push(id)?;
        if self.settings.token.is_none() {
            return Err(Error::input(format!("cannot upload {}: the Hub wants to know who asks", id.id)).hint(
                format!(
                    "make a token that may write at {}/settings/tokens, then `hf auth login` or HF_TOKEN",
                    self.settings.endpoint
                ),
            ));
        }
        let url = format!("{}/api/whoami-v2", self.settings.endpoint);
        let who = self.http.read(&Ask::get(&url)).and_then(|bytes| parse::<WhoAmI>(&bytes));
        let who = who.map_err(|failure| self.subject(id, None, "upload").error(failure))?;
        let owner = id.id.split('/').next().unwrap_or_default();
        let theirs = who.orgs.iter().map(|o| o.name.as_str()).chain([who.name.as_str()]);
        if theirs.clone().any(|name| name == owner) {
            return Ok(());
        }
        let theirs: Vec<&str> = theirs.collect();
        Err(Error::input(format!("cannot upload {}: the token is not of {owner}", id.id))
            .fact("may write to", theirs.iter().map(|n| format!("{n}/...")).collect::<Vec<_>>().join(", "))
            .hint(format!("push to {}/{}", who.name, id.id.split('/').next_back().unwrap_or_default())))
    }

    fn check_online_to_push(&self, id: &HubId) -> Result<()> {
        if !id.has_owner() {
            return Err(Error::input(format!("`{}` is not a place on the Hub", id.id)).hint("write user/name"));
        }
        if self.settings.offline {
            return Err(Error::input(format!("cannot upload {}: HF_HUB_OFFLINE says not to ask the Hub", id.id))
                .hint("unset HF_HUB_OFFLINE"));
        }
        Ok(())
    }

    /// Puts the files of `folder` into the repository `id`, on the branch that is its revision. Both are made if they are
    /// not there. Other files in the repository stay.
    pub fn push(&self, folder: &Path, id: &HubId, options: &PushOptions, progress: &dyn Progress) -> Result<Pushed> {
        self.check_may_push(id)?;
        let files = local_files::list(folder, progress)?;
        let told = |failure| self.subject(id, None, "upload").error(failure);
        self.create(id, options.private).map_err(told)?;
        let large = self.preupload(id, &files).map_err(told)?;
        let modes: Vec<(&LocalFile, bool)> = files.iter().map(|f| (f, large.get(&f.name) == Some(&true))).collect();
        let hashes = local_files::hashes(&modes, progress)?;
        let ready: Vec<Ready> =
            modes.into_iter().zip(hashes).map(|((file, lfs), hash)| Ready { file, lfs, hash }).collect();

        let head = self.commit_of(id).map_err(told)?;
        let there = self.tree(id, &head).map_err(told)?;
        let is_there = |r: &&Ready| there.iter().any(|f| f.name == r.file.name && f.hash == r.hash);
        let changed: Vec<&Ready> = ready.iter().filter(|r| !is_there(r)).collect();
        let pushed = |commit, unchanged, sent| Pushed {
            url: self.web_address(id),
            commit,
            unchanged,
            files: files.len(),
            bytes: files.iter().map(|f| f.size).sum(),
            sent,
        };
        if changed.is_empty() {
            return Ok(pushed(head, true, 0));
        }
        let objects: Vec<Object> =
            changed.iter().filter(|r| r.lfs).map(|r| Object { file: r.file, hash: &r.hash }).collect();
        let sent = self.send_objects(id, &id.revision, &objects, progress).map_err(told)?;
        progress.check()?;
        let commit = self.commit(id, &head, &changed, &ready, &options.message)?;
        self.check_arrived(id, &commit, &ready)?;
        Ok(pushed(commit, false, sent))
    }

    fn web_address(&self, id: &HubId) -> String {
        let branch = if id.revision == "main" { String::new() } else { format!("/tree/{}", escaped(&id.revision)) };
        format!("{}/{}{branch}", self.settings.endpoint, id.id)
    }

    /// Makes the repository and the branch.
    fn create(&self, id: &HubId, private: bool) -> Result<(), Failure> {
        let (owner, name) = id.id.split_once('/').unwrap_or_default();
        let visibility = if private { "private" } else { "public" };
        let body = json!({
            "name": name, "organization": owner, "type": "model", "private": private, "visibility": visibility,
        });
        let url = format!("{}/api/repos/create", self.settings.endpoint);
        match self.http.read(&Ask::post(&url, body.to_string().as_bytes())) {
            Ok(_) => {}
            Err(Failure::Status(refusal)) if refusal.status == 409 => {}
            // A token for one repository may write to it and make none.
            Err(Failure::Status(refusal)) if refusal.status == 403 => {
                let main = HubId { id: id.id.clone(), revision: "main".into() };
                self.commit_of(&main).map_err(|_| Failure::Status(refusal))?;
            }
            Err(failure) => return Err(failure),
        }
        if id.revision == "main" {
            return Ok(());
        }
        let url = format!("{}/api/models/{}/branch/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        match self.http.read(&Ask::post(&url, b"{}")) {
            Err(Failure::Status(refusal)) if refusal.status == 409 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Which files the Hub wants apart from git.
    fn preupload(&self, id: &HubId, files: &[LocalFile]) -> Result<BTreeMap<String, bool>, Failure> {
        let url = format!("{}/api/models/{}/preupload/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        let mut large = BTreeMap::new();
        for batch in files.chunks(BATCH) {
            let entry = |f: &LocalFile| json!({ "path": f.name, "size": f.size, "sample": STANDARD.encode(&f.sample) });
            let body = json!({ "files": batch.iter().map(entry).collect::<Vec<_>>() }).to_string();
            let bytes = self.http.read(&Ask::post(&url, body.as_bytes()))?;
            let answer: Preupload = parse(&bytes)?;
            large.extend(answer.files.into_iter().map(|f| (f.path, f.upload_mode == "lfs")));
        }
        // Storage takes no empty objects.
        for file in files.iter().filter(|f| f.size == 0) {
            large.insert(file.name.clone(), false);
        }
        Ok(large)
    }

    /// One commit of all changes upon `head`. An answer that is lost does not lead to a second one: the branch has moved
    /// then, and holds what was to be there.
    fn commit(&self, id: &HubId, head: &str, changed: &[&Ready], all: &[Ready], message: &str) -> Result<String> {
        let told = |failure| self.subject(id, None, "upload").error(failure);
        let body = commit_body(head, changed, message)?;
        let url = format!("{}/api/models/{}/commit/{}", self.settings.endpoint, id.id, escaped(&id.revision));
        let mut patience = Patience::new();
        loop {
            let payload = Payload::Bytes(&body, "application/x-ndjson");
            let ask = Ask { method: "POST", url: &url, headers: Vec::new(), payload };
            let failure = match self.http.once(&ask).and_then(|a| a.bytes()).and_then(|b| parse::<Committed>(&b)) {
                Ok(committed) => return Ok(committed.commit_oid),
                Err(Failure::Stopped) => return Err(told(Failure::Stopped)),
                Err(failure) => failure,
            };
            let moved = matches!(&failure, Failure::Status(r) if r.status == 409 || r.status == 412);
            if moved || matches!(failure, Failure::Network { .. } | Failure::Answer(_)) {
                let now = self.commit_of(id).map_err(told)?;
                if now != head {
                    let arrived = self.check_arrived(id, &now, all);
                    return arrived.map(|()| now).map_err(|e| {
                        e.hint("somebody else committed to it at the same time; run the same command again")
                    });
                }
            }
            let wait = patience.after(failure).map_err(told)?;
            self.http.wait(wait).map_err(told)?;
        }
    }

    /// Compares what the Hub has now with what was to be there.
    fn check_arrived(&self, id: &HubId, commit: &str, files: &[Ready]) -> Result<()> {
        let there = self.tree(id, commit).map_err(|failure| self.subject(id, None, "upload").error(failure))?;
        for ready in files {
            let name = &ready.file.name;
            let found = there.iter().find(|f| f.name == *name);
            if found.is_none_or(|f| f.hash != ready.hash || f.size != ready.file.size) {
                let found = found.map_or("nothing".to_owned(), |f| format!("{} bytes, hash {}", f.size, f.hash));
                return Err(Error::new(ErrorKind::Io, format!("{name} did not arrive on {} as it is here", id.id))
                    .fact("here", format!("{} bytes, hash {}", ready.file.size, ready.hash))
                    .fact("there", found)
                    .hint("run the same command again: what is there is not sent again"));
            }
        }
        Ok(())
    }
}

/// The commit as lines of JSON: a header, then a file a line.
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
