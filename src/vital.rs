//! Threads and tasks without which the bridge cannot work.
//!
//! A panic ends one thread or task and leaves the rest of the process running. So each of them holds a [`Part`]. After the first
//! panic `/readyz` answers 503 with the reason, and the process stops in order with exit code 1. Then its supervisor starts it again.

use std::io;
use std::thread;

use tokio::sync::watch;

/// The vital threads and tasks of one bridge.
#[derive(Debug, Clone, Default)]
pub struct Vital {
    failure: watch::Sender<Option<String>>,
}

/// A guard that one thread or task holds. If a panic drops it, it reports the panic; any other end is in order.
#[derive(Debug)]
#[must_use = "a thread or task holds it until its end"]
pub struct Part {
    name: &'static str,
    failure: watch::Sender<Option<String>>,
}

impl Vital {
    /// Returns a part for the thread or task of this name.
    pub fn part(&self, name: &'static str) -> Part {
        Part { name, failure: self.failure.clone() }
    }

    /// Returns the reason why the bridge must end; `None` while all vital parts run.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until a vital part panics, and returns the reason.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => std::future::pending().await, // unreachable: `self` has a sender
        }
    }
}

impl Part {
    /// Runs `work`, and holds this part until its end.
    pub async fn guard<F: Future>(self, work: F) -> F::Output {
        let _part = self;
        work.await
    }

    /// Starts a thread that holds this part until its end.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(self, thread_name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(thread_name.to_owned());
        thread.spawn(move || {
            let _part = self;
            work();
        })?;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failure.send_if_modified(|failure| {
                let is_first = failure.is_none();
                failure.get_or_insert_with(|| format!("{} has panicked", self.name));
                is_first
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_panic_of_a_thread_or_task_is_reported_and_other_ends_are_not() {
        let vital = Vital::default();
        vital.part("a thread that ends").spawn("ends", || {}).expect("a thread");
        let task = tokio::spawn(vital.part("a task that is aborted").guard(std::future::pending::<()>()));
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        assert_eq!(vital.failure(), None);

        let task = tokio::spawn(vital.part("the task").guard(async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        }));
        assert_eq!(vital.failed().await, "the task has panicked");
        assert!(task.await.expect_err("panicked").is_panic());

        let other = Vital::default();
        let (both, ended) = (vital.part("the thread"), std::sync::mpsc::channel::<()>());
        let (held, has_ended) = ended;
        let part = other.part("the thread");
        both.spawn("panics", move || {
            let _held = (held, part);
            panic!("on purpose");
        })
        .expect("a thread");
        assert_eq!(other.failed().await, "the thread has panicked");
        has_ended.recv().expect_err("nothing is sent");
        assert_eq!(vital.failure().as_deref(), Some("the task has panicked"), "the first reason stays");
    }
}
