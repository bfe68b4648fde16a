//! The idle limit of connections: maximum time without a request in progress, whatever the client sends or reads.
//!
//! actix-web limits the time for the head of a connection's first request and the idle time before the next request. A request in
//! progress has deadlines of its own. actix-web has no limit for a later head that never ends, for the rest of a chunked body
//! that was refused, or for answers that the client does not read. So each connection records the end of its last request, and is
//! closed when this end was too long ago.

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

/// The state of a connection's requests.
#[derive(Clone)]
pub(super) struct Connection(Rc<State>);

/// End of the last request, or beginning of the connection; `None` while a request is in progress.
type State = Cell<Option<Instant>>;

/// A request in progress, until dropped.
pub(super) struct InProgress(Connection);

impl Connection {
    fn new() -> Self {
        Self(Rc::new(Cell::new(Some(Instant::now()))))
    }

    /// Gives the requests of the connection that is being polled access to its state.
    pub(super) fn introduce(extensions: &mut Extensions) {
        // Every connection is polled by `until_idle`.
        CONNECTION.try_with(|connection| extensions.insert(connection.clone())).ok();
    }

    /// Notes that a request is in progress. HTTP/1.1 has one at a time.
    pub(super) fn begin(&self) -> InProgress {
        self.0.set(None);
        InProgress(self.clone())
    }

    /// Waits until the connection has had no request in progress for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let end = self.0.get().unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.set(Some(Instant::now()));
    }
}

/// Serves a connection to its end, or until it has had no request in progress for `limit`.
pub(super) async fn until_idle<E>(
    serving: impl Future<Output = Result<(), E>>,
    limit: Duration,
) -> Result<(), E> {
    let connection = Connection::new();
    let serving = pin!(CONNECTION.scope(connection.clone(), serving));
    tokio::select! {
        biased;
        served = serving => served,
        () = connection.idle_for(limit) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_connection_is_closed_when_no_request_is_in_progress_for_too_long() {
        let begun = Instant::now();
        until_idle(pending::<Result<(), ()>>(), LIMIT).await.unwrap();
        assert!(begun.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn a_request_keeps_its_connection_open_and_the_limit_begins_at_its_end() {
        const WORK: Duration = Duration::from_millis(200);
        let begun = Instant::now();
        let serving = async {
            let mut extensions = Extensions::new();
            Connection::introduce(&mut extensions);
            let in_progress = extensions.get::<Connection>().unwrap().begin();
            tokio::time::sleep(WORK).await;
            drop(in_progress);
            pending::<Result<(), ()>>().await
        };
        until_idle(serving, LIMIT).await.unwrap();
        assert!(begun.elapsed() >= WORK + LIMIT, "{:?}", begun.elapsed());
    }
}
