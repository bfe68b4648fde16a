//! The signals that stop a program: SIGTERM and SIGINT.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, Ended};

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    last: Option<Instant>,
}

/// A second signal within this time is an echo of the first: some supervisors signal a process and its group.
const ECHO: Duration = Duration::from_millis(300);

impl Signals {
    /// Catches both from now on. Catches SIGXFSZ too, which would end the process where the log file reaches a size limit.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?); // caught until the end
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
        })
    }

    /// Waits for either.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if self.last.is_none_or(|last| last.elapsed() > ECHO) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}

/// Serves until a signal, and stops in order unless a second one comes.
pub async fn until_signal(app: App, signals: Signals) -> Ended {
    let signals = tokio::sync::Mutex::new(signals);
    let next = async || signals.lock().await.next().await;
    app.run(next(), next()).await
}
