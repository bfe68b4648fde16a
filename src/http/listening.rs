//! A running listener: actix-web in a system and threads of its own.
//!
//! Inside an actix system each worker is an arbiter, which one wake-up serves for a batch of confirmations. Without a system
//! each confirmation wakes the event loop: one more system call per delivery, a tenth of its processor time.

use std::io;
use std::sync::mpsc;
use std::thread;

use actix_web::dev::{Server, ServerHandle};
use actix_web::rt::System;
use tokio::sync::oneshot;

/// A listener that serves until it is stopped or dropped.
pub struct Listening {
    handle: ServerHandle,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Listening {
    /// Starts the server that `server` makes on a new thread called `name`.
    pub(super) fn start(
        name: &str,
        server: impl FnOnce() -> io::Result<Server> + Send + 'static,
    ) -> io::Result<Self> {
        let (started, has_started) = mpsc::sync_channel(1);
        let (ended, has_ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            System::new().block_on(async move {
                match server() {
                    Ok(server) => {
                        // The receivers are gone only at the end of the program.
                        started.send(Ok(server.handle())).ok();
                        ended.send(server.await).ok();
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        })?;
        let handle = has_started.recv().map_err(io::Error::other)??;
        Ok(Self { handle, ended: has_ended })
    }

    /// Stops accepting. Waits for open connections if `graceful`, else closes them.
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }

    /// Waits until the listener ends by itself, which is a failure.
    pub async fn failed(&mut self) -> io::Error {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::Error::other("the server has ended"),
            Err(_) => io::Error::other("the server's thread has panicked"),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}
