use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::event::{EventId, Stream};
use crate::outcome::Outcome;

const TTL: Duration = Duration::from_secs(60);

fn memory(max_entries: usize, max_bytes: usize) -> Arc<Memory> {
    Arc::new(Memory::new(&config::Redelivery { ttl: TTL, max_entries, max_bytes }))
}

fn identity(body: u8) -> Identity {
    Fingerprint::of("default", "BookingUpdate", &[body])
}

/// Returns the receipt of a copy of a body at an offset.
fn receipt(body: u8, offset: i64) -> Receipt {
    let stream = Stream::new("t".into(), "s", "k");
    let id = EventId::Content(identity(body));
    Receipt {
        outcome: Outcome::Confirmed,
        events: vec![Confirmed { id, stream: Arc::new(stream), partition: 0, offset: Some(offset) }],
    }
}

fn recalled(memory: &Memory, now: Instant, body: u8) -> Option<Option<Receipt>> {
    memory.recall(now, || Some(identity(body))).map(|first| first.receipt().now_or_never().flatten())
}

#[test]
fn a_pending_delivery_is_waited_for_and_a_kept_one_recalled_until_its_time_is_over() {
    let (memory, now) = (memory(10, 10_000), Instant::now());
    assert!(recalled(&memory, now, 1).is_none());
    let unanswered = memory.remember(now, identity(1)).unwrap();
    let first = memory.recall(now, || Some(identity(1))).unwrap();
    let mut waiting = Box::pin(first.receipt());
    assert!(waiting.as_mut().now_or_never().is_none(), "there is no delivery report yet");
    unanswered.confirmed(now, &receipt(1, 7));
    assert_eq!(waiting.now_or_never().unwrap(), Some(receipt(1, 7)));
    assert_eq!(recalled(&memory, now + TTL / 2, 1), Some(Some(receipt(1, 7))));
    assert_eq!(recalled(&memory, now + TTL / 2, 2), None);
    assert_eq!(recalled(&memory, now + TTL, 1), None);
    assert_eq!(memory.held.load(Ordering::Acquire), 0);
}

#[test]
fn an_unconfirmed_delivery_is_removed_and_waiting_retries_get_the_result() {
    let (memory, now) = (memory(10, 10_000), Instant::now());
    let unanswered = memory.remember(now, identity(1)).unwrap();
    let first = memory.recall(now, || Some(identity(1))).unwrap();
    drop(unanswered);
    assert_eq!(first.receipt().now_or_never().unwrap(), None);
    assert!(recalled(&memory, now, 1).is_none());
}

#[test]
fn the_oldest_goes_when_there_are_too_many_entries_or_bytes() {
    let now = Instant::now();
    let keep = |memory: &Arc<Memory>, body| {
        memory.remember(now, identity(body)).unwrap().confirmed(now, &receipt(body, 0))
    };
    let few = memory(2, 1 << 20);
    let small = memory(100, 2 * (ENTRY_BYTES + size_of::<Confirmed>()));
    for memory in [few, small] {
        (1..=3).for_each(|body| keep(&memory, body));
        let held: Vec<bool> = (1..=3).map(|body| recalled(&memory, now, body).is_some()).collect();
        assert_eq!(held, [false, true, true]);
    }
    let off = memory(0, 1 << 20);
    assert!(off.remember(now, identity(1)).is_none());
    // An entry that exceeds the bound by itself is removed again.
    let tiny = memory(10, ENTRY_BYTES);
    keep(&tiny, 1);
    assert!(recalled(&tiny, now, 1).is_none());
    assert_eq!(tiny.entries.lock().bytes, 0);
}

/// Returns the number of deliveries in the memory.
fn tracked(memory: &Memory) -> usize {
    memory.entries.lock().by_age.len()
}

#[test]
fn failed_deliveries_leave_nothing_behind() {
    let (memory, now) = (memory(10, 10_000), Instant::now());
    let first = memory.remember(now, identity(0)).unwrap(); // the oldest entry stays pending until the end
    for body in 1..=200 {
        drop(memory.remember(now, identity(body)).unwrap());
        assert_eq!(tracked(&memory), 1);
    }
    drop(first);
    assert_eq!(
        (tracked(&memory), memory.entries.lock().bytes, memory.held.load(Ordering::Acquire)),
        (0, 0, 0)
    );
}

#[test]
fn a_confirmation_expires_on_time_even_behind_a_pending_delivery() {
    let (memory, now) = (memory(10, 10_000), Instant::now());
    let _pending = memory.remember(now, identity(1)).unwrap();
    memory.remember(now, identity(2)).unwrap().confirmed(now, &receipt(2, 7));
    assert!(recalled(&memory, now + TTL - Duration::from_millis(1), 2).is_some());
    assert_eq!(recalled(&memory, now + TTL, 2), None);
    assert!(recalled(&memory, now + TTL, 1).is_some(), "a pending delivery does not expire");
}

#[test]
fn a_later_attempt_takes_the_place_of_an_earlier_one() {
    let (memory, now) = (memory(10, 10_000), Instant::now());
    let earlier = memory.remember(now, identity(1)).unwrap();
    let later = memory.remember(now, identity(1)).unwrap();
    drop(earlier);
    assert!(memory.recall(now, || Some(identity(1))).is_some(), "the later one is still pending");
    later.confirmed(now, &receipt(1, 9));
    assert_eq!(recalled(&memory, now, 1), Some(Some(receipt(1, 9))));
}

/// A step of a run. Steps come in any order.
#[derive(Debug, Clone)]
enum Step {
    /// A delivery of a body arrives and its client waits for the answer.
    Arrive { body: u8 },
    /// The client of an attempt disconnects before its answer.
    HangUp { attempt: prop::sample::Index },
    /// The delivery report of a published attempt.
    Report { attempt: prop::sample::Index, confirmed: bool },
    /// Time passes.
    Pass { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8).prop_map(|body| Step::Arrive { body }),
        2 => any::<prop::sample::Index>().prop_map(|attempt| Step::HangUp { attempt }),
        3 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(attempt, confirmed)| Step::Report { attempt, confirmed }),
        1 => (0..40_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    prop::collection::vec(step, 1..60)
}

/// An attempt as the bridge makes it: published, or joined to the first.
enum Delivery {
    Published { body: u8, unanswered: Option<Unanswered>, waits: bool },
    Joined { body: u8, receipt: std::pin::Pin<Box<dyn Future<Output = Option<Receipt>>>> },
}

/// A bridge without a broker: the log is a list, and delivery reports come as steps.
struct Simulation {
    memory: Arc<Memory>,
    now: Instant,
    attempts: Vec<Delivery>,
    log: BTreeMap<i64, u8>,
    answered: Vec<(u8, Receipt)>,
    published: usize,
    unanswered: BTreeSet<u8>,
}

impl Simulation {
    fn arrive(&mut self, body: u8) {
        let attempt = match self.memory.recall(self.now, || Some(identity(body))) {
            Some(first) => Delivery::Joined { body, receipt: Box::pin(first.receipt()) },
            None => self.publish(body),
        };
        self.attempts.push(attempt);
        self.join();
    }

    fn publish(&mut self, body: u8) -> Delivery {
        self.published += 1;
        Delivery::Published { body, unanswered: None, waits: true }
    }

    /// Continues the attempts that wait for a first attempt.
    fn join(&mut self) {
        for index in 0..self.attempts.len() {
            if let Delivery::Joined { body, receipt } = &mut self.attempts[index] {
                let body = *body;
                match receipt.as_mut().now_or_never() {
                    None => {}
                    Some(Some(receipt)) => {
                        assert!(
                            self.unanswered.contains(&body),
                            "answered from memory without an unanswered attempt"
                        );
                        self.answered.push((body, receipt));
                        self.attempts.swap_remove(index);
                        return self.join();
                    }
                    Some(None) => self.attempts[index] = self.publish(body),
                }
            }
        }
    }

    fn report(&mut self, index: usize, confirmed: bool) {
        let Delivery::Published { .. } = &self.attempts[index] else { return };
        let Delivery::Published { body, unanswered, waits } = self.attempts.swap_remove(index) else {
            return;
        };
        if confirmed {
            let offset = i64::try_from(self.log.len()).unwrap();
            self.log.insert(offset, body);
            match unanswered {
                Some(unanswered) => unanswered.confirmed(self.now, &receipt(body, offset)),
                None if waits => self.answered.push((body, receipt(body, offset))),
                None => {}
            }
        } else {
            drop(unanswered);
        }
        self.join();
    }

    fn hang_up(&mut self, index: usize) {
        if let Delivery::Published { body, unanswered, waits } = &mut self.attempts[index]
            && *waits
        {
            *waits = false;
            self.unanswered.insert(*body);
            *unanswered = self.memory.remember(self.now, identity(*body));
        }
    }
}

/// One call of the memory. Attempts are numbered in the order of the calls of `remember`.
#[derive(Debug, Clone)]
enum Call {
    Remember { body: u8 },
    Confirm { attempt: prop::sample::Index, events: usize },
    Fail { attempt: prop::sample::Index },
    Pass { seconds: u64 },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let index = any::<prop::sample::Index>;
    let call = prop_oneof![
        4 => (0..8_u8).prop_map(|body| Call::Remember { body }),
        3 => (index(), 0..4_usize).prop_map(|(attempt, events)| Call::Confirm { attempt, events }),
        2 => index().prop_map(|attempt| Call::Fail { attempt }),
        1 => (0..40_u64).prop_map(|seconds| Call::Pass { seconds }),
    ];
    prop::collection::vec(call, 1..80)
}

/// The memory as a plain list, the oldest first: body, number of the attempt, offset of its confirmation, age, bytes.
#[derive(Debug, Default)]
struct Model {
    list: Vec<(u8, i64, Option<i64>, Instant, usize)>,
}

impl Model {
    fn put(
        &mut self,
        entry: (u8, i64, Option<i64>, Instant, usize),
        (max_entries, max_bytes): (usize, usize),
    ) {
        self.list.retain(|other| other.0 != entry.0);
        self.list.push(entry);
        while self.list.len() > max_entries || self.bytes() > max_bytes {
            self.list.remove(0);
        }
    }

    fn take(&mut self, number: i64) -> bool {
        let before = self.list.len();
        self.list.retain(|entry| entry.1 != number || entry.2.is_some());
        self.list.len() < before
    }

    fn bytes(&self) -> usize {
        self.list.iter().map(|entry| entry.4).sum()
    }

    /// Returns the offset of the confirmation of a body; `Some(None)` while its entry is pending.
    fn recall(&self, now: Instant, body: u8) -> Option<Option<i64>> {
        let entry = self.list.iter().find(|entry| entry.0 == body)?;
        (entry.2.is_none() || now < entry.3 + TTL).then_some(entry.2)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// For every sequence of calls, the memory holds the same deliveries as a plain list, within its bounds.
    #[test]
    fn the_memory_is_a_bounded_list_by_age(
        calls in calls(),
        max_entries in 1..5_usize,
        max_bytes in 1_000..3_000_usize,
    ) {
        let (memory, mut now) = (memory(max_entries, max_bytes), Instant::now());
        let (mut model, mut attempts, mut made) = (Model::default(), Vec::new(), 0);
        let bounds = (max_entries, max_bytes);
        for call in calls {
            match call {
                Call::Remember { body } => {
                    model.put((body, made, None, now, ENTRY_BYTES), bounds);
                    attempts.push((made, body, memory.remember(now, identity(body)).unwrap()));
                    made += 1;
                }
                Call::Confirm { attempt, events } if !attempts.is_empty() => {
                    let (number, body, unanswered) = attempts.swap_remove(attempt.index(attempts.len()));
                    let mut receipt = receipt(body, number);
                    receipt.events = vec![receipt.events[0].clone(); events.max(1)];
                    let bytes = ENTRY_BYTES + receipt.events.len() * size_of::<Confirmed>();
                    if model.take(number) {
                        model.put((body, number, Some(number), now, bytes), bounds);
                    }
                    unanswered.confirmed(now, &receipt);
                }
                Call::Fail { attempt } if !attempts.is_empty() => {
                    let (number, _, unanswered) = attempts.swap_remove(attempt.index(attempts.len()));
                    model.take(number);
                    drop(unanswered);
                }
                Call::Pass { seconds } => now += Duration::from_secs(seconds),
                Call::Confirm { .. } | Call::Fail { .. } => {}
            }
            prop_assert!(tracked(&memory) <= max_entries && memory.entries.lock().bytes <= max_bytes);
            prop_assert!(memory.entries.lock().bytes <= model.bytes());
            for body in 0..8 {
                let recalled = recalled(&memory, now, body).map(|recalled| recalled.map(|receipt| receipt.events[0].offset.unwrap()));
                prop_assert_eq!(recalled, model.recall(now, body), "body {}", body);
            }
        }
        drop(attempts);
        now += TTL;
        prop_assert!((0..8).all(|body| recalled(&memory, now, body).is_none()));
        prop_assert_eq!((tracked(&memory), memory.entries.lock().bytes), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// For every order of arrivals, disconnections, delivery reports and time:
    ///
    /// - Each 2xx is about a copy of exactly its bytes in the log.
    /// - Only deliveries that were not answered before are answered from memory.
    /// - No client waits for ever.
    #[test]
    fn no_interleaving_swallows_an_event(steps in steps(), max_entries in 0..4_usize) {
        let mut run = Simulation {
            memory: memory(max_entries, 10_000),
            now: Instant::now(),
            attempts: Vec::new(),
            log: BTreeMap::new(),
            answered: Vec::new(),
            published: 0,
            unanswered: BTreeSet::new(),
        };
        let mut arrived = 0;
        for step in steps {
            match step {
                Step::Arrive { body } => {
                    arrived += 1;
                    run.arrive(body);
                }
                Step::HangUp { attempt } if !run.attempts.is_empty() => run.hang_up(attempt.index(run.attempts.len())),
                Step::Report { attempt, confirmed } if !run.attempts.is_empty() => {
                    run.report(attempt.index(run.attempts.len()), confirmed);
                }
                Step::Pass { seconds } => run.now += Duration::from_secs(seconds),
                Step::HangUp { .. } | Step::Report { .. } => {}
            }
            prop_assert!(tracked(&run.memory) <= max_entries);
        }
        // The producer reports on every message in the end.
        while let Some(index) = run.attempts.iter().position(|attempt| matches!(attempt, Delivery::Published { .. })) {
            run.report(index, true);
        }
        prop_assert!(run.attempts.is_empty(), "a client waits for ever");
        for (body, receipt) in &run.answered {
            let offset = receipt.events[0].offset.unwrap();
            prop_assert_eq!(run.log.get(&offset), Some(body));
        }
        prop_assert!(run.published <= arrived, "nothing is published more often than it arrived");
    }
}
