//! A TLS endpoint in front of a server without TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A running TLS endpoint. Dropping it ends it and its connections.
pub(crate) struct TlsFront {
    pub(crate) port: u16,
    task: AbortHandle,
}

impl TlsFront {
    /// Starts an endpoint that accepts TLS and passes the plain bytes on to a server on this machine.
    pub(crate) async fn before(server: SocketAddr, config: ServerConfig) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, acceptor.clone(), server));
            }
        });
        Self { port, task: task.abort_handle() }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) {
    // A client that does not trust the certificate ends the handshake.
    let Ok(mut outside) = acceptor.accept(stream).await else { return };
    let mut inside = TcpStream::connect(server).await.expect("the server exists");
    copy_bidirectional(&mut outside, &mut inside).await.ok(); // one side has closed its connection
}
