//! Free ports on loopback, for listeners that somebody else opens a moment later.
//!
//! They are taken from below the range the system uses for outgoing connections: a client that keeps trying
//! to reach a broker which is down would otherwise be given the broker's own port some day, connect to itself
//! and keep the broker from coming back. Chance chooses, a bind proves, and no port is given out twice in one
//! process. Another process may still be faster; whoever opens the listener has to be prepared to ask again.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Linux gives out 32768 and up, macOS 49152 and up.
const PORTS: Range<u16> = 12_000..32_000;

/// More than this many in use one after the other means that something else is wrong.
const ATTEMPTS: usize = 1_000;

/// A port of 127.0.0.1 on which nothing listens.
pub(crate) fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    for attempt in 0..ATTEMPTS {
        // Each RandomState has keys of its own: randomness without a crate.
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
