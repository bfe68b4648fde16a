//! `demo`: starts a bridge on an embedded broker, and prints what [`crate::demo`] finds.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;

use super::dev::ANY_PORT;
use super::output::{self, Output};
use crate::app::dev;
use crate::app::embedded::embed;
use crate::app::{App, Ended};
use crate::config::Config;
use crate::config::load::process_environment;
use crate::demo::{self, Row};

/// Exit code 0 when every delivery was confirmed and came back byte for byte.
pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut config = dev::configuration(file, process_environment())?;
    config.ingress.listen = ANY_PORT.into();
    config.admin.listen = ANY_PORT.into();
    let broker = embed(&mut config, None)?;
    let app = App::build(config.clone())?;
    let base = format!("http://{}", app.ingress_address());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let rows = demo::run(&config, &base).await?;
    drop(stop);
    let ended = running.await.context("the bridge broke off")?;
    drop(broker);
    let mut out = Output::stdout();
    let differing = print(&mut out, &rows, started.elapsed(), &config);
    if ended != Ended::Drained {
        bail!("the bridge did not stop in order: {ended:?}");
    }
    out.end(output::exit(differing == 0))
}

/// Prints the table and the summary. Returns the number of events that are not identical.
fn print(out: &mut Output, rows: &[Row], elapsed: Duration, config: &Config) -> usize {
    let mut table =
        output::Table::new(["ACTION", "TOPIC", ">PARTITION", ">OFFSET", ">BYTES", ">LATENCY", "RESULT"]);
    for row in rows {
        let (position, result) = match &row.confirmed {
            Ok(event) => {
                let position =
                    [event.topic.clone(), event.partition.to_string(), output::offset(event.offset)];
                (position, row.difference.as_deref().unwrap_or("identical"))
            }
            Err(refusal) => (["-"; 3].map(str::to_owned), refusal.as_str()),
        };
        let [topic, partition, offset] = position;
        let (bytes, latency) = ((row.body.len() - 2).to_string(), output::duration(row.latency));
        table.row([row.entry.name.to_owned(), topic, partition, offset, bytes, latency, result.to_owned()]);
    }
    let good = rows.iter().filter(|row| row.is_identical()).count();
    let non_ascii = rows.iter().filter(|row| !row.body.is_ascii()).count();
    let mut latencies: Vec<Duration> = rows.iter().map(|row| row.latency).collect();
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    out.block(table);
    out.block(format_args!(
        "\n{good} of {} deliveries signed as .NET signs ({non_ascii} with non-ASCII text), posted over HTTP, verified, published,\n\
         confirmed, consumed back and found identical byte for byte.\n\
         Median latency {}, {} in all, topics {}*.",
        rows.len(),
        output::duration(median),
        output::duration(elapsed),
        config.topics.prefix
    ));
    rows.len() - good
}
