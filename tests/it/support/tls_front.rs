//! TLS in front of a server that speaks plainly.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A running one; ends when dropped, with its connections.
pub(crate) struct TlsFront {
    pub(crate) port: u16,
    task: AbortHandle,
}

impl TlsFront {
    /// Takes TLS, and passes on what is in it to a server on this machine.
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
    // A client that does not trust us says so and goes.
    let Ok(mut outside) = acceptor.accept(stream).await else { return };
    let mut inside = TcpStream::connect(server).await.expect("the server is there");
    copy_bidirectional(&mut outside, &mut inside).await.ok(); // one of them has hung up
}
