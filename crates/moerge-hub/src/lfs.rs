//! Uploads of large files: the git-lfs batch request, and the parts that its answer asks for.
//!
//! The protocol is <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>. For objects above a size, the answer
//! has a `chunk_size` and one address per part: the Hub's own transfer `multipart`. Objects that the Hub has are not sent
//! again, so rerunning an interrupted push sends only the rest.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::atomic::{AtomicU64, Ordering},
};

use moerge_checkpoint::workers;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    FileHash, Hub,
    http::{Failure, Payload, Request},
    listing::parse,
    local_files::LocalFile,
};
use moerge_core::{
    model::locate::HubId,
    progress::{Progress, Stage},
};

const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Objects per batch request.
const BATCH: usize = 256;
/// Parts sent at a time.
const CONNECTIONS: usize = 6;

/// A file to send, with its hash.
pub(super) struct Object<'a> {
    pub file: &'a LocalFile,
    pub hash: &'a FileHash,
}

#[derive(Deserialize)]
struct BatchAnswer {
    objects: Vec<ObjectAnswer>,
}

#[derive(Deserialize)]
struct ObjectAnswer {
    oid: String,
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, Value>>,
}

/// Consecutive bytes of an object, and the address they are sent to.
struct UploadPart {
    object: usize,
    url: String,
    from: u64,
    len: u64,
}

impl Hub {
    /// Sends the objects that the Hub does not have. Returns the number of bytes sent.
    pub(super) fn send_objects(
        &self,
        id: &HubId,
        branch: &str,
        objects: &[Object],
        progress: &dyn Progress,
    ) -> Result<u64, Failure> {
        let mut actions: Vec<(usize, Actions)> = Vec::new();
        for batch in objects.chunks(BATCH) {
            actions.extend(self.batch(id, branch, batch, objects)?);
        }
        let mut parts = Vec::new();
        for (index, action) in &actions {
            if let (Some(upload), Some(object)) = (&action.upload, objects.get(*index)) {
                parts.extend(self.parts(*index, object, upload)?);
            }
        }
        let total = objects.iter().map(|o| o.file.size).fold(0, u64::saturating_add);
        let missing: u64 = parts.iter().map(|p| p.len).sum();
        if missing > 0 {
            progress.start(Stage::Upload, total, total - missing);
        }
        let etags = self.send_parts(&parts, objects, progress)?;
        for (index, action) in &actions {
            if let (Some(upload), Some(object)) = (&action.upload, objects.get(*index)) {
                let own = parts.iter().zip(&etags).filter(|(part, _)| part.object == *index).map(|(_, etag)| etag);
                self.complete(object, upload, own)?;
            }
            if let (Some(verify), Some(object)) = (&action.verify, objects.get(*index)) {
                let body = json!({ "oid": object.hash.to_string(), "size": object.file.size }).to_string();
                self.http.read(&Request::post(&self.own_address(&verify.href), body.as_bytes()))?;
            }
        }
        if missing > 0 {
            progress.finish(Stage::Upload, "");
        }
        Ok(missing)
    }

    fn batch(
        &self,
        id: &HubId,
        branch: &str,
        batch: &[Object],
        all: &[Object],
    ) -> Result<Vec<(usize, Actions)>, Failure> {
        let entry = |o: &Object| json!({ "oid": o.hash.to_string(), "size": o.file.size });
        let body = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
            "ref": { "name": branch }, "objects": batch.iter().map(entry).collect::<Vec<_>>(),
        });
        let (url, body) =
            (format!("{}/{}.git/info/lfs/objects/batch", self.settings.endpoint, id.id), body.to_string());
        let request = Request {
            method: "POST",
            url: &url,
            headers: vec![("accept", LFS_JSON.to_owned())],
            payload: Payload::Bytes(body.as_bytes(), LFS_JSON),
        };
        let bytes = self.http.read(&request)?;
        let answer: BatchAnswer = parse(&bytes)?;
        let mut wanted = Vec::new();
        for object in answer.objects {
            if let Some(error) = object.error {
                return Err(Failure::Answer(format!("it refuses a file: {} {}", error.code, error.message)));
            }
            let index = all.iter().position(|o| o.hash.to_string() == object.oid);
            let index = index.ok_or_else(|| Failure::Answer("it asks for a file that was not offered".into()))?;
            wanted.extend(object.actions.map(|actions| (index, actions)));
        }
        Ok(wanted)
    }

    /// The parts of an object, in order.
    fn parts(&self, index: usize, object: &Object, upload: &Action) -> Result<Vec<UploadPart>, Failure> {
        let size = object.file.size;
        let Some(chunk) = chunk_size(upload) else {
            return Ok(vec![UploadPart { object: index, url: self.own_address(&upload.href), from: 0, len: size }]);
        };
        let header = upload.header.iter().flatten();
        let mut urls: Vec<(u64, &str)> = header.filter_map(|(k, v)| Some((k.parse().ok()?, v.as_str()?))).collect();
        urls.sort_unstable();
        if chunk == 0 || urls.len() as u64 != size.div_ceil(chunk) {
            return Err(Failure::Answer(format!("{} parts for {size} bytes do not add up", urls.len())));
        }
        let part = |(number, (_, url)): (u64, (u64, &str))| {
            let from = number * chunk;
            UploadPart { object: index, url: self.own_address(url), from, len: chunk.min(size - from) }
        };
        Ok((0..).zip(urls).map(part).collect())
    }

    /// Sends all parts. Returns the ETag that the storage gave each.
    fn send_parts(
        &self,
        parts: &[UploadPart],
        objects: &[Object],
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Failure> {
        let send = |part: &UploadPart| match objects.get(part.object) {
            Some(object) => self.send_part(part, object, progress),
            None => Ok(String::new()),
        };
        workers::try_map(parts, CONNECTIONS, send).map_err(|(_, failure)| failure)
    }

    fn send_part(&self, part: &UploadPart, object: &Object, progress: &dyn Progress) -> Result<String, Failure> {
        // Bytes that are sent again do not count as progress.
        let furthest = AtomicU64::new(0);
        let open = || -> Box<dyn Read> {
            let file = File::open(&object.file.path).and_then(|mut file| {
                file.seek(SeekFrom::Start(part.from))?;
                Ok(file)
            });
            Box::new(PartReader { file, left: part.len, sent: 0, furthest: &furthest, progress })
        };
        let payload = Payload::Stream(part.len, &open);
        let answer = self.http.send(&Request { method: "PUT", url: &part.url, headers: Vec::new(), payload })?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        self.http.bytes(answer)?;
        Ok(etag)
    }

    /// Completes a multipart upload.
    fn complete<'a>(
        &self,
        object: &Object,
        upload: &Action,
        etags: impl Iterator<Item = &'a String>,
    ) -> Result<(), Failure> {
        if chunk_size(upload).is_none() {
            return Ok(());
        }
        let parts: Vec<Value> = (1..).zip(etags).map(|(n, etag)| json!({ "partNumber": n, "etag": etag })).collect();
        if parts.iter().any(|part| part.get("etag").and_then(Value::as_str).is_none_or(str::is_empty)) {
            return Err(Failure::Answer("it accepted a part without an ETag".into()));
        }
        let body = json!({ "oid": object.hash.to_string(), "parts": parts }).to_string();
        let url = self.own_address(&upload.href);
        let headers = vec![("accept", LFS_JSON.to_owned())];
        let payload = Payload::Bytes(body.as_bytes(), LFS_JSON);
        self.http.read(&Request { method: "POST", url: &url, headers, payload }).map(drop)
    }

    /// An address from an answer, moved to this endpoint: mirrors hand out addresses of the original Hub.
    pub(super) fn own_address(&self, url: &str) -> String {
        let rest = url.strip_prefix(super::settings::DEFAULT_ENDPOINT).filter(|rest| rest.starts_with('/'));
        rest.map_or_else(|| url.to_owned(), |rest| format!("{}{rest}", self.settings.endpoint))
    }
}

/// Bytes per part of a multipart upload. The Hub sends the number as a string.
fn chunk_size(upload: &Action) -> Option<u64> {
    let size = upload.header.as_ref()?.get("chunk_size")?;
    size.as_u64().or_else(|| size.as_str()?.parse().ok())
}

/// Reads a part of a file and reports progress.
struct PartReader<'a> {
    file: io::Result<File>,
    left: u64,
    sent: u64,
    furthest: &'a AtomicU64,
    progress: &'a dyn Progress,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file.as_mut().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        let read = file.by_ref().take(self.left).read(buffer)?;
        self.left -= read as u64;
        self.sent += read as u64;
        let before = self.furthest.fetch_max(self.sent, Ordering::Relaxed);
        if self.sent > before {
            self.progress.advance(Stage::Upload, self.sent - before);
        }
        Ok(read)
    }
}
