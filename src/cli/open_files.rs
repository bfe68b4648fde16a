//! Open files: each connection is one, and most systems start a program with leave for 1024.
//!
//! They let it have more if it asks, which `serve` does. At the limit connections wait to be accepted until others end.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside deliveries' connections: listeners, brokers, threads' own, files that are read now and then.
const OTHERS: u64 = 100;

/// Raises the limit as far as the system allows, and says so when that is not enough for so many deliveries at once.
pub(super) fn raise_limit(max_in_flight: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let wanted = max_in_flight as u64 + OTHERS;
    // None: as many as there can be.
    match limit.filter(|&limit| limit < wanted) {
        Some(limit) => tracing::warn!(
            limit,
            wanted,
            "fewer files may be open than ingress.max_in_flight needs for its connections; raise the hard limit (ulimit -Hn, LimitNOFILE)"
        ),
        None => tracing::debug!(before = ?current, now = ?limit, "the limit of open files is raised"),
    }
}
