//! `serve`: the bridge.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::loaded;
use crate::app::{App, Ended};
use crate::telemetry;

/// Runs the bridge until SIGTERM or SIGINT; a second one ends it at once.
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(file)?;
    telemetry::start(&loaded.config.log);
    match &loaded.file {
        Some(path) => tracing::info!(file = %path.display(), "configuration read"),
        None => tracing::info!("no configuration file; defaults and environment only"),
    }
    let signals = Signals::listen()?;
    let app = App::build(loaded.config)?;
    Ok(until_signal(app, signals).await)
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches both from now on.
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until a signal, and stops in order unless a second one comes.
pub(super) async fn until_signal(app: App, signals: Signals) -> ExitCode {
    let signals = tokio::sync::Mutex::new(signals);
    let next = async || signals.lock().await.next().await;
    match app.run(next(), next()).await {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Left(_) | Ended::Failed => ExitCode::FAILURE,
    }
}
