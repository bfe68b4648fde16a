//! Takes a delivery from its body to its answer: runs the stages verify, decode, route, publish and confirm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::address::Addressed;
use super::admission::Permit;
use super::decode::MAX_RECORDS;
use super::route::route;
use super::settlement::Settlement;
use super::tally::Tally;
use super::verify::verify;
use super::{Receipt, Refusal};

/// Time between the producer's deadline and the deadline of the answer. The producer's error comes first, since it is more precise.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// A delivery with an accepted head, whose body has not arrived yet.
#[must_use = "dropped, it counts as incomplete"]
pub struct Receiving {
    pub(super) tally: Tally,
    pub(super) addressed: Addressed,
}

impl Receiving {
    /// Refuses the delivery, and returns the refusal, counted and reported.
    pub fn refuse(self, refusal: Refusal) -> Refusal {
        self.tally.refuse(refusal)
    }

    /// Verifies, decodes and publishes the delivery with its body. Returns when every event is confirmed.
    ///
    /// # Errors
    /// The refusal, counted and reported. A time-out means that the events may still be confirmed later.
    pub async fn received(self, body: Bytes, permit: Permit) -> Result<Receipt, Refusal> {
        let Self { mut tally, addressed } = self;
        let bridge = Arc::clone(&tally.bridge);
        let verified = match verify(addressed, body, tally.span.clone()) {
            Ok(verified) => verified,
            Err(refusal) => return Err(tally.refuse(refusal)),
        };
        tally.has_body(&verified);
        let routed = route(&bridge.topics, &verified, MAX_RECORDS, Uuid::now_v7);
        let now = Instant::now();
        let first = bridge.memory.recall(now, || tally.identity());
        let deadline = now + bridge.confirm_timeout + DEADLINE_MARGIN;
        let settling = bridge.settle(verified, routed, permit, first);
        Settlement::new(settling, tally).answer(deadline).await
    }
}
