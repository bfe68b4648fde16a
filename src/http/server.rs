//! The server of both listeners, made of actix-web's parts, with all limits of a connection.
//!
//! `HttpServer` does the same, but gives no access to a whole connection, which [`super::idle`] needs.

use std::fmt::Debug;
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::{HttpService, Request, Response, TlsAcceptorConfig};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service,
    map_config,
};
use actix_web::Error;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use super::idle::{Connection, until_idle};

/// Time-out of the head of a connection's first request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time-out of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keep-alive: time-out between requests; above the minute of common load balancers.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Maximum time without a request in progress, whatever the client does; above the keep-alive, which closes idle
/// connections in order.
const MAX_IDLE: Duration = Duration::from_secs(80);

/// Time-out of a client that reads the last bytes of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings in which the listeners differ.
pub(super) struct Options<E> {
    /// Number of threads; the number of processors if `None`.
    pub(super) workers: Option<usize>,
    /// Time that a graceful stop waits for connections.
    pub(super) stops_within: Duration,
    /// The certificate; `None` for plain HTTP.
    pub(super) tls: Option<ServerConfig>,
    /// Judges a request with `Expect: 100-continue` before the answer 100: `app` gets the request, the client the error.
    pub(super) expect: E,
}

/// Makes a server on `listener`. It calls `app` once per thread.
///
/// # Errors
/// The listener cannot be used.
pub(super) fn server<F, I, S, B, E>(listener: TcpListener, options: Options<E>, app: F) -> io::Result<Server>
where
    E: Fn(Request) -> Result<Request, Response<BoxBody>> + Send + Clone + 'static,
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let Options { workers, stops_within, tls, expect } = options;
    // The program handles signals itself.
    let mut builder = Server::build().disable_signals().shutdown_timeout(stops_within.as_secs());
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let stopping = builder.graceful_shutdown_signal();
    let builder = match tls {
        None => builder.listen("http", listener, move || {
            with_idle_limit(http(&app, &stopping).expect(judging(&expect)).tcp())
        })?,
        Some(tls) => builder.listen("https", listener, move || {
            let handshake = TlsAcceptorConfig::default().handshake_timeout(HANDSHAKE_TIMEOUT);
            with_idle_limit(
                http(&app, &stopping)
                    .expect(judging(&expect))
                    .rustls_0_23_with_config(tls.clone(), handshake),
            )
        })?,
    };
    Ok(builder.run())
}

/// Serves `app` over TCP or TLS connections, with the limits that actix-web has.
fn http<T, F, I, S, B>(
    app: &F,
    stopping: &GracefulShutdownSignal,
) -> HttpService<
    T,
    impl ServiceFactory<
        Request,
        Config = (),
        Response: Into<Response<B>> + 'static,
        Error: Into<Response<BoxBody>> + 'static,
        InitError: Debug,
        Future: 'static,
        Service: Service<Request, Future: 'static>,
    > + use<T, F, I, S, B>,
    B,
>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn() -> I,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let stopping = stopping.clone();
    let tracked = apply_fn_factory(app(), |request: Request, app: &S::Service| {
        let in_progress = request.conn_data::<Connection>().map(Connection::begin);
        let answering = app.call(request);
        async move {
            let answer = answering.await;
            drop(in_progress);
            answer
        }
    });
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        // Otherwise a client that has disconnected would be answered. A client that waits for an answer does not close its side.
        .h1_allow_half_closed(false)
        .on_connect_ext(|_, extensions| Connection::introduce(extensions))
        .finish(map_config(tracked.map_err(|error| error.into().error_response()), |()| AppConfig::default()))
}

/// Returns the service that judges requests with `Expect: 100-continue`.
fn judging<E>(
    expect: &E,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = Request,
    Error = Response<BoxBody>,
    InitError = (),
    Future: 'static,
> + use<E>
where
    E: Fn(Request) -> Result<Request, Response<BoxBody>> + Clone + 'static,
{
    let expect = expect.clone();
    fn_service(move |request| ready(expect(request)))
}

/// Limits the idle time of connections by [`until_idle`].
fn with_idle_limit<S>(
    connections: S,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = S::Error, InitError = S::InitError>
where
    S: ServiceFactory<TcpStream, Config = (), Response = ()>,
{
    apply_fn_factory(connections, |stream, service: &S::Service| until_idle(service.call(stream), MAX_IDLE))
}
