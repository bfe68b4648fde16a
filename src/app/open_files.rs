//! The limit of open files. Each connection is an open file, and most systems start a program with a limit of 1024, which the
//! program may raise. At the limit, new connections wait until others end.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Number of open files beside the connections of deliveries: listeners, brokers, threads, files of secrets.
const OTHERS: u64 = 100;

/// Raises the limit to the system's maximum, and warns if that is less than `max_in_flight` deliveries need.
pub fn raise_limit(max_in_flight: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let wanted = max_in_flight as u64 + OTHERS;
    // `None` means unlimited.
    match limit.filter(|&limit| limit < wanted) {
        Some(limit) => tracing::warn!(
            limit,
            wanted,
            "fewer files may be open than ingress.max_in_flight needs for its connections; raise the hard limit (ulimit -Hn, LimitNOFILE)"
        ),
        None => tracing::debug!(before = ?current, now = ?limit, "the limit of open files is raised"),
    }
}
