//! Free ports on loopback, for listeners that another process opens a moment later.
//!
//! The ports are below the range that the system uses for outgoing connections. Otherwise a client that connects to a stopped
//! broker could get the broker's own port, connect to itself, and block the port for the broker. A port is chosen at random,
//! tested with a bind, and returned only once in a process. Another process can still take the port first, so a caller has to be
//! prepared to try again with another port.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The range of ports. Linux uses 32768 and above for outgoing connections, macOS 49152 and above.
const PORTS: Range<u16> = 12_000..32_000;

/// Maximum number of attempts. More used ports in a row mean that something else is wrong.
const ATTEMPTS: usize = 1_000;

/// Returns a port of 127.0.0.1 on which nothing listens.
pub(crate) fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    for attempt in 0..ATTEMPTS {
        // Each `RandomState` has random keys of its own, so no crate for random numbers is needed.
        let random = RandomState::new().hash_one(attempt);
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random % span).expect("less than the span, which is an u16");
        let fresh = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if fresh && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {} and {} in {ATTEMPTS} attempts", PORTS.start, PORTS.end);
}
