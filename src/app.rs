//! The application: makes running listeners from a configuration, and stops them in order.
//!
//! [`App::build`] binds the addresses before it returns: port 0 works, and the error of a used port names the port. [`App::run`]
//! serves until a stop is requested. Then `/readyz` answers 503, and the bridge accepts deliveries for `shutdown_delay`. After
//! that it refuses connections, confirms the deliveries in flight within `shutdown_grace`, and flushes the producer.

pub mod dev;
pub mod embedded;
pub mod open_files;
pub mod reload;
pub mod signals;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::config::{Config, Ingress};
use crate::delivery::Bridge;
use crate::http::state::{Console, State};
use crate::http::tls::Certificate;
use crate::http::{Listening, serve_admin, serve_ingress};
use crate::kafka::preparation::Preparation;
use crate::kafka::producer::Producer;
use crate::kafka::settings::{library_version, queue_limits};
use crate::kafka::status::Status;
use crate::kafka::watch::Watch;
use crate::metrics::Metrics;
use crate::outage::Outages;
use crate::telemetry::trace::Traces;
use crate::token::{TokenError, TokenServer};
use crate::vital::Vital;
use crate::webhooks::guardian::Guardian;

/// Minimum and maximum time for the last traces to reach the collector, after all deliveries are settled. Between the two, the
/// traces have the rest of the grace period.
const LAST_TRACES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// Name of the vital part that a reload restarts.
const TOKENS: &str = "the task that fetches tokens";

/// Length of the accept queue; most systems limit it to 4096.
const BACKLOG: u32 = 2048;

/// A listening bridge.
pub struct App {
    config: Config,
    ingress: Listening,
    admin: Listening,
    state: Arc<State>,
    certificate: Option<Arc<Certificate>>,
    bridge: Arc<Bridge>,
    producer: Arc<Producer>,
    topics: Arc<Preparation>,
    traces: Option<Arc<Traces>>,
    guardian: Arc<Guardian>,
}

/// The reason why a bridge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The bridge cannot listen on an address.
    #[error("{key} = {address} cannot be listened on: {error}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("ingress.tls_cert and ingress.tls_key cannot be used: {0}")]
    Tls(String),
    /// librdkafka refuses the configuration as a whole.
    #[error("[kafka] is refused by librdkafka: {0}")]
    Kafka(String),
    /// Traces cannot be sent to any collector.
    #[error("[telemetry] cannot be used: {0}")]
    Telemetry(String),
    /// Tokens cannot be fetched from any token server.
    #[error("[kafka.oauth] cannot be used: {0}")]
    Token(#[from] TokenError),
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All deliveries in flight were settled.
    Drained,
    /// The grace period ended too early, or a second signal arrived. Holds the number of unsettled deliveries.
    Left(usize),
    /// A listener or another vital part failed; the rest has stopped in order.
    Failed,
}

impl App {
    /// Binds the addresses and makes all parts. Must be called inside the tokio runtime of the bridge.
    ///
    /// # Errors
    /// [`BuildError`], before anything is served.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let metrics = Arc::new(Metrics::new(&library_version()));
        metrics.limits(&config, queue_limits(&config));
        let status = Arc::new(Status::default());
        let certificate = read_certificate(&config, &metrics)?;
        if let Some(warning) = certificate.as_ref().and_then(|certificate| certificate.warning()) {
            tracing::warn!("{warning}");
        }
        let traces = start_traces(&config)?.map(Arc::new);
        let producer =
            Producer::new(&config, Arc::clone(&status), Arc::clone(&metrics)).map_err(BuildError::Kafka)?;
        let vital = Vital::default();
        if let Some(oauth) = &config.kafka.oauth {
            producer.sign_in(oauth, Some(vital.part(TOKENS)))?;
        }
        let failed = |key, address| move |error| BuildError::Listen { key, address, error };
        let ingress_failed = failed("ingress.listen", config.ingress.listen);
        let admin_failed = failed("admin.listen", config.admin.listen);
        let ingress_listener = listen(config.ingress.listen).map_err(ingress_failed)?;
        let admin_listener = listen(config.admin.listen).map_err(admin_failed)?;
        let bridge = Bridge::new(&config, Arc::clone(&producer), Arc::clone(&metrics), traces.clone());
        let bridge = Arc::new(bridge);
        let console = Console::new(&config, &bridge);
        let outages = Arc::new(Outages::default());
        let state = Arc::new(State {
            metrics: Arc::clone(&metrics),
            status: Arc::clone(&status),
            admission: Arc::clone(&bridge.admission),
            outages: Arc::clone(&outages),
            console,
            vital: vital.clone(),
            is_stopping: AtomicBool::new(false),
        });
        let (probe, part) = (config.topics.quarantine(), vital.part("the Kafka watch"));
        let watch = Watch::start(Arc::clone(&producer), Arc::clone(&metrics), probe, &config, part);
        let topics = Arc::new(Preparation::new(&config, status, watch));
        let ingress =
            serve_ingress(ingress_listener, Arc::clone(&bridge), &config.ingress, certificate.clone())
                .map_err(ingress_failed)?;
        let admin = serve_admin(admin_listener, Arc::clone(&state)).map_err(admin_failed)?;
        let is_ready = Arc::clone(&state);
        let part = vital.part("the guardian");
        let guardian = Guardian::start(&config, Arc::clone(&metrics), outages, move || {
            let _held = &part; // the guardian's task drops this closure when it ends
            is_ready.is_ready()
        });
        let guardian = Arc::new(guardian);
        Ok(Self { config, ingress, admin, state, certificate, bridge, producer, topics, traces, guardian })
    }

    /// Returns the address of the ingress.
    pub fn ingress_address(&self) -> SocketAddr {
        self.ingress.address()
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Exports the number of log lines that were dropped because the queue was full, and because writing failed.
    pub fn count_dropped_lines(&self, dropped: Arc<[AtomicU64; 2]>) {
        self.state.metrics.dropped_lines.set(dropped).ok();
    }

    /// Serves until `stop` completes or a vital part fails, then stops in order. If `abort` completes, stops at once.
    pub async fn run(self, stop: impl Future<Output = ()>, abort: impl Future<Output = ()>) -> Ended {
        let Self {
            config, mut ingress, mut admin, state, bridge, producer, topics, traces, guardian, ..
        } = self;
        tracing::info!(ingress = %ingress.address(), admin = %admin.address(), "the bridge is listening");
        let prepared = Arc::clone(&topics);
        let part = state.vital.part("the task that prepares topics");
        let preparing = tokio::spawn(part.guard(async move { prepared.run().await }));
        let failure = tokio::select! {
            () = stop => None,
            error = ingress.failed() => Some(format!("the ingress listener failed: {error}")),
            error = admin.failed() => Some(format!("the admin listener failed: {error}")),
            reason = state.vital.failed() => Some(reason),
        };
        if let Some(reason) = &failure {
            tracing::error!(reason, "the bridge cannot continue and ends with exit code 1");
        }
        let grace_ends = Instant::now() + config.ingress.shutdown_delay + config.ingress.shutdown_grace;
        state.stop();
        preparing.abort();
        guardian.stop();
        tracing::info!(reason = state.reasons().join("; "), "stopping");
        let drained = tokio::select! {
            drained = stop_accepting(&ingress, &bridge, &config.ingress) => drained,
            () = abort => false,
        };
        let left = bridge.admission.deliveries();
        state.end_streams();
        admin.stop(false).await;
        drop((admin, ingress, topics));
        let time_out = if drained { Duration::from_secs(5) } else { Duration::ZERO };
        let rest = grace_ends.saturating_duration_since(Instant::now());
        let last_traces = if drained { rest.clamp(LAST_TRACES.0, LAST_TRACES.1) } else { Duration::ZERO };
        // These calls block: flushing the producer, and sending the last traces.
        let closed = tokio::task::spawn_blocking(move || {
            let left = producer.close(time_out);
            producer.status.retire();
            if let Some(traces) = traces {
                traces.stop(last_traces);
            }
            left
        })
        .await;
        if drained && closed.is_ok_and(|left| left == 0) {
            tracing::info!("stopped; everything in flight was settled");
            return if failure.is_some() { Ended::Failed } else { Ended::Drained };
        }
        tracing::error!(
            deliveries = left,
            "stopped before everything in flight was settled; Nexudus will send it again"
        );
        Ended::Left(left)
    }
}

/// Stops accepting and waits for the deliveries in flight. Returns whether all were settled in time.
async fn stop_accepting(ingress: &Listening, bridge: &Bridge, config: &Ingress) -> bool {
    tokio::time::sleep(config.shutdown_delay).await;
    let deadline = Instant::now() + config.shutdown_grace;
    bridge.admission.close();
    // First the connections, so that answers reach their clients; then the deliveries whose clients have disconnected.
    let connections = tokio::time::timeout_at(deadline, ingress.stop(true)).await;
    let settled = tokio::time::timeout_at(deadline, bridge.admission.drained()).await;
    connections.is_ok() && settled.is_ok()
}

/// Checks what reading a configuration cannot: librdkafka accepts all properties together, and the certificate is usable.
/// Returns further warnings beside [`Config::warnings`].
///
/// # Errors
/// [`BuildError::Kafka`], [`BuildError::Tls`], [`BuildError::Token`], [`BuildError::Telemetry`].
pub fn check(config: &Config) -> Result<Vec<String>, BuildError> {
    let metrics = Arc::new(Metrics::new(&library_version()));
    let warning = read_certificate(config, &metrics)?.and_then(|certificate| certificate.warning());
    config.kafka.oauth.as_ref().map(TokenServer::new).transpose()?;
    start_traces(config)?;
    Producer::new(config, Arc::default(), metrics).map_err(BuildError::Kafka)?;
    Ok(warning.into_iter().collect())
}

fn read_certificate(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<Certificate>>, BuildError> {
    let files = config.ingress.tls.as_ref();
    let read = files.map(|files| Certificate::read(files, Arc::clone(metrics)).map(Arc::new));
    read.transpose().map_err(BuildError::Tls)
}

fn start_traces(config: &Config) -> Result<Option<Traces>, BuildError> {
    let tls = config.ingress.tls.is_some();
    let started = config.telemetry.as_ref().map(|telemetry| Traces::start(telemetry, tls));
    started.transpose().map_err(BuildError::Telemetry)
}

/// Listens like the standard library, but with a longer accept queue. The standard library's queue has 128 entries. A connection
/// that does not fit is dropped, and its client repeats it after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Without this option, connections of the former process would keep the port in use.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests;
