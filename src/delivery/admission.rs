//! Admission: how many deliveries, and how many bytes of their bodies, may be in flight at once.
//!
//! A [`Permit`] is held from a delivery's arrival to its last delivery report, also when its client is long gone, so
//! these two numbers bound what the bridge keeps in memory. Over either bound the answer is a refusal at once: there is
//! no queue that could grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::outcome::Outcome;

/// The bounds, and what is in flight.
#[derive(Debug)]
pub struct Admission {
    most_deliveries: usize,
    most_bytes: usize,
    deliveries: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    left: Notify,
}

/// The right to be in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Admits up to so many deliveries with so many bytes together.
    pub fn new(most_deliveries: usize, most_bytes: usize) -> Self {
        Self {
            most_deliveries,
            most_bytes,
            deliveries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            left: Notify::new(),
        }
    }

    /// Lets a delivery in, its body's bytes not yet counted.
    ///
    /// # Errors
    /// [`Outcome::ShuttingDown`] or [`Outcome::Overloaded`].
    pub fn enter(self: &Arc<Self>) -> Result<Permit, Outcome> {
        let before = self.deliveries.fetch_add(1, Ordering::AcqRel);
        let permit = Permit { admission: Arc::clone(self), bytes: 0 };
        if self.closed.load(Ordering::Acquire) {
            return Err(Outcome::ShuttingDown); // dropping the permit gives the slot back
        }
        if before >= self.most_deliveries {
            return Err(Outcome::Overloaded);
        }
        Ok(permit)
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Deliveries in flight.
    pub fn deliveries(&self) -> usize {
        self.deliveries.load(Ordering::Acquire)
    }

    /// Bytes of their bodies.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Waits until nothing is in flight.
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
    /// [`Outcome::Overloaded`] when there is no room for them.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Outcome> {
        let before = self.admission.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        if before + bytes > self.admission.most_bytes { Err(Outcome::Overloaded) } else { Ok(()) }
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
