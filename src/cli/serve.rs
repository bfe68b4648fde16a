//! `serve`: runs the bridge.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::client::loaded;
use super::output::Exit;
use crate::app::reload::Reloader;
use crate::app::signals::{Signals, until_signal};
use crate::app::{App, Ended, open_files};
use crate::config::load;
use crate::kafka::settings::check_property;
use crate::telemetry::log;

/// Runs the bridge until SIGTERM or SIGINT; a second one ends it at once.
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<Exit> {
    let config = loaded(file)?;
    let log = log::start(&config.log)?;
    match &config.file {
        Some(path) => tracing::info!(file = %path.display(), "configuration read"),
        None => tracing::info!("no configuration file; defaults and environment only"),
    }
    open_files::raise_limit(config.ingress.max_in_flight);
    let signals = Signals::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let path = config.file.clone();
    let app = App::build(config)?;
    app.count_dropped_lines(log.dropped_lines());
    let reloader = Reloader::new(&app);
    let load = move || {
        load::readable_again(path.as_deref())?;
        load::load(path.as_deref(), &load::process_environment(), check_property)
    };
    let reloading = tokio::spawn(reloader.run(load, async move || {
        if hangup.recv().await.is_none() {
            std::future::pending().await
        }
    }));
    let ended = until_signal(app, signals).await;
    reloading.abort();
    Ok(Exit::of(ended == Ended::Drained))
}
