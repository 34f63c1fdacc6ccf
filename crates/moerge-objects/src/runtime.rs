//! The threads that speak to stores. The rest of the project is synchronous: its threads hand over a request and wait.

use std::future::Future;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// Returns true once the user wants the run to end; every wait ends then.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Threads: hashing and encryption need more than one for a fast network.
const THREADS: usize = 2;
/// How often a wait looks whether the run is to end.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// For how long a request after a failure is waited for.
const MAX_FINISH: Duration = Duration::from_secs(30);

/// Runs requests. Its threads start with the first one.
pub(crate) struct Requests {
    runtime: OnceLock<Option<Runtime>>,
    stop: Stop,
}

impl Requests {
    pub fn new(stop: Stop) -> Requests {
        Requests { runtime: OnceLock::new(), stop }
    }

    /// Where requests run.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn handle(&self) -> io::Result<&Handle> {
        let start = || {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(THREADS).thread_name("objects").enable_io().enable_time().build().ok()
        };
        let runtime = self.runtime.get_or_init(start).as_ref();
        runtime.map(Runtime::handle).ok_or_else(|| io::Error::other("the system refuses threads"))
    }

    /// Fails once the run is to end.
    pub fn check(&self) -> io::Result<()> {
        if (self.stop)() { Err(stopped()) } else { Ok(()) }
    }

    /// Runs a request and waits for it.
    ///
    /// # Errors
    /// The run is to end; the request is then dropped.
    pub fn wait<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        let (sender, receiver) = channel();
        let task = self.handle()?.spawn(async move {
            // Nobody waits any more if the run was stopped.
            let _ = sender.send(request.await);
        });
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(stopped) = self.check() {
                        task.abort();
                        return Err(stopped);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("a request ended unexpectedly")),
            }
        }
    }

    /// Runs a request to its end, even if the run was stopped.
    pub fn finish(&self, request: impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = channel();
        if let Ok(handle) = self.handle() {
            handle.spawn(async move {
                request.await;
                let _ = sender.send(());
            });
            let _ = receiver.recv_timeout(MAX_FINISH);
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the run was stopped")
}
