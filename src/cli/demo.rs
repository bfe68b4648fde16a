//! `demo`: starts a bridge with an embedded broker, and prints the result of [`crate::demo`].

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;

use super::output::{self, Exit, Output, duration, table};
use crate::app::dev;
use crate::app::embedded::embed;
use crate::app::{App, Ended};
use crate::config::Config;
use crate::config::load::process_environment;
use crate::demo::{self, Row};

/// Runs the command. Exit code 0 if every delivery was confirmed, and its event was read back byte for byte.
pub(super) async fn run(file: Option<&Path>, out: &mut Output) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let mut config = dev::configuration(file, process_environment())?;
    let any_port = (Ipv4Addr::LOCALHOST, 0).into();
    (config.ingress.listen, config.admin.listen) = (any_port, any_port);
    let broker = embed(&mut config, None)?;
    let app = App::build(config.clone())?;
    let base = format!("http://{}", app.ingress_address());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let rows = demo::run(&config, &base).await?;
    drop(stop);
    let ended = running.await.context("the task of the bridge has failed")?;
    drop(broker);
    let differing = print(out, &rows, started.elapsed(), &config);
    if ended != Ended::Drained {
        bail!("the bridge did not stop in order: {ended:?}");
    }
    Ok(Exit::of(differing == 0))
}

/// Prints the table and the summary. Returns the number of events that are not identical.
fn print(out: &mut Output, rows: &[Row], elapsed: Duration, config: &Config) -> usize {
    let cells = |row: &Row| {
        let [topic, partition, offset] = match &row.confirmed {
            Some(event) => [event.topic.clone(), event.partition.to_string(), output::offset(event.offset)],
            None => ["-"; 3].map(str::to_owned),
        };
        let result = row.mistake.as_deref().unwrap_or("identical");
        let (bytes, latency) = ((row.body.len() - 2).to_string(), duration(row.latency));
        [row.entry.name.to_owned(), topic, partition, offset, bytes, latency, result.to_owned()]
    };
    let heading = ["ACTION", "TOPIC", ">PARTITION", ">OFFSET", ">BYTES", ">LATENCY", "RESULT"];
    out.block(table(heading, rows.iter().map(cells)));
    let good = rows.iter().filter(|row| row.mistake.is_none()).count();
    let non_ascii = rows.iter().filter(|row| !row.body.is_ascii()).count();
    let mut latencies: Vec<Duration> = rows.iter().map(|row| row.latency).collect();
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    out.block(format_args!(
        "\n{good} of {} deliveries signed as .NET signs ({non_ascii} with non-ASCII text), posted over HTTP, verified, published,\n\
         confirmed, consumed back and found identical byte for byte.\n\
         Median latency {}, {} in all, topics {}*.",
        rows.len(),
        duration(median),
        duration(elapsed),
        config.topics.prefix
    ));
    rows.len() - good
}
