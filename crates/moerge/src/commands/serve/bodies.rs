//! The bodies of requests, read whole within bounds of time, and of memory for all clients together.
//!
//! A client that sends a part of its body and then nothing is cut off like one that sends no headers. Large bodies, and
//! what is made of them, share one budget; small ones need none, so they get in whatever others send.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use futures_core::Stream as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::api_error::ApiError;

/// Largest request in bytes.
pub const MAX_BODY: usize = 8 << 20;
/// Bodies up to this many bytes need no part of the budget.
const SMALL: usize = 64 << 10;
/// KiB of large bodies at the same time.
const BUDGET: usize = 64 << 10;
/// How long a client may send nothing.
const IDLE: Duration = Duration::from_secs(5);
/// How long it may take in all: this, and a second for every [`RATE`] bytes.
const START: Duration = Duration::from_secs(10);
const RATE: usize = 100_000;

/// The budget of all large bodies.
pub struct Bodies {
    budget: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { budget: Arc::new(Semaphore::new(BUDGET)) }
    }
}

impl Bodies {
    /// Reads a body that says to have `length` bytes. The permit, if there is one, is its part of the budget.
    pub async fn read(
        &self,
        body: Body,
        length: Option<usize>,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let length = length.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(too_large());
        }
        let permit = match length > SMALL {
            true => {
                let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
                let permit = Arc::clone(&self.budget).acquire_many_owned(kib).await;
                Some(permit.map_err(|_| ApiError::internal("the server is being stopped"))?)
            }
            false => None,
        };
        let end = Instant::now() + START + Duration::from_secs((length / RATE) as u64);
        let mut stream = body.into_data_stream();
        let mut bytes = Vec::new();
        loop {
            let left = IDLE.min(end.saturating_duration_since(Instant::now()));
            let next = timeout(left, poll_fn(|context| Pin::new(&mut stream).poll_next(context)));
            match next.await.map_err(|_| too_slow())? {
                None => return Ok((bytes.into(), permit)),
                Some(Err(_)) => return Err(ApiError::request("the body of the request did not come whole")),
                Some(Ok(part)) if bytes.len() + part.len() > length => return Err(too_large()),
                Some(Ok(part)) => bytes.extend_from_slice(&part),
            }
        }
    }
}

fn too_large() -> ApiError {
    let message = format!("the request is larger than {} MiB", MAX_BODY >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn too_slow() -> ApiError {
    let message = "the body of the request did not come in time";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}
