//! `serve`: the bridge.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{loaded, open_files};
use crate::app::reload::Reloader;
use crate::app::{App, Ended};
use crate::config::load;
use crate::kafka::settings::check_property;
use crate::telemetry::log;

/// Runs the bridge until SIGTERM or SIGINT; a second one ends it at once.
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(file)?;
    let log = log::start(&loaded.config.log)?;
    match &loaded.file {
        Some(path) => tracing::info!(file = %path.display(), "configuration read"),
        None => tracing::info!("no configuration file; defaults and environment only"),
    }
    open_files::raise_limit(loaded.config.ingress.max_in_flight);
    let signals = Signals::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let app = App::build(loaded.config)?;
    app.count_dropped_lines(log.dropped_lines());
    let reloader = Reloader::new(&app);
    let path = loaded.file;
    let load = move || {
        load::readable_again(path.as_deref())?;
        load::load(path.as_deref(), &load::process_environment(), check_property)
    };
    let reloading = tokio::spawn(reloader.run(load, async move || {
        if hangup.recv().await.is_none() {
            std::future::pending().await
        }
    }));
    let code = until_signal(app, signals).await;
    reloading.abort();
    Ok(code)
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    last: Option<Instant>,
}

/// A second signal so soon is the first one's echo: some supervisors signal a process and its group.
const ECHO: Duration = Duration::from_millis(300);

impl Signals {
    /// Catches both from now on. SIGXFSZ too, which would end the process where the log file reaches a size limit.
    pub(super) fn listen() -> anyhow::Result<Self> {
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?); // caught until the end
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            last: None,
        })
    }

    /// Waits for either.
    pub(super) async fn next(&mut self) {
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
pub(super) async fn until_signal(app: App, signals: Signals) -> ExitCode {
    let signals = tokio::sync::Mutex::new(signals);
    let next = async || signals.lock().await.next().await;
    match app.run(next(), next()).await {
        Ended::Drained => ExitCode::SUCCESS,
        Ended::Left(_) | Ended::Failed => ExitCode::FAILURE,
    }
}
