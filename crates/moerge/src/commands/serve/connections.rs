//! The connections of the server: how many at once, and how long one may take to say what it wants.
//!
//! A client that opens a connection and sends nothing, or half a request, holds one of a limited number for a few
//! seconds only, so that others get in.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// Maximum number of open connections.
const CONNECTIONS: usize = 512;
/// How long a client may take to send the headers of its request, or leave a connection idle.
const HEADERS: Duration = Duration::from_secs(5);
/// How long to wait when the system gives no more connections.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` at `listener`; never ends by itself.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The process has no more files, or the client left already: neither ends the server.
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            // A connection that breaks concerns nobody but its client.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}
