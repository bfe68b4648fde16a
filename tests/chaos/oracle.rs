//! The oracle: holds what the senders know against what the topics hold.
//!
//! It is shown every message once ([`Oracle::see`]), in the order of each partition, and then gives its verdict. Every
//! rule here has a test that breaks it (`oracle/tests.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::journal::{Entry, Journal, Moment, Place, entry};
use crate::stage::Findings;
use crate::workload::{ACTIONS, ASIDE, Name, Workload, claimed};

const MILLISECOND: Moment = 1_000_000;

/// A message as it lies on a topic.
pub(crate) struct Message<'a> {
    /// Whose topic, by its place in [`ACTIONS`].
    pub(crate) action: usize,
    pub(crate) place: Place,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
    /// `ce_id`.
    pub(crate) id: &'a str,
    /// `ce_nexudusreceived`, which tells the attempt that wrote it.
    pub(crate) received: Moment,
}

/// What is known of one event's copies so far.
#[derive(Clone, Default)]
struct Found {
    first: Option<Copy>,
    copies: u32,
    /// When the one arrived that lies where the 2xx said.
    at_receipt: Option<Moment>,
}

/// One copy, in few bytes.
#[derive(Clone, PartialEq)]
struct Copy {
    place: Place,
    id: u64,
    received: Moment,
}

/// What the run came to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Events whose delivery was answered 2xx.
    pub(crate) acked: u64,
    /// Those among them that were spared: their topic was deleted afterwards.
    pub(crate) spared: u64,
    /// Messages on the topics.
    pub(crate) messages: u64,
    /// Acked, and not there byte for byte.
    pub(crate) lost: Findings,
    /// There, and never sent like that.
    pub(crate) invented: Findings,
    /// Acked, but not where the answer said.
    pub(crate) misplaced: Findings,
    /// Before an event that had its 2xx when this one was sent.
    pub(crate) reordered: Findings,
    /// Copies after the first that come of attempts without 2xx.
    pub(crate) explained: u64,
    /// Copies that the Kafka client wrote of an attempt that was answered 2xx, during a fault: see
    /// `docs/guarantees.md`.
    pub(crate) rewritten: u64,
    /// Such copies without a fault, and copies of no attempt.
    pub(crate) unexplained: Findings,
    /// Ids that do not say what they should of copies.
    pub(crate) wrong_ids: Findings,
}

impl Verdict {
    /// Every rule with what broke it.
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
    /// What was set aside and sent before this is not expected to be there any more.
    aside_from: Moment,
    /// When there was a fault.
    troubles: Vec<(Moment, Moment)>,
    /// At how many bridges an attempt may arrive during a fault.
    replicas: usize,
    /// Per connection and delivery, the place of its first event in `found`.
    firsts: Vec<Vec<u32>>,
    found: Vec<Vec<Found>>,
    /// Copies after the first, which are few.
    more: HashMap<(Name, usize), Vec<Copy>>,
    verdict: Verdict,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(
        workload: Workload,
        journals: &'a [Journal],
        aside_from: Moment,
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
        Self { workload, journals, aside_from, troubles, replicas: 1, firsts, found, more, verdict }
    }

    /// For bridges behind a proxy, which passes an attempt on to the next one where one is gone.
    pub(crate) fn behind_proxy(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// Takes a message into account.
    pub(crate) fn see(&mut self, message: &Message<'_>) {
        self.verdict.messages += 1;
        let Some((name, index, entry)) = self.recognize(message) else {
            let shown: String = String::from_utf8_lossy(message.value).chars().take(80).collect();
            let topic = ACTIONS[message.action].name;
            return self.verdict.invented.add(|| format!("{topic} {:?}: {shown}", message.place));
        };
        let acked_here = entry.places.get(index) == Some(&message.place);
        let copy = Copy { place: message.place, id: hash(message.id), received: message.received };
        let first = self.firsts[usize::from(name.connection)][name.number as usize] as usize;
        let found = &mut self.found[usize::from(name.connection)][first + index];
        if acked_here {
            found.at_receipt = Some(message.received);
        }
        found.copies += 1;
        if found.first.is_none() {
            found.first = Some(copy);
        } else {
            self.more.entry((name, index)).or_default().push(copy);
        }
    }

    /// The event that a message is a copy of; none if nothing like that was ever sent.
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

    /// The end: what was shown is all there is.
    pub(crate) fn verdict(mut self) -> Verdict {
        let mut rows: BTreeMap<(usize, u32), Vec<Item>> = BTreeMap::new();
        for (connection, journal) in (0..).zip(self.journals) {
            for (number, entry) in (0..).zip(journal) {
                let name = Name { connection, number };
                let delivery = self.workload.delivery(name);
                let spared = delivery.action == ASIDE && entry.sent < self.aside_from;
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
            (true, _) => arrivals.len()..=copies.len(), // two replicas may get it in the same millisecond
        };
        if !wanted.contains(&ids) {
            verdict.wrong_ids.add(|| format!("{name:?} record {index}: {} copies, {ids} ids", copies.len()));
        }
        found
    }
}

/// Of an event's copies, how many come of no attempt, and how many the attempt with the 2xx has beyond its one.
///
/// The attempt with the 2xx is the one whose copy lies where the 2xx said. Each other arrival needs an attempt of its own
/// that began before it and may have published; how often the Kafka client wrote that one does not matter. Each attempt
/// may arrive so many `times`.
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

/// An event of a topic and key, for its order.
struct Item {
    sent: Moment,
    answered: Option<Moment>,
    /// Of its first copy.
    place: Place,
    name: Name,
}

/// First copies of deliveries, each sent after the other's 2xx, lie in that order, on one partition.
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
#[path = "oracle/tests.rs"] // another test takes this file in by its path
mod tests;
