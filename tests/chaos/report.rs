//! The report of a run: its figures, and the guarantees that it violated.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use crate::oracle::Verdict;
use crate::stage::{Gap, Observations};

/// Maximum resident memory: 32 MiB in flight, the client's queue of 40 MiB, and 80 MiB for the rest of a debug build. The formula is
/// in `docs/deployment.md`.
const MAX_MIB: f64 = 152.0;

/// The figures of a run.
pub(crate) struct Report {
    /// The name of the test.
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) sent_for: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) seen: Observations,
    /// Maximum delay of the senders' own thread.
    pub(crate) own_delay: Duration,
    pub(crate) peak_mib: Option<f64>,
    pub(crate) verdict: Verdict,
    /// The condition that did not recover, if there is one.
    pub(crate) stuck: Option<String>,
}

impl Report {
    /// Returns every violated guarantee, with examples.
    pub(crate) fn broken(&self) -> Vec<String> {
        let senders = [("wrong answers", &self.seen.wrong), ("late answers", &self.seen.late)];
        let found = self.verdict.violations().into_iter().chain(senders);
        let found = found.filter(|(_, findings)| findings.count > 0);
        let mut broken: Vec<String> = found
            .map(|(what, findings)| {
                format!("{} {what}:\n  {}", findings.count, findings.examples.join("\n  "))
            })
            .collect();
        broken.extend(self.stuck.clone());
        if let Some(mib) = self.peak_mib.filter(|mib| *mib > MAX_MIB) {
            broken.push(format!("the bridge had {mib:.1} MiB resident, more than {MAX_MIB}"));
        }
        if self.verdict.acked == self.verdict.spared || self.seen.gaps.is_empty() {
            broken.push("nothing was proved: no fault, or no event that is still there".to_owned());
        }
        if self.verdict.acked != self.seen.events {
            broken.push(format!("{} events were acked and {} judged", self.seen.events, self.verdict.acked));
        }
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, seen, verdict, .. } = self;
        let faults: u64 = seen.gaps.values().map(|gap| gap.times).sum();
        writeln!(
            f,
            "\n{name}: seed {seed}, {faults} faults in {:.0} s of traffic",
            self.sent_for.as_secs_f64()
        )?;
        writeln!(
            f,
            "acked        {} events in {} deliveries, {} attempts; {} messages on the topics",
            verdict.acked, seen.confirmed, seen.attempts, verdict.messages
        )?;
        writeln!(f, "             {} acked before their topic was deleted, not looked for", verdict.spared)?;
        writeln!(f, "lost         {}", verdict.lost.count)?;
        writeln!(f, "invented     {}", verdict.invented.count)?;
        writeln!(f, "misplaced    {}", verdict.misplaced.count)?;
        writeln!(f, "reordered    {}", verdict.reordered.count)?;
        let (explained, unexplained) = (verdict.explained, verdict.unexplained.count);
        writeln!(f, "duplicated   {explained} explained by attempts without 2xx, {unexplained} unexplained")?;
        writeln!(
            f,
            "             {} by the Kafka client, of attempts with 2xx, during a fault",
            verdict.rewritten
        )?;
        writeln!(f, "wrong ids    {}", verdict.wrong_ids.count)?;
        writeln!(f, "wrong answers {}, deliveries given up {}", seen.wrong.count, seen.given_up)?;
        let (longest, own) = (seen.longest_answer, self.own_delay);
        writeln!(
            f,
            "longest answer {longest:.3?} (confirm_timeout {:?} + 1 s), {} too late; the senders' own longest delay {own:.3?}",
            self.confirm_timeout, seen.late.count
        )?;
        match self.peak_mib {
            Some(mib) => writeln!(f, "peak memory of the bridge {mib:.1} MiB")?,
            None => writeln!(f, "peak memory of the bridge unknown: this system does not say")?,
        }
        writeln!(f, "not answered 2xx:")?;
        for (cause, count) in &seen.refused {
            writeln!(f, "  {count:8}  {cause}")?;
        }
        writeln!(f, "longest silence (no 2xx at all) and longest wait of one delivery, by fault:")?;
        for (fault, Gap { times, silence, wait }) in &seen.gaps {
            let (silence, wait) = (silence.as_secs_f64(), wait.as_secs_f64());
            writeln!(f, "  {silence:6.2} s {wait:6.2} s  {fault} ({times})")?;
        }
        Ok(())
    }
}

/// Prints to standard error directly: the test harness would hide the output of a test that passes.
pub(crate) fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok(); // an error cannot be reported anywhere
}
