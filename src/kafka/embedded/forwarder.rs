//! Forwards the embedded broker's port to the random port of librdkafka's mock cluster.
//!
//! A Kafka client first sends `ApiVersions`, in the newest version that the client supports. The mock cluster does not support this
//! version. Only librdkafka can read the mock cluster's refusal, because the array length has the wrong format. So the forwarder
//! refuses such a request itself, as a Kafka broker does. The client then repeats the request in an older version.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::telemetry::limit::LogLimit;

/// API key of `ApiVersions`, the request for the versions of all requests.
const API_VERSIONS: u16 = 18;

/// Newest version of `ApiVersions` that the mock cluster supports.
const API_VERSIONS_MAX: u16 = 2;

/// Accepts connections on the port and forwards them to the mock cluster.
pub(super) async fn run(listener: TcpListener, to: String) {
    let missed = LogLimit::default();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(forward(client, to.clone()));
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

/// Forwards bytes until one side closes its connection, then closes the connection of the other side.
async fn forward(mut client: TcpStream, to: String) -> io::Result<()> {
    let mut broker = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    // The head of the first request: size, API key, API version, correlation id.
    let mut head = [0; 12];
    client.read_exact(&mut head).await?;
    let [size @ .., key_high, key_low, version_high, version_low, _, _, _, _] = head;
    let key = u16::from_be_bytes([key_high, key_low]);
    let version = u16::from_be_bytes([version_high, version_low]);
    if key == API_VERSIONS && version > API_VERSIONS_MAX {
        let rest = u64::from(u32::from_be_bytes(size)).saturating_sub(8);
        tokio::io::copy(&mut (&mut client).take(rest), &mut tokio::io::sink()).await?;
        client.write_all(&refusal(&head[8..])).await?;
    } else {
        broker.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut broker).await?;
    Ok(())
}

/// Returns the response `UNSUPPORTED_VERSION` with the supported versions. It has the format of version 0 for every requested version.
fn refusal(correlation_id: &[u8]) -> Vec<u8> {
    const UNSUPPORTED_VERSION: u16 = 35;
    let mut response = correlation_id.to_vec();
    response.extend(UNSUPPORTED_VERSION.to_be_bytes());
    response.extend(1_u32.to_be_bytes()); // length of the array
    response.extend([API_VERSIONS, 0, API_VERSIONS_MAX].map(u16::to_be_bytes).as_flattened());
    let size = u32::try_from(response.len()).expect("16 bytes");
    [&size.to_be_bytes(), response.as_slice()].concat()
}
