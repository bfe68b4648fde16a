//! The oracle: compares the journals of the senders with the messages of the topics.
//!
//! The oracle gets every message once ([`Oracle::see`]), in the order of each partition, and then returns its verdict. Every rule in
//! this file has a test that breaks the rule (`oracle/tests.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::journal::{Entry, Journal, Moment, Position, entry};
use crate::stage::Findings;
use crate::workload::{ACTIONS, ISOLATED, Name, Workload, claimed};

const MILLISECOND: Moment = 1_000_000;

/// A message of a topic.
pub(crate) struct Message<'a> {
    /// The index in [`ACTIONS`] of the topic's action.
    pub(crate) action: usize,
    pub(crate) place: Position,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
    /// `ce_id`.
    pub(crate) id: &'a str,
    /// `ce_nexudusreceived`, which identifies the attempt that wrote the message.
    pub(crate) received: Moment,
}

/// The copies of one event so far.
#[derive(Clone, Default)]
struct Found {
    first: Option<Copy>,
    copies: u32,
    /// Time of receipt of the copy at the position in the 2xx.
    at_receipt: Option<Moment>,
}

/// One copy, in a compact form.
#[derive(Clone, PartialEq)]
struct Copy {
    place: Position,
    id: u64,
    received: Moment,
}

/// The result of a run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Events whose delivery was answered 2xx.
    pub(crate) acked: u64,
    /// Events among them that may be missing, since their topic was deleted afterwards.
    pub(crate) spared: u64,
    /// Messages on the topics.
    pub(crate) messages: u64,
    /// Events with a 2xx that are not on their topic byte for byte.
    pub(crate) lost: Findings,
    /// Messages that differ from every event that was sent.
    pub(crate) invented: Findings,
    /// Events with a 2xx that are not at the position in the answer.
    pub(crate) misplaced: Findings,
    /// Events before another event of their key, although the other event was answered 2xx before they were sent.
    pub(crate) reordered: Findings,
    /// Copies after the first one that come from attempts without a 2xx.
    pub(crate) explained: u64,
    /// Copies that the Kafka client wrote during a fault, of an attempt that was answered 2xx: see `docs/guarantees.md`.
    pub(crate) rewritten: u64,
    /// Copies that the Kafka client wrote without a fault, and copies that come from no attempt.
    pub(crate) unexplained: Findings,
    /// Copies of a change with different ids, or of a signal with equal ids.
    pub(crate) wrong_ids: Findings,
}

impl Verdict {
    /// Returns every rule with its violations.
    pub(crate) fn violations(&self) -> [(&'static str, &Findings); 6] {
        [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("misplaced", &self.misplaced),
            ("reordered", &self.reordered),
            ("duplicated without a reason", &self.unexplained),
            ("wrong ids", &self.wrong_ids),
        ]
    }
}

/// Judges one run.
pub(crate) struct Oracle<'a> {
    workload: Workload,
    journals: &'a [Journal],
    /// Events of the isolated action that were sent before this moment may be missing.
    isolated_from: Moment,
    /// Beginning and end of each fault.
    troubles: Vec<(Moment, Moment)>,
    /// Number of bridges at which one attempt may arrive during a fault.
    replicas: usize,
    /// For each connection and delivery, the index of its first event in `found`.
    firsts: Vec<Vec<u32>>,
    found: Vec<Vec<Found>>,
    /// Copies after the first. They are few.
    more: HashMap<(Name, usize), Vec<Copy>>,
    verdict: Verdict,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(
        workload: Workload,
        journals: &'a [Journal],
        isolated_from: Moment,
        troubles: Vec<(Moment, Moment)>,
    ) -> Self {
        let mut firsts = Vec::new();
        let mut found = Vec::new();
        for (connection, journal) in (0..).zip(journals) {
            let mut next = 0_u32;
            let mut of_delivery = Vec::with_capacity(journal.len());
            for (number, _) in (0..).zip(journal) {
                of_delivery.push(next);
                let records = workload.delivery(Name { connection, number }).records;
                next += u32::try_from(records).expect("a few");
            }
            firsts.push(of_delivery);
            found.push(vec![Found::default(); next as usize]);
        }
        let verdict = Verdict::default();
        let more = HashMap::new();
        Self { workload, journals, isolated_from, troubles, replicas: 1, firsts, found, more, verdict }
    }

    /// Sets the number of bridges behind a proxy. The proxy passes an attempt on to the next bridge if one does not answer.
    pub(crate) fn behind_proxy(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Records a message.
    pub(crate) fn see(&mut self, message: &Message<'_>) {
        self.verdict.messages += 1;
        let Some((name, index, entry)) = self.recognize(message) else {
            let shown: String = String::from_utf8_lossy(message.value).chars().take(80).collect();
            let topic = ACTIONS[message.action].name;
            return self.verdict.invented.add(|| format!("{topic} {:?}: {shown}", message.place));
        };
        let acked_here = entry.places.get(index).is_some_and(|place| place.names(message.place));
        let copy = Copy { place: message.place, id: hash(message.id), received: message.received };
        let first = self.firsts[usize::from(name.connection)][name.number as usize] as usize;
        let found = &mut self.found[usize::from(name.connection)][first + index];
        if acked_here {
            // Without an offset every copy on the partition matches; the last attempt is the one with the 2xx.
            found.at_receipt = found.at_receipt.max(Some(message.received));
        }
        found.copies += 1;
        if found.first.is_none() {
            found.first = Some(copy);
        } else {
            self.more.entry((name, index)).or_default().push(copy);
        }
    }

    /// Returns the event that a message is a copy of; `None` if no such event was sent.
    fn recognize(&self, message: &Message<'_>) -> Option<(Name, usize, &'a Entry)> {
        let (name, index) = claimed(message.value)?;
        let entry = entry(self.journals, name)?;
        let delivery = self.workload.delivery(name);
        let allowed = entry.is_open() || entry.answered.is_some();
        let same = allowed
            && index < delivery.records
            && delivery.action == message.action
            && self.workload.record(name, index).as_bytes() == message.value
            && message.key == Some(self.workload.key(name, index).to_string().as_bytes());
        same.then_some((name, index, entry))
    }

    /// Returns the verdict, once all messages were passed to `see`.
    pub(crate) fn verdict(mut self) -> Verdict {
        let mut rows: BTreeMap<(usize, u32), Vec<Item>> = BTreeMap::new();
        for (connection, journal) in (0..).zip(self.journals) {
            for (number, entry) in (0..).zip(journal) {
                let name = Name { connection, number };
                let delivery = self.workload.delivery(name);
                let spared = delivery.action == ISOLATED && entry.sent < self.isolated_from;
                for index in 0..delivery.records {
                    let found = self.judge(name, index, entry, spared);
                    if let Some(Copy { place, .. }) = found.first.filter(|_| !spared) {
                        let row = (delivery.action, self.workload.key(name, index));
                        let item = Item { sent: entry.sent, answered: entry.answered, place, name };
                        rows.entry(row).or_default().push(item);
                    }
                }
            }
        }
        for ((action, key), items) in rows {
            check_order(&format!("{} key {key}", ACTIONS[action].name), items, &mut self.verdict.reordered);
        }
        self.verdict
    }

    /// Judges the copies of one event.
    fn judge(&mut self, name: Name, index: usize, entry: &Entry, spared: bool) -> Found {
        let first = self.firsts[usize::from(name.connection)][name.number as usize] as usize;
        let found = self.found[usize::from(name.connection)][first + index].clone();
        let verdict = &mut self.verdict;
        let acked = entry.answered.is_some();
        verdict.acked += u64::from(acked);
        if acked && spared {
            verdict.spared += 1;
        } else if acked && found.copies == 0 {
            verdict.lost.add(|| format!("{name:?} record {index}, acked at {:?}", entry.places.get(index)));
        } else if acked && found.at_receipt.is_none() {
            verdict
                .misplaced
                .add(|| format!("{name:?} record {index}, not at {:?}", entry.places.get(index)));
        }
        let Some(first) = found.first.iter().find(|_| found.copies > 1) else { return found };
        let copies: Vec<&Copy> =
            std::iter::once(first).chain(self.more.get(&(name, index)).into_iter().flatten()).collect();
        let mut arrivals: BTreeMap<Moment, u64> = BTreeMap::new();
        for copy in &copies {
            *arrivals.entry(copy.received).or_default() += 1;
        }
        let in_trouble = entry.answered.is_some_and(|answered| {
            self.troubles.iter().any(|(began, over)| *began <= answered && *over >= entry.sent)
        });
        let times = if in_trouble { self.replicas } else { 1 };
        let (mut unexplained, mut rewritten) = without_reason(entry, found.at_receipt, &arrivals, times);
        if !in_trouble {
            unexplained += std::mem::take(&mut rewritten);
        }
        verdict.rewritten += rewritten;
        for _ in 0..unexplained {
            verdict.unexplained.add(|| {
                let all = copies.iter().map(|copy| (copy.place, copy.received)).collect::<Vec<_>>();
                format!("{name:?} record {index}: {entry:?}, copies {all:?}")
            });
        }
        verdict.explained += (copies.len() as u64 - 1).saturating_sub(unexplained + rewritten);
        let ids = copies.iter().map(|copy| copy.id).collect::<BTreeSet<_>>().len();
        let signal = ACTIONS[self.workload.delivery(name).action].signal;
        let wanted = match (signal, times) {
            (false, _) => 1..=1,
            (true, 1) => arrivals.len()..=arrivals.len(),
            (true, _) => arrivals.len()..=copies.len(), // two replicas may receive it in the same millisecond
        };
        if !wanted.contains(&ids) {
            verdict.wrong_ids.add(|| format!("{name:?} record {index}: {} copies, {ids} ids", copies.len()));
        }
        found
    }
}

/// Returns the number of an event's copies that come from no attempt, and the number of further copies of the attempt with the
/// 2xx.
///
/// The attempt with the 2xx is the one whose copy is at the position in the 2xx. Each other arrival needs an attempt of its own
/// that began before the arrival and may have published. The number of copies that the Kafka client wrote of that attempt does
/// not matter. Each attempt may arrive `times` times.
fn without_reason(
    entry: &Entry,
    acked: Option<Moment>,
    arrivals: &BTreeMap<Moment, u64>,
    times: usize,
) -> (u64, u64) {
    let (mut unexplained, mut rewritten) = (0, 0);
    let open = entry.attempts.iter().filter(|(_, published)| *published).map(|(began, _)| (*began, times));
    let last = entry.attempts.last().map_or(entry.sent, |(began, _)| *began);
    let with_2xx = entry.answered.map(|_| (last, times - 1));
    let open = open.chain(with_2xx).flat_map(|(began, times)| std::iter::repeat_n(began, times));
    let mut open = open.peekable();
    for (received, written) in arrivals {
        if acked == Some(*received) {
            rewritten += written - 1;
        // A time of receipt is cut to the millisecond.
        } else if open.next_if(|began| *began < received + MILLISECOND).is_none() {
            unexplained += written;
        }
    }
    (unexplained, rewritten)
}

/// An event of one topic and key, for the check of their order.
struct Item {
    sent: Moment,
    answered: Option<Moment>,
    /// The position of its first copy.
    place: Position,
    name: Name,
}

/// Checks that all events of a key are on one partition. Also checks that each event is after every event that was answered 2xx
/// before it was sent.
fn check_order(row: &str, mut items: Vec<Item>, reordered: &mut Findings) {
    let partitions: BTreeSet<i32> = items.iter().map(|item| item.place.partition).collect();
    if partitions.len() > 1 {
        reordered.add(|| format!("{row} is on the partitions {partitions:?}"));
    }
    items.sort_by_key(|item| item.sent);
    let mut answered: Vec<&Item> = items.iter().filter(|item| item.answered.is_some()).collect();
    answered.sort_by_key(|item| item.answered);
    let mut before = answered.into_iter().peekable();
    let mut furthest: Option<&Item> = None;
    for item in &items {
        while let Some(earlier) = before.next_if(|earlier| earlier.answered < Some(item.sent)) {
            if furthest.is_none_or(|furthest| earlier.place.offset > furthest.place.offset) {
                furthest = Some(earlier);
            }
        }
        if let Some(furthest) = furthest.filter(|furthest| furthest.place.offset > item.place.offset) {
            reordered.add(|| {
                let (earlier, later) = (furthest.name, item.name);
                format!(
                    "{row}: {later:?} at {:?} lies before {earlier:?} at {:?}",
                    item.place, furthest.place
                )
            });
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "oracle/tests.rs"] // another test includes this file by its path
mod tests;
