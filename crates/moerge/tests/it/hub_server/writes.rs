//! What changes a Hub.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Reply, Request, State, lock, reads,
    repos::{git_hash, is_large, sha256},
};

/// The user, who must be one: only they write.
fn writer(state: &State, request: &Request) -> Result<String, Reply> {
    reads::user(state, request)?.ok_or_else(|| Reply::refused(401, "", "Invalid username or password."))
}

fn answered(answer: Result<Value, Reply>) -> Reply {
    answer.map_or_else(|refused| refused, |json| Reply::json(&json))
}

pub fn create(state: &State, request: &Request) -> Reply {
    answered((|| {
        let user = writer(state, request)?;
        let asked = request.json();
        let owner = asked["organization"].as_str().unwrap_or(&user).to_owned();
        if owner != user && owner != "an-org" {
            let message = format!("You don't have the rights to create a model under the namespace \"{owner}\"");
            return Err(Reply::refused(403, "", &message));
        }
        let id = format!("{owner}/{}", asked["name"].as_str().unwrap());
        let mut repos = lock(&state.repos);
        if repos.contains_key(&id) {
            return Err(Reply::refused(409, "", "You already created this model repo"));
        }
        let repo = repos.entry(id.clone()).or_default();
        repo.private = asked["private"] == json!(true) || asked["visibility"] == json!("private");
        repo.commit("main", std::iter::once((".gitattributes".to_owned(), Arc::new(b"*.bin filter=lfs\n".to_vec()))));
        Ok(json!({ "url": format!("{}/{id}", state.hub), "name": id, "id": id }))
    })())
}

pub fn branch(state: &State, request: &Request, id: &str, branch: &str) -> Reply {
    answered((|| {
        writer(state, request)?;
        let mut repos = lock(&state.repos);
        let repo = repos.get_mut(id).ok_or_else(|| Reply::refused(404, "RepoNotFound", "Repository not found"))?;
        if repo.branches.contains_key(branch) {
            return Err(Reply::refused(409, "", "Reference already exists"));
        }
        let main = repo.branches["main"].clone();
        repo.branches.insert(branch.to_owned(), main);
        Ok(json!({}))
    })())
}

pub fn preupload(state: &State, request: &Request, id: &str, revision: &str) -> Reply {
    answered((|| {
        writer(state, request)?;
        let repos = lock(&state.repos);
        let repo = repos.get(id).ok_or_else(|| Reply::refused(404, "RepoNotFound", "Repository not found"))?;
        let missing = || Reply::refused(404, "RevisionNotFound", "Invalid rev id");
        let files = &repo.commits[repo.find(revision).ok_or_else(missing)?];
        let answer = |file: &Value| {
            let (path, size) = (file["path"].as_str().unwrap(), file["size"].as_u64().unwrap() as usize);
            let mode = if is_large(path, size) { "lfs" } else { "regular" };
            let sample = STANDARD.decode(file["sample"].as_str().unwrap()).unwrap();
            assert_eq!(sample.len(), size.min(512), "{path}");
            json!({ "path": path, "uploadMode": mode, "shouldIgnore": false, "oid": files.get(path).map(|b| git_hash(b)) })
        };
        let asked = request.json();
        Ok(json!({ "files": asked["files"].as_array().unwrap().iter().map(answer).collect::<Vec<_>>() }))
    })())
}

pub fn batch(state: &State, request: &Request, _id: &str) -> Reply {
    answered((|| {
        writer(state, request)?;
        let part_bytes = *lock(&state.part_bytes);
        let asked = request.json();
        assert_eq!(asked["operation"], "upload");
        let object = |object: &Value| {
            let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
            let mut answer = json!({ "oid": oid, "size": size });
            if lock(&state.objects).contains_key(oid) {
                return answer;
            }
            let verify = json!({ "href": format!("{}/verify", state.hub) });
            let upload = if part_bytes == 0 {
                json!({ "href": format!("{}/upload/{oid}/0?X-Amz-Signature=abc", state.hub) })
            } else {
                let mut header = json!({ "chunk_size": part_bytes.to_string() });
                for number in 1..=size.div_ceil(part_bytes as u64) {
                    let url = format!("{}/upload/{oid}/{number}?X-Amz-Signature=abc", state.hub);
                    header[number.to_string()] = url.into();
                }
                json!({ "href": format!("{}/complete/{oid}", state.hub), "header": header })
            };
            answer["actions"] = json!({ "upload": upload, "verify": verify });
            answer
        };
        let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(object).collect();
        Ok(json!({ "transfer": if part_bytes == 0 { "basic" } else { "multipart" }, "objects": objects }))
    })())
}

pub fn part(state: &State, request: &Request, oid: &str, part: &str) -> Reply {
    let number: usize = part.parse().unwrap();
    if number == 0 {
        if sha256(&request.body) != oid {
            return Reply::status(400);
        }
        lock(&state.objects).insert(oid.to_owned(), Arc::new(request.body.clone()));
        return Reply::status(200);
    }
    let etag = format!("\"{}\"", git_hash(&request.body));
    lock(&state.parts).insert((oid.to_owned(), number), request.body.clone());
    Reply::status(200).with("ETag", &etag)
}

pub fn complete(state: &State, request: &Request, oid: &str) -> Reply {
    let asked = request.json();
    let parts = lock(&state.parts);
    let mut bytes = Vec::new();
    for part in asked["parts"].as_array().unwrap() {
        let found = &parts[&(oid.to_owned(), part["partNumber"].as_u64().unwrap() as usize)];
        assert_eq!(part["etag"], format!("\"{}\"", git_hash(found)));
        bytes.extend(found);
    }
    if sha256(&bytes) != oid {
        return Reply::refused(400, "", "the parts are not the object");
    }
    lock(&state.objects).insert(oid.to_owned(), Arc::new(bytes));
    Reply::json(&json!({}))
}

pub fn verify(state: &State, request: &Request) -> Reply {
    let asked = request.json();
    match lock(&state.objects).get(asked["oid"].as_str().unwrap()) {
        Some(bytes) if bytes.len() as u64 == asked["size"].as_u64().unwrap() => Reply::json(&json!({})),
        _ => Reply::refused(404, "", "object not found"),
    }
}

pub fn commit(state: &State, request: &Request, id: &str, revision: &str) -> Reply {
    answered((|| {
        writer(state, request)?;
        let mut repos = lock(&state.repos);
        let repo = repos.get_mut(id).ok_or_else(|| Reply::refused(404, "RepoNotFound", "Repository not found"))?;
        let lines = request.body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let mut files = Vec::new();
        for line in lines {
            let line: Value = serde_json::from_slice(line).unwrap();
            let value = &line["value"];
            let path = || value["path"].as_str().unwrap().to_owned();
            match line["key"].as_str().unwrap() {
                "header" => {
                    let parent = value["parentCommit"].as_str();
                    if parent.is_some() && repo.branches.get(revision).map(String::as_str) != parent {
                        return Err(Reply::refused(
                            412,
                            "",
                            "A commit has happened since. Please refresh and try again.",
                        ));
                    }
                }
                "file" => files.push((path(), Arc::new(STANDARD.decode(value["content"].as_str().unwrap()).unwrap()))),
                "lfsFile" => {
                    let object = lock(&state.objects).get(value["oid"].as_str().unwrap()).cloned();
                    let missing = || Reply::refused(400, "", "an LFS object is missing");
                    files.push((path(), object.ok_or_else(missing)?));
                }
                other => panic!("{other}"),
            }
        }
        let oid = repo.commit(revision, files.into_iter());
        let url = format!("{}/{id}/commit/{oid}", state.hub);
        Ok(json!({ "success": true, "commitOid": oid, "commitUrl": url, "hookOutput": "" }))
    })())
}
