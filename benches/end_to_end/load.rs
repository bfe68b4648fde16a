//! The client: keep-alive connections that send prepared bytes, one request on its way on each, and look at no more of
//! an answer than its status and its length.
//!
//! It shares the machine with those it measures, so it does as little as possible: one thread, no HTTP library, no
//! allocation a request. Anything but a 200 ends the run with an error.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Before anything is counted: connections are made, caches and batches find their rhythm.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long one answer may take, longer than any contestant waits for its confirmation.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest answer that is taken.
const ANSWER_BYTES: usize = 8 * 1024;

/// Where to, and what.
pub(crate) struct Load {
    address: SocketAddr,
    requests: Arc<[Bytes]>,
}

/// What came of a run.
pub(crate) struct Measured {
    /// In microseconds; its length is the number of requests.
    pub(crate) latency: Histogram<u64>,
    pub(crate) elapsed: Duration,
    /// The contestant's processor time.
    pub(crate) cpu: Duration,
}

/// What the connections of one run share.
struct Shared {
    latency: Mutex<Histogram<u64>>,
    ending: AtomicBool,
}

impl Load {
    /// Sends these requests in turn.
    pub(crate) fn new(address: SocketAddr, requests: Vec<Bytes>) -> Self {
        Self { address, requests: requests.into() }
    }

    /// Keeps so many connections busy for `time`; `cpu_time` tells how much the contestant has used so far.
    ///
    /// # Errors
    /// Any answer but a 200.
    pub(crate) async fn run(
        &self,
        connections: u32,
        time: Duration,
        cpu_time: impl Fn() -> anyhow::Result<Duration>,
    ) -> anyhow::Result<Measured> {
        let shared = Arc::new(Shared { latency: Mutex::new(histogram()), ending: AtomicBool::new(false) });
        let mut workers = JoinSet::new();
        for number in 0..connections {
            let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
            stream.set_nodelay(true)?;
            let connection = Connection { stream, answer: vec![0; ANSWER_BYTES] };
            // Each begins elsewhere, so that a key is not on all of them at the same time.
            let first = number as usize * 7 % self.requests.len();
            workers.spawn(connection.keep_busy(Arc::clone(&self.requests), first, Arc::clone(&shared)));
        }
        pass(WARM_UP, &mut workers).await?;
        shared.latency().reset();
        let (begun, cpu) = (Instant::now(), cpu_time()?);
        pass(time, &mut workers).await?;
        let latency = std::mem::replace(&mut *shared.latency(), histogram());
        let measured = Measured { latency, elapsed: begun.elapsed(), cpu: cpu_time()?.saturating_sub(cpu) };
        shared.ending.store(true, Ordering::Relaxed);
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        ensure!(!measured.latency.is_empty(), "no answer within {time:?}");
        Ok(measured)
    }
}

/// Lets a time pass while all workers work; one that ends before has failed.
async fn pass(time: Duration, workers: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match timeout(time, workers.join_next()).await {
        Err(_passed) => Ok(()),
        Ok(Some(ended)) => ended?.and_then(|()| bail!("a connection ended before its time")),
        Ok(None) => bail!("there are no connections"),
    }
}

/// Up to a minute, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid")
}

impl Shared {
    fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn keep_busy(
        mut self,
        requests: Arc<[Bytes]>,
        first: usize,
        shared: Arc<Shared>,
    ) -> anyhow::Result<()> {
        for request in requests.iter().cycle().skip(first) {
            if shared.ending.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            timeout(PATIENCE, self.exchange(request)).await.context("no answer in time")??;
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.latency().saturating_record(micros);
        }
        Ok(())
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.answer[filled..]).await?;
            ensure!(read > 0, "the connection was closed in the middle of an answer");
            filled += read;
            if is_whole(&self.answer[..filled])? {
                return Ok(());
            }
            ensure!(filled < ANSWER_BYTES, "an answer of more than {ANSWER_BYTES} bytes");
        }
    }
}

/// Whether an answer has arrived to its end.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let Some(head) = answer.windows(BLANK.len()).position(|window| window == BLANK) else { return Ok(false) };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("expected 200, got: {}", String::from_utf8_lossy(answer));
    }
    let length = length(&answer[..head]).context("an answer without content-length")?;
    let expected = head + BLANK.len() + length;
    ensure!(answer.len() <= expected, "more bytes than the answer has");
    Ok(answer.len() == expected)
}

fn length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let start = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME))? + NAME.len();
    let digits = head[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&head[start..start + digits]).ok()?.parse().ok()
}
