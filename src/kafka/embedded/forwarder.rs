//! Forwards the embedded broker's port to the random port of librdkafka's mock cluster.

use std::io;
use std::net::TcpListener;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::telemetry::limit::LogLimit;

/// Accepts connections on the port and forwards them to the mock cluster.
pub(super) struct Forwarder {
    pub(super) listener: TcpListener,
    pub(super) to: String,
}

impl Forwarder {
    pub(super) async fn run(self) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the embedded broker cannot take connections"),
        };
        let missed = LogLimit::default();
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    tokio::spawn(forward(client, self.to.clone()));
                }
                // No file descriptor is left, or the client has closed the connection; the next one may work.
                Err(error) => {
                    if let Some(left_out) = missed.allow() {
                        tracing::warn!(%error, left_out, "the embedded broker missed a connection");
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Forwards until one side closes; then closes the other.
async fn forward(mut client: TcpStream, to: String) -> io::Result<()> {
    let mut broker = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut broker).await?;
    Ok(())
}
