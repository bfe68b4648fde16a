//! A TCP proxy that disturbs connections as a network does: cut, stalled, slow, or without answers.
//!
//! It has a thread and a runtime of its own, so a test that blocks does not stop it. A change is in force when its method
//! returns. The order and the values of bytes never change. Bytes that are in transit when the proxy stalls are delivered after
//! [`Proxy::restore`]. Bytes that are in transit at a cut are lost, as in a router.
//!
//! A Kafka client connects to the advertised address, so a proxy needs a broker from `OwnBroker::start_behind`.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::kafka::free_port;

/// Maximum number of bytes in one read.
const CHUNK_BYTES: usize = 16 * 1024;

/// Maximum number of chunks in transit in one direction of one connection (1 MiB). Further bytes wait in the sender's socket.
const CHUNKS_IN_FLIGHT: usize = 64;

/// A running proxy. Dropping it closes everything.
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Whole,
    /// No listener and no connections.
    Cut,
    /// Connections are accepted, but no bytes pass.
    Stalled,
    /// Bytes from clients pass; answers do not.
    AnswersHeld,
}

#[derive(Clone, Copy, Debug)]
struct Conditions {
    network: Network,
    delay: Duration,
    target: SocketAddr,
}

/// A change of the conditions, and the channel that reports when it is in force.
struct Order {
    change: Box<dyn FnOnce(&mut Conditions) + Send>,
    done: Sender<()>,
}

/// The direction of bytes.
#[derive(Clone, Copy)]
enum Direction {
    ToTarget,
    ToClient,
}

impl Proxy {
    /// Starts a proxy on a free loopback port, which passes everything on to `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (listening, ready) = channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime of one thread").block_on(async {
                let (address, listener) = bind_somewhere().await;
                listening.send(address).expect("the caller waits for it");
                serve(address, listener, target, inbox).await;
            });
        });
        let address = ready.recv().expect("the thread sends its address");
        Self { address, orders: Some(orders), thread: Some(thread) }
    }

    /// Returns the address for clients, which never changes.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        self.change(|conditions| conditions.network = Network::Cut);
    }

    /// Keeps and accepts connections, but passes no bytes in either direction.
    pub(crate) fn stall(&self) {
        self.change(|conditions| conditions.network = Network::Stalled);
    }

    /// Passes bytes from clients on and holds the answers: the target has acted, and the client has no result.
    pub(crate) fn hold_answers(&self) {
        self.change(|conditions| conditions.network = Network::AnswersHeld);
    }

    /// Delays all bytes by `delay` in each direction, without changing the throughput.
    pub(crate) fn slow(&self, delay: Duration) {
        self.change(move |conditions| conditions.delay = delay);
    }

    /// Ends every disturbance, and delivers the held bytes.
    pub(crate) fn restore(&self) {
        self.change(|conditions| {
            conditions.network = Network::Whole;
            conditions.delay = Duration::ZERO;
        });
    }

    /// Connects new connections to another target. Open connections keep theirs.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        self.change(move |conditions| conditions.target = target);
    }

    fn change(&self, change: impl FnOnce(&mut Conditions) + Send + 'static) {
        let (done, in_force) = channel();
        let order = Order { change: Box::new(change), done };
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        assert!(sent && in_force.recv().is_ok(), "the proxy's thread has ended");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // The thread panics only if a change panics, and then the test has failed already.
            thread.join().ok();
        }
    }
}

/// Binds a random port; another process may have taken the first choice.
async fn bind_somewhere() -> (SocketAddr, TcpListener) {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        if let Ok(listener) = TcpListener::bind(address).await {
            return (address, listener);
        }
    }
}

/// Accepts connections and orders until the proxy is dropped.
async fn serve(
    address: SocketAddr,
    listener: TcpListener,
    target: SocketAddr,
    mut inbox: mpsc::UnboundedReceiver<Order>,
) {
    let (conditions, _) =
        watch::channel(Conditions { network: Network::Whole, delay: Duration::ZERO, target });
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            order = inbox.recv() => {
                let Some(Order { change, done }) = order else { return };
                conditions.send_modify(change);
                if conditions.borrow().network == Network::Cut {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    let again = TcpListener::bind(address).await;
                    listener = Some(again.expect("the port is still free"));
                }
                // The receiver is gone if the test has panicked.
                done.send(()).ok();
            }
            Some(client) = accept(listener.as_ref()) => {
                connections.spawn(connect(client, conditions.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns the next client; never, while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    let (client, _) = listener?.accept().await.ok()?;
    Some(client)
}

/// Serves one connection until both directions have ended.
async fn connect(client: TcpStream, mut conditions: watch::Receiver<Conditions>) -> io::Result<()> {
    let passing = |now: &Conditions| now.network != Network::Stalled;
    let target = conditions.wait_for(passing).await.map_err(io::Error::other)?.target;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // An error in one direction ends the other, too: a reset closes the whole connection.
    tokio::try_join!(
        pass(Direction::ToTarget, from_client, to_server, conditions.clone()),
        pass(Direction::ToClient, from_server, to_client, conditions),
    )?;
    Ok(())
}

/// Passes the bytes of one direction on. Chunks wait in a queue for their time, so a delay does not reduce the throughput.
async fn pass(
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut conditions: watch::Receiver<Conditions>,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            let closed = queue.send((Instant::now(), buffer[..length].to_vec())).await.is_err();
            if length == 0 || closed {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((arrived, chunk)) = queued.recv().await {
            let delay = conditions.borrow().delay;
            tokio::time::sleep_until(arrived + delay).await;
            conditions.wait_for(|now| passes(direction, now.network)).await.map_err(io::Error::other)?;
            if chunk.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

fn passes(direction: Direction, network: Network) -> bool {
    match direction {
        Direction::ToTarget => !matches!(network, Network::Stalled | Network::Cut),
        Direction::ToClient => network == Network::Whole,
    }
}
