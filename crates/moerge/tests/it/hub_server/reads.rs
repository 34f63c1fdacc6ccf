//! What is asked of a Hub without changing it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Fault, Reply, Repo, Request, State, lock,
    repos::{git_hash, is_large, sha256},
};

/// Who asks; `None` where nobody in particular does.
pub fn user(state: &State, request: &Request) -> Result<Option<String>, Reply> {
    let Some(token) = request.header("authorization") else { return Ok(None) };
    let token = token.strip_prefix("Bearer ").unwrap_or_default();
    match lock(&state.users).get(token) {
        Some(user) => Ok(Some(user.clone())),
        None => Err(Reply::refused(401, "", "Invalid credentials in Authorization header")),
    }
}

pub fn whoami(state: &State, request: &Request) -> Reply {
    match user(state, request) {
        Ok(Some(name)) => Reply::json(&json!({
            "type": "user", "name": name, "fullname": name, "orgs": [{ "name": "an-org", "roleInOrg": "write" }],
            "auth": { "accessToken": { "displayName": "test", "role": "write" } },
        })),
        Ok(None) => Reply::refused(401, "", "Invalid username or password."),
        Err(refused) => refused,
    }
}

/// The repository as this user may see it.
fn repo(state: &State, request: &Request, id: &str) -> Result<Repo, Reply> {
    let user = user(state, request)?;
    let missing = || Reply::refused(401, "RepoNotFound", "Repository not found");
    let repo = lock(&state.repos).get(id).cloned().ok_or_else(missing)?;
    if let Some(new) = &repo.moved_to {
        let target = request.target.replace(id, new);
        return Err(Reply::status(307).with("Location", &target));
    }
    if repo.private && user.is_none() { Err(missing()) } else { Ok(repo) }
}

fn commit<'a>(repo: &'a Repo, revision: &str) -> Result<&'a str, Reply> {
    let missing = || Reply::refused(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"));
    repo.find(revision).ok_or_else(missing)
}

pub fn info(state: &State, request: &Request, id: &str, revision: &str) -> Reply {
    let answer = || {
        let repo = repo(state, request, id)?;
        let sha = commit(&repo, revision)?;
        let siblings: Vec<Value> = repo.commits[sha].keys().map(|name| json!({ "rfilename": name })).collect();
        Ok(json!({
            "_id": "0", "id": id, "modelId": id, "sha": sha, "private": repo.private,
            "gated": if repo.gated { json!("manual") } else { json!(false) }, "tags": [], "siblings": siblings,
        }))
    };
    answer().map_or_else(|refused| refused, |json| Reply::json(&json))
}

fn entry(name: &str, bytes: &[u8]) -> Value {
    let mut entry = json!({ "type": "file", "path": name, "size": bytes.len(), "oid": git_hash(bytes) });
    if is_large(name, bytes.len()) {
        // The oid is then of the pointer file.
        let oid = sha256(bytes);
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n", bytes.len());
        entry["oid"] = git_hash(pointer.as_bytes()).into();
        entry["lfs"] = json!({ "oid": oid, "size": bytes.len(), "pointerSize": pointer.len() });
    }
    entry
}

pub fn tree(state: &State, request: &Request, id: &str, revision: &str) -> Reply {
    let answer = || {
        let repo = repo(state, request, id)?;
        let files = &repo.commits[commit(&repo, revision)?];
        let page = *lock(&state.page);
        let start: usize = request.query("cursor").map_or(0, |c| c.parse().unwrap());
        let entries: Vec<Value> = files.iter().skip(start).take(page).map(|(n, b)| entry(n, b)).collect();
        let reply = Reply::json(&entries.into());
        Ok(if start + page < files.len() {
            let next =
                format!("<{}{}?recursive=false&cursor={}>; rel=\"next\"", state.hub, request.path(), start + page);
            reply.with("Link", &next)
        } else {
            reply
        })
    };
    answer().unwrap_or_else(|refused| refused)
}

pub fn paths_info(state: &State, request: &Request, id: &str, revision: &str) -> Reply {
    let answer = || {
        let repo = repo(state, request, id)?;
        let files = &repo.commits[commit(&repo, revision)?];
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let wanted = files.iter().filter(|(n, _)| text.contains(n.as_str()));
        Ok(Value::Array(wanted.map(|(n, b)| entry(n, b)).collect()))
    };
    answer().map_or_else(|refused| refused, |json| Reply::json(&json))
}

pub fn resolve(state: &State, request: &Request, id: &str, revision: &str, name: &str, fault: Option<Fault>) -> Reply {
    let answer = || {
        let repo = repo(state, request, id)?;
        let sha = commit(&repo, revision)?;
        if repo.gated && user(state, request)?.is_none() {
            return Err(Reply::refused(401, "GatedRepo", &format!("Access to model {id} is restricted.")));
        }
        let missing = || Reply::refused(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", sha);
        let bytes = repo.commits[sha].get(name).ok_or_else(missing)?;
        if !is_large(name, bytes.len()) {
            let etag = format!("\"{}\"", git_hash(bytes));
            return Ok(ranged(request, bytes, fault).with("ETag", &etag).with("X-Repo-Commit", sha));
        }
        let oid = sha256(bytes);
        lock(&state.objects).insert(oid.clone(), bytes.clone());
        Ok(Reply::status(302)
            .with("Location", &format!("{}/{oid}?X-Amz-Signature=abc", state.cdn))
            .with("X-Linked-Etag", &format!("\"{oid}\""))
            .with("X-Linked-Size", &bytes.len().to_string())
            .with("X-Repo-Commit", sha))
    };
    answer().unwrap_or_else(|refused| refused)
}

/// A large file, from the other host.
pub fn object(state: &State, request: &Request, fault: Option<Fault>) -> Reply {
    let bytes: Option<Arc<Vec<u8>>> = lock(&state.objects).get(request.path().trim_start_matches('/')).cloned();
    match bytes {
        Some(bytes) => ranged(request, &bytes, fault),
        None => Reply::status(403),
    }
}

fn ranged(request: &Request, bytes: &[u8], fault: Option<Fault>) -> Reply {
    let mut reply = Reply::status(200).with("Accept-Ranges", "bytes");
    reply.body = bytes.to_vec();
    if let Some(Fault::Longer(by)) = fault {
        reply.body.resize((bytes.len() as i64 + by).max(0) as usize, 0);
        return reply;
    }
    if let (Some((start, end)), false) = (request.range(), fault == Some(Fault::WholeFile)) {
        let total = bytes.len() as u64;
        if start >= total {
            return Reply::status(416).with("Content-Range", &format!("bytes */{total}"));
        }
        let end = end.map_or(total, |e| (e + 1).min(total));
        reply.status = 206;
        reply.body = bytes[start as usize..end as usize].to_vec();
        let start = if fault == Some(Fault::OtherRange) { start / 2 } else { start };
        return reply.with("Content-Range", &format!("bytes {start}-{}/{total}", end - 1));
    }
    reply
}
