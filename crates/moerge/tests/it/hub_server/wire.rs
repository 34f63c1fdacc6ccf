//! HTTP/1.1, as much of it as clients of a Hub use.

use std::{
    io::{BufRead, Write},
    net::TcpStream,
};

use super::Fault;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether it came to the host of large files.
    pub cdn: bool,
}

impl Request {
    pub fn read(reader: &mut impl BufRead, cdn: bool) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, target, headers, body: Vec::new(), cdn };
        if let Some(length) = request.header("content-length").and_then(|l| l.parse().ok()) {
            request.body = vec![0; length];
            reader.read_exact(&mut request.body).ok()?;
        } else if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).ok()?;
                request.body.extend(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        }
        Some(request)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// First and last byte of the range that is asked for.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let (start, end) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse().ok()?, end.parse().ok()))
    }

    pub fn range_start(&self) -> u64 {
        self.range().map_or(0, |r| r.0)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        let reply = Self::status(200).with("Content-Type", "application/json");
        Self { body: value.to_string().into_bytes(), ..reply }
    }

    /// As the Hub refuses: a code and a message in headers, and the message in the body.
    pub fn refused(status: u16, code: &str, message: &str) -> Self {
        let reply = Self::status(status).with("X-Error-Code", code).with("X-Error-Message", message);
        Self { body: serde_json::json!({ "error": message }).to_string().into_bytes(), ..reply }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends it; the bytes of its body that were sent, `None` if the other end has gone.
    pub fn write(&mut self, mut stream: &TcpStream, request: &Request, fault: Option<Fault>) -> Option<u64> {
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n")).ok()?;
        let mut end = if request.method == "HEAD" { 0 } else { self.body.len() };
        match fault {
            Some(Fault::CutAfter(bytes)) => end = end.min(bytes as usize),
            Some(Fault::FlipByte(at)) => {
                if let Some(byte) = self.body.get_mut(at as usize) {
                    *byte ^= 1;
                }
            }
            _ => {}
        }
        let mut sent = 0;
        for chunk in self.body[..end].chunks(64 << 10) {
            stream.write_all(chunk).ok()?;
            sent += chunk.len() as u64;
        }
        Some(sent)
    }
}

pub fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
