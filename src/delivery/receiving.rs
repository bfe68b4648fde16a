//! Receive, second half: a delivery with an accepted head, whose body has not arrived yet.
//!
//! A [`Receiving`] is counted exactly once: as refused, as the outcome of `Bridge::handle`, or, if it is dropped before,
//! as [`Outcome::Incomplete`]. actix-web drops a request if its connection is reset or idle for too long, and at a shutdown
//! that does not wait. Only the drop can count these.

use std::sync::Arc;

use bytes::Bytes;

use super::address::Addressed;
use super::admission::Permit;
use super::{Bridge, Receipt, Refusal};
use crate::outcome::Outcome;

/// A delivery that waits for its body.
#[must_use = "dropped, it counts as incomplete"]
pub struct Receiving {
    bridge: Arc<Bridge>,
    /// Present until the delivery is counted.
    addressed: Option<Addressed>,
}

impl Receiving {
    pub(super) fn new(bridge: Arc<Bridge>, addressed: Addressed) -> Self {
        Self { bridge, addressed: Some(addressed) }
    }

    /// Refuses the delivery, and returns the refusal, counted and reported.
    pub fn refuse(mut self, refusal: Refusal) -> Refusal {
        self.count(&refusal);
        refusal
    }

    /// Hands the body on to the next stages.
    ///
    /// # Errors
    /// As `Bridge::handle`.
    pub async fn received(mut self, body: Bytes, permit: Permit) -> Result<Receipt, Refusal> {
        let addressed = self.addressed.take().expect("it is taken with the value itself");
        self.bridge.handle(addressed, body, permit).await
    }

    fn count(&mut self, refusal: &Refusal) {
        if let Some(addressed) = self.addressed.take() {
            self.bridge.refused_when_addressed(&addressed, refusal);
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.count(&Refusal::new(Outcome::Incomplete, "the connection ended before the body did"));
    }
}
