//! Waits of the client, which can last minutes: each has a reason, and a command can show it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

/// Minimum length of a wait that is shown.
const SHOWN: Duration = Duration::from_secs(2);

/// Minimum length of a wait that is logged: a wait for a limit or `Retry-After`, not the back-off between attempts.
const LOGGED: Duration = Duration::from_secs(10);

/// A function that shows a wait: its length, and its reason, which continues "waiting for". The result is dropped when the wait ends.
pub type ShowWait = Arc<dyn Fn(Duration, &str) -> Box<dyn Any + Send> + Send + Sync>;

/// The waits of one client.
#[derive(Clone, Default)]
pub(super) struct Waits(pub(super) Option<ShowWait>);

impl Waits {
    /// Waits for `duration`. `reason` continues "waiting for".
    pub(super) async fn sleep(&self, duration: Duration, reason: &str) {
        let is_shown = duration >= SHOWN;
        let _shown = self.0.as_ref().filter(|_| is_shown).map(|show| show(duration, reason));
        if duration >= LOGGED {
            tracing::info!("waiting {} s for {reason}", duration.as_secs());
        }
        sleep(duration).await;
    }
}
