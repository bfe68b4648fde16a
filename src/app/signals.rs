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

/// A second signal within this time is a repetition of the first: some supervisors signal a process and its group.
const REPEATED_WITHIN: Duration = Duration::from_millis(300);

impl Signals {
    /// Catches both signals from now on. Also catches SIGXFSZ, which would end the process when the log file reaches a size limit.
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

    /// Waits for one of the two signals.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if self.last.is_none_or(|last| last.elapsed() > REPEATED_WITHIN) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}

/// Serves until a signal, and stops in order. A second signal ends the stop at once.
pub async fn until_signal(app: App, signals: Signals) -> Ended {
    let signals = tokio::sync::Mutex::new(signals);
    let next = async || signals.lock().await.next().await;
    app.run(next(), next()).await
}
