//! Patience: how long a connection may go on without a request at work, whatever its client does meanwhile.
//!
//! actix-web bounds the head of a connection's first request and the idle wait for the next one, and a request at work
//! is bounded by its own deadlines. Nothing else bounds a later head that never ends, the rest of a chunked body that was
//! refused, or answers that nobody reads. So each connection is told when its last request was at work, and dropped when
//! that is too long ago.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Extensions;
use tokio::time::Instant;

tokio::task_local! {
    /// The connection that is being polled.
    static CONNECTION: Connection;
}

/// What a connection's requests are doing.
#[derive(Clone)]
pub(super) struct Connection(Rc<State>);

/// When the last request ended, or the connection began; `None` while one is at work.
type State = Cell<Option<Instant>>;

/// A request at work, until dropped.
pub(super) struct AtWork(Connection);

impl Connection {
    fn new() -> Self {
        Self(Rc::new(Cell::new(Some(Instant::now()))))
    }

    /// Makes the connection that is being polled known to its requests.
    pub(super) fn introduce(extensions: &mut Extensions) {
        // Every connection is polled by `patiently`.
        CONNECTION.try_with(|connection| extensions.insert(connection.clone())).ok();
    }

    /// Notes that a request is at work. HTTP/1.1 has one at a time.
    pub(super) fn begin(&self) -> AtWork {
        self.0.set(None);
        AtWork(self.clone())
    }

    /// Waits until no request was at work for longer than `rest`.
    async fn given_up(&self, rest: Duration) {
        loop {
            let now = Instant::now();
            let end = self.0.get().unwrap_or(now) + rest;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.set(Some(Instant::now()));
    }
}

/// Serves a connection to its end, or until no request was at work for longer than `rest`.
pub(super) async fn patiently<E>(
    serving: impl Future<Output = Result<(), E>>,
    rest: Duration,
) -> Result<(), E> {
    let connection = Connection::new();
    let serving = pin!(CONNECTION.scope(connection.clone(), serving));
    tokio::select! {
        biased;
        served = serving => served,
        () = connection.given_up(rest) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const REST: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_connection_is_given_up_when_no_request_is_at_work_for_too_long() {
        let begun = Instant::now();
        patiently(pending::<Result<(), ()>>(), REST).await.unwrap();
        assert!(begun.elapsed() >= REST);
    }

    #[tokio::test]
    async fn a_request_at_work_keeps_its_connection_and_the_rest_begins_at_its_end() {
        const WORK: Duration = Duration::from_millis(200);
        let begun = Instant::now();
        let serving = async {
            let mut extensions = Extensions::new();
            Connection::introduce(&mut extensions);
            let at_work = extensions.get::<Connection>().unwrap().begin();
            tokio::time::sleep(WORK).await;
            drop(at_work);
            pending::<Result<(), ()>>().await
        };
        patiently(serving, REST).await.unwrap();
        assert!(begun.elapsed() >= WORK + REST, "{:?}", begun.elapsed());
    }
}
