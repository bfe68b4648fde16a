//! A delivery from its publication to its answer, and to its last delivery report.
//!
//! A [`Settlement`] is a future in the task of the request. If the client disconnects or the deadline passes, its drop moves
//! the rest to the runtime. So a confirmation is never cancelled, the permit is held until the last delivery report, and a
//! retry finds the first attempt ([`super::redelivery`]).

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

use super::tally::Tally;
use super::{Receipt, Refusal};

/// A delivery that is being published. If it is dropped before its end, it continues in the bridge's runtime.
pub(super) struct Settlement(Option<(BoxFuture<'static, Result<Receipt, Refusal>>, Tally)>);

impl Settlement {
    pub(super) fn new(
        settling: impl Future<Output = Result<Receipt, Refusal>> + Send + 'static,
        tally: Tally,
    ) -> Self {
        Self(Some((Box::pin(settling), tally)))
    }

    /// Waits for the result until the deadline of the answer.
    pub(super) async fn answer(mut self, deadline: Instant) -> Result<Receipt, Refusal> {
        let (settling, tally) = self.0.as_mut().expect("present until the end");
        let settled = tokio::time::timeout_at(deadline.into(), settling).await;
        let is_settled = settled.is_ok();
        let result = settled.unwrap_or_else(|_| Err(tally.bridge.late()));
        tally.answered(result.as_ref());
        if is_settled {
            self.0 = None;
        }
        result
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let Some((settling, mut tally)) = self.0.take() else { return };
        let bridge = Arc::clone(&tally.bridge);
        let remember = |identity| bridge.memory.remember(Instant::now(), identity);
        let unanswered = tally.identity().and_then(remember);
        drop(bridge.runtime.spawn(async move {
            let result = settling.await;
            if let (Some(unanswered), Ok(receipt)) = (unanswered, &result) {
                unanswered.confirmed(Instant::now(), receipt);
            }
            tally.answered(result.as_ref());
        }));
    }
}
