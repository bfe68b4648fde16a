//! A listener at work: actix-web in a system of its own, on threads of its own.
//!
//! Inside an actix system each worker is an arbiter, which is woken once for a batch of confirmations. Without one,
//! workers are woken through their event loop for each: a system call a delivery more, a tenth of all its work.

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
    /// Starts what `server` makes on a new thread called `name`.
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
                        // Whoever waits for these has gone only if the program ends.
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

    /// Takes no connection any more and waits for those that there are; not `graceful`: ends them.
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }

    /// Waits until it has ended by itself, which is a failure.
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
