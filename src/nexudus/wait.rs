//! Waits of the client, which can last minutes: each names its reason, and a watcher can show it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

/// Minimum length of a wait that the watcher gets.
const SHOWN: Duration = Duration::from_secs(2);

/// Minimum length of a wait that is logged: a wait for a limit or `Retry-After`, not the back-off between attempts.
const LOGGED: Duration = Duration::from_secs(10);

/// A wait that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Its length.
    pub duration: Duration,
    /// Its reason, which continues the words "waiting for".
    pub reason: String,
}

/// A function that is called with each wait that begins, and with `None` when it ends.
pub type Watcher = Arc<dyn Fn(Option<&Wait>) + Send + Sync>;

/// The waits of one client.
#[derive(Clone, Default)]
pub(super) struct Waits {
    pub(super) watcher: Option<Watcher>,
}

/// Reports the end of a wait to the watcher, also if the wait is cancelled.
struct Ending<'a>(&'a Watcher);

impl Waits {
    /// Waits for `duration` and reports the wait. `reason` continues the words "waiting for".
    pub(super) async fn sleep(&self, duration: Duration, reason: String) {
        if duration < SHOWN {
            return sleep(duration).await;
        }
        let wait = Wait { duration, reason };
        if duration >= LOGGED {
            tracing::info!("waiting {} s for {}", duration.as_secs(), wait.reason);
        }
        let _ending = self.watcher.as_ref().map(|watcher| {
            watcher(Some(&wait));
            Ending(watcher)
        });
        sleep(duration).await;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        (self.0)(None);
    }
}
