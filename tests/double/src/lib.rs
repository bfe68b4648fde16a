//! A double of Nexudus: its REST API with the manners that are documented or were seen, and the sender of its webhooks
//! with retries, `ErrorCount` and disabling. For tests, and for the five-minute tour. No real Nexudus is ever asked.
//!
//! [`Nexudus::start`] gives a server on loopback; it derefs to its [`World`], which tests and the tour act on:
//!
//! ```no_run
//! use nexudus_double::{Fault, Effect, Limits, Matching, Nexudus, Options, demo};
//!
//! let nexudus = Nexudus::start(Options { limits: Limits::NONE, ..Options::default() })?;
//! nexudus.populate(Some("shared secret"));
//! nexudus.add_webhook(demo::LOCATIONS[0], "BookingCreate", "http://127.0.0.1:8080/webhooks/BookingCreate", true)?;
//! let booking = nexudus.example("Booking", demo::LOCATIONS[0])?;
//! nexudus.create("Booking", demo::LOCATIONS[0], booking)?; // is posted to the webhook
//! nexudus.fault(Matching::post("/api/sys/webhooks"), Fault::Cut(Effect::Done)); // the next create's answer is lost
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: `record`, `kinds`, `message`, `manners` and `faults` are data; `state` holds all of it behind one lock;
//! `records` changes it as people do; `api` answers requests with `token` and `list`; `send` posts deliveries; `server` knows
//! HTTP; `tour` is the tour. Where the documentation is silent or its pages disagree, [`Manners`] has a switch.

mod api;
pub mod demo;
mod faults;
mod kinds;
mod list;
mod manners;
mod message;
mod record;
mod records;
mod send;
mod server;
mod state;
mod token;
pub mod tour;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::thread;

use actix_web::rt::System;
use tokio::sync::oneshot;

pub use self::faults::{Effect, Fault, Matching, RetryAfter};
pub use self::manners::{Client, CreatedValue, EnumValues, Limits, Manners, Missing, TextFilters, Wire};
pub use self::message::{Entry, Journal};
pub use self::record::{NotARecord, Record};
pub use self::records::{Unknown, Webhook};
pub use self::state::{Attempt, Happened, Lever, Missed, Options, Sending, Why, World};
pub use self::token::{Account, Roles};

/// A running double. Dropping it stops it, without waiting for that.
pub struct Nexudus {
    world: Arc<World>,
    address: SocketAddr,
    /// Dropping it is the signal.
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Nexudus {
    /// Starts one, on a thread of its own; it takes requests when this returns.
    ///
    /// # Errors
    /// The port is taken, or a thread or client cannot be made.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let client = nexudus_bridge::sender::client(options.sending.timeout).map_err(io::Error::other)?;
        let (queue, deliveries) = tokio::sync::mpsc::unbounded_channel();
        let world = Arc::new(World::new(options, queue));
        let (stop, is_stopped) = oneshot::channel::<()>();
        let (has_stopped, stopped) = oneshot::channel();
        let (started, has_started) = mpsc::sync_channel(1);
        let inside = Arc::clone(&world);
        thread::Builder::new().name("nexudus-double".to_owned()).spawn(move || {
            System::new().block_on(async move {
                let server = match server::server(listener, Arc::clone(&inside)) {
                    Ok(server) => server,
                    Err(error) => return drop(started.send(Err(error))),
                };
                started.send(Ok(())).ok(); // whoever waits is there
                let handle = server.handle();
                let serving = actix_web::rt::spawn(server);
                tokio::select! {
                    _ = is_stopped => {} // an error says that the double was dropped
                    () = send::run(inside, client, deliveries) => {}
                }
                handle.stop(false).await;
                serving.await.ok(); // it has ended
                has_stopped.send(()).ok(); // whoever dropped it does not wait
            });
        })?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(Self { world, address, stop, stopped })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The origin for `nexudus.base_url`, such as `http://127.0.0.1:12345`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it knows, to keep beside it.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// Stops it and waits until it takes no request and sends no delivery any more.
    pub async fn stop(self) {
        let Self { stop, stopped, .. } = self;
        drop(stop);
        stopped.await.ok(); // an error says that its thread has ended
    }
}

impl Deref for Nexudus {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}
