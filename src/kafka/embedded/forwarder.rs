//! The embedded broker's fixed port: librdkafka's mock cluster binds random ports only, so the bytes are passed on.

use std::io;
use std::net::TcpListener;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::telemetry::limit::LogLimit;

/// Takes connections on the fixed port and passes their bytes on to the mock cluster's random one.
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
                // Out of file descriptors, or the client is gone already: others may still get through.
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

/// Ends with either side; a broker that is down closes the client's connection too.
async fn forward(mut client: TcpStream, to: String) -> io::Result<()> {
    let mut broker = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut broker).await?;
    Ok(())
}
