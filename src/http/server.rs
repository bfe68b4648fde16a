//! A running listener: actix-web's parts in an actix system and threads of their own, with all limits of a connection.
//!
//! In an actix system each worker is an arbiter, and one wake-up of it handles a batch of confirmations. Without a system each
//! confirmation wakes the event loop: one more system call per delivery, a tenth of its processor time.
//!
//! actix-web limits the time for the head of a connection's first request, and the idle time before the next request. A request
//! in progress has deadlines of its own. actix-web has no limit for:
//!
//! - a later head that never ends,
//! - the rest of a refused chunked body,
//! - answers that the client does not read.
//!
//! So each connection records the end of its last request, and is closed when that was too long ago. `HttpServer` gives no
//! access to a whole connection, so this file builds on the layer below it.

use std::cell::Cell;
use std::fmt::Debug;
use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::{HttpService, Request, Response, TlsAcceptorConfig};
use actix_server::GracefulShutdownSignal;
use actix_service::boxed::{self, BoxServiceFactory};
use actix_service::{
    Service, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::App;
use actix_web::dev::{AppConfig, Server, ServerHandle};
use actix_web::rt::System;
use actix_web::rt::net::TcpStream;
use actix_web::web::ServiceConfig;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Time-out of the head of a connection's first request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time-out of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keep-alive: time-out between requests; above the minute of common load balancers.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Maximum time without a request in progress, whatever the client does; above the keep-alive, which closes idle
/// connections in order.
const MAX_IDLE: Duration = Duration::from_secs(80);

/// Maximum time in which the client has to read the last bytes of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// End of the last request of the connection that is being polled, or beginning of the connection; `None` while a request is
    /// in progress.
    static LAST_END: Rc<Cell<Option<Instant>>>;
}

pub(super) struct Options {
    /// Name of the listener's thread.
    pub(super) name: &'static str,
    /// Number of workers; the number of processors if `None`.
    pub(super) workers: Option<usize>,
    /// Time that a graceful stop waits for connections.
    pub(super) stops_within: Duration,
    /// The certificate; `None` for plain HTTP.
    pub(super) tls: Option<ServerConfig>,
}

/// A listener that serves until it is stopped or dropped.
pub struct Listening {
    address: SocketAddr,
    handle: ServerHandle,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Listening {
    /// Starts a listener, whose routes `configure` adds. `expect` judges a request with `Expect: 100-continue` before the answer
    /// 100: its result is the request to handle, or the answer.
    pub(super) fn start(
        listener: TcpListener,
        options: Options,
        expect: impl Fn(Request) -> Result<Request, Response<BoxBody>> + Send + Clone + 'static,
        configure: impl Fn(&mut ServiceConfig) + Send + Clone + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // The program handles signals itself.
        let mut builder = Server::build().disable_signals().shutdown_timeout(options.stops_within.as_secs());
        if let Some(workers) = options.workers {
            builder = builder.workers(workers);
        }
        let stopping = builder.graceful_shutdown_signal();
        let builder = match options.tls {
            None => builder.listen("http", listener, move || {
                with_idle_limit(http(stopping.clone(), expect.clone(), configure.clone()).tcp())
            })?,
            Some(tls) => builder.listen("https", listener, move || {
                let handshake = TlsAcceptorConfig::default().handshake_timeout(HANDSHAKE_TIMEOUT);
                let http = http(stopping.clone(), expect.clone(), configure.clone());
                with_idle_limit(http.rustls_0_23_with_config(tls.clone(), handshake))
            })?,
        };
        let (started, has_started) = mpsc::sync_channel(1);
        let (ended, has_ended) = oneshot::channel();
        thread::Builder::new().name(options.name.to_owned()).spawn(move || {
            System::new().block_on(async move {
                let server = builder.run();
                // The receivers are dropped only at the end of the program, so errors do not matter.
                started.send(server.handle()).ok();
                ended.send(server.await).ok();
            });
        })?;
        let handle = has_started.recv().map_err(io::Error::other)?;
        Ok(Self { address, handle, ended: has_ended })
    }

    /// Returns the address that the listener is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting. Waits for open connections if `graceful`, else closes them.
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }

    /// Waits until the listener ends without a stop, and returns the reason.
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

/// Makes services that judge requests with `Expect: 100-continue`.
type ExpectFactory = BoxServiceFactory<(), Request, Request, Response<BoxBody>, ()>;

/// Serves HTTP over TCP or TLS connections, with the time-outs that actix-web offers.
fn http<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    stopping: GracefulShutdownSignal,
    expect: impl Fn(Request) -> Result<Request, Response<BoxBody>> + Clone + 'static,
    configure: impl Fn(&mut ServiceConfig),
) -> HttpService<
    T,
    impl ServiceFactory<
        Request,
        Config = (),
        Response: Into<Response<BoxBody>> + 'static,
        Error: Into<Response<BoxBody>> + 'static,
        InitError: Debug,
        Future: 'static,
        Service: Service<Request, Future: 'static>,
    >,
    BoxBody,
    ExpectFactory,
> {
    let app = apply_fn_factory(App::new().configure(configure), answer);
    let app = app.map_err(|error| error.error_response());
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        // A half-closed connection counts as closed: a client that waits for an answer does not close its side.
        .h1_allow_half_closed(false)
        .finish(map_config(app, |()| AppConfig::default()))
        .expect(boxed::factory(fn_service(move |request| ready(expect(request)))))
}

/// Answers a request, and records it as in progress until then. A connection of HTTP/1.1 has one request at a time.
fn answer<S: Service<Request>>(
    request: Request,
    app: &S,
) -> impl Future<Output = Result<S::Response, S::Error>> + use<S> {
    let last_end = LAST_END.with(Rc::clone); // `until_idle` polls every connection
    last_end.set(None);
    let answering = app.call(request);
    async move {
        let answer = answering.await;
        last_end.set(Some(Instant::now()));
        answer
    }
}

fn with_idle_limit<S>(
    connections: S,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = S::Error, InitError = S::InitError>
where
    S: ServiceFactory<TcpStream, Config = (), Response = ()>,
{
    apply_fn_factory(connections, |stream, service: &S::Service| until_idle(service.call(stream), MAX_IDLE))
}

/// Serves a connection to its end, or until it has had no request in progress for `limit`.
async fn until_idle<E>(serving: impl Future<Output = Result<(), E>>, limit: Duration) -> Result<(), E> {
    let last_end = Rc::new(Cell::new(Some(Instant::now())));
    let serving = pin!(LAST_END.scope(Rc::clone(&last_end), serving));
    let idle = async {
        loop {
            let now = Instant::now();
            let end = last_end.get().unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    };
    tokio::select! {
        biased;
        served = serving => served,
        () = idle => Ok(()),
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
        let app = fn_service(|_: Request| async {
            tokio::time::sleep(WORK).await;
            Ok::<_, ()>(())
        });
        let app = app.new_service(()).await.unwrap();
        let serving = async {
            answer(Request::new(), &app).await.unwrap();
            pending::<Result<(), ()>>().await
        };
        until_idle(serving, LIMIT).await.unwrap();
        assert!(begun.elapsed() >= WORK + LIMIT, "{:?}", begun.elapsed());
    }
}
