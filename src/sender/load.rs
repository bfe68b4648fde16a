//! Load: many deliveries at once, and their results.
//!
//! A given number of workers post one delivery after the other. With a rate, delivery `n` is due at `n / rate`, and its latency
//! counts from this time. So the latencies include the wait of all deliveries that a slow bridge delays. One collector counts the
//! results; workers share only the number of the next delivery.

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::post::{Answer, Poster};

/// Maximum latency that is recorded: an hour.
const LONGEST_LATENCY_MICROS: u64 = 3_600_000_000;

/// The quantiles of the latency that are reported.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// The number of deliveries, and their rate.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Number of deliveries.
    pub count: u64,
    /// Maximum number of deliveries in flight.
    pub concurrency: NonZeroUsize,
    /// Deliveries per second; `None`: as fast as the answers arrive.
    pub rate: Option<f64>,
}

/// One delivery and its result.
#[derive(Debug)]
pub struct SentDelivery {
    /// Its number, from 0.
    pub number: u64,
    /// The sent delivery.
    pub delivery: Delivery,
    /// The answer. With a rate, the latency counts from when the delivery was due.
    pub answer: Answer,
}

/// The summary of all deliveries.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Number of deliveries.
    pub deliveries: u64,
    /// Number of deliveries that the bridge answered 2xx.
    pub accepted: u64,
    /// Number of confirmed events, on the quarantine topic or their own.
    pub events: u64,
    /// Number of POSTs, retries included.
    pub attempts: u64,
    /// By kind of answer.
    pub answers: BTreeMap<String, AnswerCount>,
    /// The latencies of the 2xx answers, in microseconds.
    pub latency: Histogram<u64>,
    /// The longest latency of all answers, 2xx or not, and the time of this answer, from the start.
    pub longest: Option<(Duration, Duration)>,
    /// Time from the first delivery to the last answer.
    pub elapsed: Duration,
}

/// One kind of answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerCount {
    /// Number of answers.
    pub count: u64,
    /// True if all answers were 2xx.
    pub accepted: bool,
    /// The first refusal of this kind, after the name of its action.
    pub example: Option<String>,
}

/// Sends deliveries until all are done or `stop` completes. `make` makes the delivery of a number. `on_answer` is called with each
/// result in the order of arrival. Deliveries in flight at `stop` are cancelled and not counted.
pub async fn run(
    poster: &Poster,
    plan: Load,
    make: impl Fn(u64) -> Delivery + Send + Sync + 'static,
    stop: impl Future<Output = ()>,
    mut on_answer: impl FnMut(&SentDelivery),
) -> Summary {
    /// Maximum number of results that wait. A slow collector slows the workers down, so the memory is bounded.
    const RESULTS: usize = 1024;
    let (report, mut results) = mpsc::channel(RESULTS);
    let begun = Instant::now();
    let work = Arc::new(Work { poster: poster.clone(), plan, make, begun, next: AtomicU64::new(0) });
    let mut workers = JoinSet::new();
    let useful = usize::try_from(plan.count).unwrap_or(usize::MAX).min(plan.concurrency.get());
    for _ in 0..useful {
        workers.spawn(work.clone().until_done(report.clone()));
    }
    drop(report); // the channel closes when the last worker ends
    let mut summary = Summary::empty();
    let collect = async {
        while let Some(done) = results.recv().await {
            summary.count(&done, begun.elapsed());
            on_answer(&done);
        }
    };
    tokio::select! {
        () = collect => {}
        () = stop => {}
    }
    summary.elapsed = begun.elapsed();
    summary
}

struct Work<M> {
    poster: Poster,
    plan: Load,
    make: M,
    begun: Instant,
    next: AtomicU64,
}

impl<M: Fn(u64) -> Delivery> Work<M> {
    async fn until_done(self: Arc<Self>, report: mpsc::Sender<SentDelivery>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.count {
                return;
            }
            let delivery = (self.make)(number);
            let late = self.wait_until_due(number).await;
            let mut answer = self.poster.post(&delivery).await;
            answer.latency += late;
            if report.send(SentDelivery { number, delivery, answer }).await.is_err() {
                return; // the run has ended
            }
        }
    }

    /// Waits until a delivery is due. Returns the delay if that time has passed already.
    async fn wait_until_due(&self, number: u64) -> Duration {
        let Some(rate) = self.plan.rate else { return Duration::ZERO };
        let due = self.begun + Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX / 4);
        let now = Instant::now();
        if now < due {
            tokio::time::sleep_until(due).await; // the timer's precision is a millisecond
            return Duration::ZERO;
        }
        now - due
    }
}

impl Summary {
    fn empty() -> Self {
        Self {
            deliveries: 0,
            accepted: 0,
            events: 0,
            attempts: 0,
            answers: BTreeMap::new(),
            latency: Histogram::new_with_max(LONGEST_LATENCY_MICROS, 3).expect("3 digits are allowed"),
            longest: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Returns the number of finished deliveries per second.
    pub fn rate(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns a quantile of the latency of 2xx answers: 0.5 for the median, 1 for the maximum.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// Returns the summary as JSON, with the events of the one delivery if there was only one.
    pub fn document(&self, only: Option<&Answer>) -> Value {
        let latency = |(name, quantile): (&str, f64)| {
            let seconds = (self.accepted > 0).then(|| self.quantile(quantile).as_secs_f64());
            (name.to_owned(), json!(seconds))
        };
        let answer = |(kind, tally): (&String, &AnswerCount)| json!({"answer": kind, "count": tally.count, "accepted": tally.accepted, "example": tally.example});
        let mut document = json!({
            "deliveries": self.deliveries,
            "accepted": self.accepted,
            "events": self.events,
            "attempts": self.attempts,
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "deliveries_per_second": self.rate(),
            "latency_seconds": Value::Object(QUANTILES.into_iter().map(latency).collect()),
            "answers": self.answers.iter().map(answer).collect::<Vec<_>>(),
        });
        if let Some(Ok(receipt)) = only.map(|answer| &answer.result) {
            document["confirmed"] = json!(receipt.events);
        }
        document
    }

    fn count(&mut self, done: &SentDelivery, at: Duration) {
        let answer = &done.answer;
        self.deliveries += 1;
        self.attempts += u64::from(answer.attempts);
        if self.longest.is_none_or(|(longest, _)| longest < answer.latency) {
            self.longest = Some((answer.latency, at));
        }
        match &answer.result {
            Ok(receipt) => {
                self.accepted += 1;
                self.events += receipt.events.len() as u64;
                self.latency.saturating_record(u64::try_from(answer.latency.as_micros()).unwrap_or(u64::MAX));
                self.tally(receipt.status.clone()).accepted = true;
            }
            Err(refusal) => {
                let tally = self.tally(refusal.kind());
                tally.example.get_or_insert_with(|| format!("{}: {refusal}", done.delivery.action));
            }
        }
    }

    fn tally(&mut self, kind: String) -> &mut AnswerCount {
        let tally = self.answers.entry(kind).or_default();
        tally.count += 1;
        tally
    }
}

#[cfg(test)]
mod tests;
