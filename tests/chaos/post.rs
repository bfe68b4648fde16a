//! One connection to the bridge without an HTTP library: no library reports the time at which the last byte of a body was sent.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Maximum size of an answer.
const ANSWER_BYTES: usize = 16 * 1024;

/// A connection that is kept open between requests.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) enum Posted {
    /// An answer. `took` is the time from the body's last byte to the answer's.
    Answered { status: u16, body: Vec<u8>, took: Duration },
    /// No connection: nothing was sent.
    Unreachable(io::Error),
    /// The connection broke before the answer was whole.
    Broken(io::Error),
    /// The sender closed the connection before the answer.
    HungUp,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Makes the next request use a connection of its own.
    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    /// Sends a request and waits for its answer, for at most `patience` after the body's last byte.
    pub(crate) async fn post(&mut self, request: &[u8], patience: Duration) -> Posted {
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => stream,
                Err(error) => return Posted::Unreachable(error),
            },
        };
        stream.set_nodelay(true).ok(); // without the option the test is only slower
        if let Err(error) = stream.write_all(request).await {
            return Posted::Broken(error);
        }
        let sent = Instant::now();
        match timeout(patience, read_answer(&mut stream)).await {
            Err(_elapsed) => Posted::HungUp,
            Ok(Err(error)) => Posted::Broken(error),
            Ok(Ok((status, body))) => {
                let took = sent.elapsed();
                self.stream = Some(stream);
                Posted::Answered { status, body, took }
            }
        }
    }
}

/// Returns whether an idle connection is still open.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn read_answer(stream: &mut TcpStream) -> io::Result<(u16, Vec<u8>)> {
    let mut answer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(whole) = parse(&answer).map_err(io::Error::other)? {
            return Ok(whole);
        }
    }
}

/// Returns the status and the body; `None` until they are complete.
fn parse(answer: &[u8]) -> Result<Option<(u16, Vec<u8>)>, String> {
    if answer.len() > ANSWER_BYTES {
        return Err(format!("an answer of more than {ANSWER_BYTES} bytes"));
    }
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).map_err(|error| error.to_string())?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or("an answer without content-length")?;
    let status = response.code.ok_or("an answer without status")?;
    Ok(answer.get(head..head + length).map(|body| (status, body.to_vec())))
}
