//! Admission: bounds the number of deliveries in flight, and the bytes of their bodies.
//!
//! A [`Permit`] is held from the arrival of a delivery to its last delivery report, even if the client has disconnected. So the
//! two bounds limit the memory of the bridge. Above a bound a delivery is refused at once: no queue can grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::outcome::Outcome;

/// The bounds, and the deliveries and bytes in flight.
#[derive(Debug)]
pub struct Admission {
    max_deliveries: usize,
    max_bytes: usize,
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    left: Notify,
}

/// The permission of one delivery to be in flight. Dropping the permit ends the permission.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Makes an admission for up to this number of deliveries, with this number of bytes in total.
    pub fn new(max_deliveries: usize, max_bytes: usize) -> Self {
        Self {
            max_deliveries,
            max_bytes,
            deliveries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            left: Notify::new(),
        }
    }

    /// Admits a delivery. The bytes of its body are counted later.
    ///
    /// # Errors
    /// [`Outcome::ShuttingDown`] or [`Outcome::Overloaded`].
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Outcome> {
        let before = self.deliveries.fetch_add(1, Ordering::AcqRel);
        let permit = Permit { admission: Arc::clone(self), bytes: 0 };
        if self.closed.load(Ordering::Acquire) {
            return Err(Outcome::ShuttingDown); // dropping the permit gives the slot back
        }
        if before >= self.max_deliveries {
            return Err(Outcome::Overloaded);
        }
        Ok(permit)
    }

    /// Refuses all further deliveries.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Returns the number of deliveries in flight.
    pub fn deliveries(&self) -> usize {
        self.deliveries.load(Ordering::Acquire)
    }

    /// Returns the number of bytes of the bodies in flight.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Waits until no delivery is in flight.
    pub async fn drained(&self) {
        loop {
            let left = self.left.notified();
            if self.deliveries() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Permit {
    /// Counts bytes of the body, as they arrive.
    ///
    /// # Errors
    /// [`Outcome::Overloaded`] if the bytes exceed the bound.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Outcome> {
        let before = self.admission.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        if before + bytes > self.admission.max_bytes { Err(Outcome::Overloaded) } else { Ok(()) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let before = self.admission.deliveries.fetch_sub(1, Ordering::AcqRel);
        if before == 1 && self.admission.closed.load(Ordering::Acquire) {
            self.admission.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_refuse_at_once_and_room_comes_back() {
        let admission = Arc::new(Admission::new(2, 100));
        let mut first = admission.enter().unwrap();
        let second = admission.enter().unwrap();
        assert_eq!(admission.enter().unwrap_err(), Outcome::Overloaded);
        drop(second);
        let mut second = admission.enter().unwrap();
        assert_eq!(first.grow(60), Ok(()));
        assert_eq!(second.grow(41), Err(Outcome::Overloaded));
        drop(second);
        assert_eq!((admission.deliveries(), admission.bytes()), (1, 60));
        assert_eq!(first.grow(40), Ok(()));
        drop(first);
        assert_eq!((admission.deliveries(), admission.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn closing_refuses_and_waits_for_what_is_in_flight() {
        let admission = Arc::new(Admission::new(2, 100));
        let permit = admission.enter().unwrap();
        admission.close();
        assert_eq!(admission.enter().unwrap_err(), Outcome::ShuttingDown);
        let drained = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(permit);
        drained.await.unwrap();
    }
}
