//! Connections without an HTTP library: no library sends half a request, stops reading, or reports the arrival of the last byte.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bridge::{MAX_WAIT, Reply, sign};

/// The client's side of one connection.
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    /// Bytes that have arrived and were not returned yet.
    unread: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Writes as many bytes as the connection accepts now. Fails with `WouldBlock` if it accepts none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Makes a connection from an open stream, such as one of TLS.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes the sending side. Reading is still possible.
    pub(crate) async fn shut(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Sends these bytes one by one until the other side answers or closes the connection. Returns the answer.
    pub(crate) async fn dribble(&mut self, bytes: &[u8], every: Duration) -> io::Result<Reply> {
        let mut rest = bytes.iter();
        loop {
            tokio::select! {
                reply = self.reply() => return reply,
                () = tokio::time::sleep(every) => match rest.next() {
                    Some(byte) => self.stream.write_all(&[*byte]).await?,
                    None => return self.reply().await,
                }
            }
        }
    }

    /// Returns the next answer. The future can be dropped and called again.
    pub(crate) async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, length)) = parse(&self.unread).map_err(io::Error::other)? {
                self.unread.drain(..length);
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until the other side has closed the connection, and returns the length of the wait. Discards all bytes that still
    /// arrive.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> impl Future<Output = Duration> {
        let caller = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            let reading =
                async { while self.stream.read_buf(&mut self.unread).await.is_ok_and(|read| read > 0) {} };
            let in_time = tokio::time::timeout(4 * MAX_WAIT, reading).await;
            assert!(in_time.is_ok(), "{caller}: the connection stays open");
            begun.elapsed()
        }
    }
}

/// Returns a delivery with a right signature, as the bytes of its request.
pub(crate) fn delivery(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /webhooks/{path} HTTP/1.1\r\nHost: x\r\nX-Nexudus-Hook-Signature: {}\r\nContent-Length: {}\r\n\r\n",
        sign(body),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Returns the answer at the beginning of these bytes with its length; `None` until it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| error.to_string())?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let status = response.code.ok_or("an answer without status")?;
    let header = |header: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        Ok::<_, String>((name, HeaderValue::from_bytes(header.value).map_err(|error| error.to_string())?))
    };
    let headers: HeaderMap = response.headers.iter().map(header).collect::<Result<_, _>>()?;
    let length = headers.get("content-length").ok_or("an answer without content-length")?;
    let length: usize = length.to_str().ok().and_then(|text| text.parse().ok()).ok_or("no length")?;
    let body = bytes.get(head..head + length).map(<[u8]>::to_vec);
    Ok(body.map(|body| (Reply { status, headers, body }, head + length)))
}
