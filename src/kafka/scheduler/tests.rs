use std::collections::BTreeMap;

use proptest::prelude::*;

use super::queue::BATCH_BYTES;
use super::*;

/// A step of a run, with brokers that answer at any time and in any order.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        topic: usize,
        key: Option<u8>,
        is_alone: bool,
    },
    /// One of the batches in flight is answered.
    Answer {
        which: usize,
        is_sure: bool,
    },
    Wait(u64),
    Leaders {
        topic: usize,
        leaders: Vec<i32>,
    },
    Producers(usize),
    /// A broker's window changes its numbers of producers and of batches in flight.
    Window {
        broker: i32,
        producers: usize,
        batches: f64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::weighted(0.9, 0..6u8);
    prop_oneof![
        10 => (0..3usize, key, prop::bool::weighted(0.05))
            .prop_map(|(topic, key, is_alone)| Step::Submit { topic, key, is_alone }),
        8 => (any::<prop::sample::Index>(), prop::bool::weighted(0.9))
            .prop_map(|(which, is_sure)| Step::Answer { which: which.index(1 << 16), is_sure }),
        3 => prop_oneof![0..5u64, 90..700u64, 9_000..31_000u64].prop_map(Step::Wait),
        1 => (0..3usize, prop::collection::vec(-1..3, 0..5)).prop_map(|(topic, leaders)| Step::Leaders { topic, leaders }),
        1 => (0..4usize).prop_map(Step::Producers),
        2 => (-1..3, 0..4usize, 0.0..8.0)
            .prop_map(|(broker, producers, batches)| Step::Window { broker, producers, batches }),
    ]
}

const REQUESTS: usize = 2;
const MAX_AGE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: usize,
    topic: usize,
    key: Option<u8>,
    is_alone: bool,
    generation: usize,
    submitted: Instant,
}

struct Stage {
    scheduler: Scheduler<Event>,
    now: Instant,
    submitted: usize,
    /// Batches without an answer. Events that were sent directly are answered one by one.
    in_flight: Vec<Batch<Event>>,
    /// The producer of each queue whose last events may have been written or not.
    unsure: BTreeMap<usize, usize>,
    /// True for each event that was answered or given up, by its number.
    ended: Vec<bool>,
    /// The last number that was sent for each topic, key and generation.
    last: BTreeMap<(usize, u8, usize), usize>,
    /// The number of changes of each topic's partition count. Each change moves keys to other partitions, as with every Kafka producer.
    generations: [usize; 3],
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let scheduler = Scheduler::new(REQUESTS, MAX_AGE, now);
        Self {
            scheduler,
            now,
            submitted: 0,
            in_flight: Vec::new(),
            unsure: BTreeMap::new(),
            ended: Vec::new(),
            last: BTreeMap::new(),
            generations: [0; 3],
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Submit { topic, key, is_alone } => {
                let generation = self.generations[topic];
                let event =
                    Event { number: self.submitted, topic, key, is_alone, generation, submitted: self.now };
                self.submitted += 1;
                self.ended.push(false);
                let bytes = key.map(|key| [key]);
                let name = format!("t{topic}");
                let mut kept = Some(event);
                let ticket = self.scheduler.submit(
                    &name,
                    bytes.as_ref().map(|key| &key[..]),
                    Size { bytes: 300_000, is_alone },
                    self.now,
                    || kept.take().unwrap(),
                );
                if let (Some(ticket), Some(event)) = (ticket, kept) {
                    self.sent(vec![Batch { ticket, events: vec![event] }]);
                }
            }
            Step::Answer { which, is_sure } => {
                if !self.in_flight.is_empty() {
                    // librdkafka answers the events of a partition in their order.
                    let queue = self.in_flight[which % self.in_flight.len()].ticket.queue;
                    let first = self.in_flight.iter().position(|batch| batch.ticket.queue == queue).unwrap();
                    let batch = self.in_flight.remove(first);
                    self.answer(&batch, is_sure);
                }
            }
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                let mut released = Released::default();
                self.scheduler.tick(self.now, &mut released);
                self.released(released);
                self.nothing_waits_where_there_is_room();
            }
            Step::Leaders { topic, leaders } => {
                let number = self.scheduler.topic(&format!("t{topic}"));
                let partitions = self.scheduler.topics[number].partitions;
                if partitions != 0 && partitions != leaders.len() {
                    self.generations[topic] += 1;
                }
                self.scheduler.set_leaders(&format!("t{topic}"), &leaders, self.now);
                self.scheduler.forget_brokers();
            }
            Step::Producers(producers) => self.scheduler.producers = producers,
            Step::Window { broker, producers, batches } => {
                if let Some(broker) = self.scheduler.brokers.get_mut(&broker) {
                    (broker.window.producers, broker.window.filling) = (producers, batches);
                }
            }
        }
    }

    fn answer(&mut self, batch: &Batch<Event>, is_sure: bool) {
        let Ticket { queue, producer, .. } = batch.ticket;
        if is_sure {
            self.unsure.remove(&queue);
        } else {
            self.unsure.insert(queue, producer);
        }
        let answered =
            Answered { ticket: batch.ticket, events: batch.events.len(), is_written: is_sure, is_sure };
        let mut released = Released::default();
        self.scheduler.answered(&answered, self.now, &mut released);
        self.end(&batch.events);
        self.released(released);
    }

    fn released(&mut self, released: Released<Event>) {
        for event in &released.given_up {
            assert!(self.now - event.submitted > MAX_AGE / 2, "{event:?} is given up too early");
        }
        self.end(&released.given_up);
        for event in released.batches.iter().flat_map(|batch| &batch.events) {
            assert!(self.now - event.submitted <= MAX_AGE, "{event:?} is sent too late");
        }
        self.sent(released.batches);
        self.check_window_load();
    }

    fn check_window_load(&self) {
        for (id, broker) in &self.scheduler.brokers {
            let queues = self.scheduler.queues.iter().filter(|queue| queue.leader == Some(*id));
            let events: Vec<usize> = queues.map(Queue::events).filter(|events| *events > 0).collect();
            assert_eq!(broker.window.load, [events.iter().sum(), events.len()], "broker {id}");
        }
    }

    fn end(&mut self, events: &[Event]) {
        for event in events {
            assert!(!std::mem::replace(&mut self.ended[event.number], true), "{event:?} ends twice");
        }
    }

    fn sent(&mut self, batches: Vec<Batch<Event>>) {
        for Batch { ticket, events } in batches {
            assert!(!events.is_empty());
            assert!(ticket.producer <= self.scheduler.producers);
            assert_eq!(ticket.is_alone, events.iter().any(|event| event.is_alone));
            assert!(events.len() == 1 || !events.iter().any(|event| event.is_alone), "alone: {events:?}");
            assert!(events.len() <= BATCH_BYTES / 300_000);
            let others = self.in_flight.iter().filter(|other| other.ticket.queue == ticket.queue);
            for other in others {
                assert_eq!(ticket.producer, other.ticket.producer, "one partition with two producers");
                assert!(!ticket.is_alone && !other.ticket.is_alone, "not alone: {ticket:?}, {other:?}");
            }
            let producer =
                self.unsure.get(&ticket.queue).filter(|producer| **producer <= self.scheduler.producers);
            assert!(
                producer.is_none_or(|producer| *producer == ticket.producer),
                "overtakes on another connection"
            );
            // If that producer was retired, the order is checked with the next one.
            self.unsure.entry(ticket.queue).and_modify(|producer| *producer = ticket.producer);
            for event in &events {
                if let Some(key) = event.key {
                    let last = self.last.insert((event.topic, key, event.generation), event.number);
                    assert!(last.is_none_or(|last| last < event.number), "{event:?} is sent after {last:?}");
                }
            }
            if ticket.producer == DIRECT {
                self.in_flight.extend(events.into_iter().map(|event| Batch { ticket, events: vec![event] }));
            } else {
                self.in_flight.push(Batch { ticket, events });
            }
        }
        for (id, broker) in &self.scheduler.brokers {
            assert!(
                broker.in_flight.iter().all(|count| *count <= REQUESTS),
                "broker {id}: {:?}",
                broker.in_flight
            );
        }
    }

    fn nothing_waits_where_there_is_room(&self) {
        for (id, broker) in &self.scheduler.brokers {
            for &queue in &broker.ready {
                let producer = self.scheduler.producer(queue);
                assert!(
                    !self.scheduler.has_room(Some(*id), producer),
                    "broker {id} has room for queue {queue}"
                );
            }
        }
        for queue in &self.scheduler.queues {
            let is_held = queue.is_idle() || queue.in_flight != InFlight::Nothing || queue.is_listed;
            assert!(is_held, "nobody will send {queue:?}");
        }
    }
}

proptest! {
    #[test]
    fn every_event_ends_once_in_order_and_none_waits_where_there_is_room(
        steps in prop::collection::vec(step(), 0..300)
    ) {
        let mut stage = Stage::new();
        for step in steps {
            stage.take(step);
        }
        // The brokers answer all remaining batches.
        while let Some(batch) = stage.in_flight.pop() {
            stage.now += Duration::from_millis(1);
            stage.answer(&batch, true);
            if stage.in_flight.is_empty() {
                stage.take(Step::Wait(100));
            }
        }
        let left = stage.ended.iter().filter(|ended| !**ended).count();
        prop_assert_eq!(left, 0, "events were never sent");
    }
}

#[test]
fn a_partition_has_several_batches_on_their_way_only_if_the_window_asks_for_them() {
    // The window's number of batches, whether each event has to be alone, whether each event is sent at once.
    let cases = [
        (1.0, [false; 3], [true, false, false]),
        (2.0, [false; 3], [true, true, false]),
        (9.0, [false; 3], [true, true, false]), // the producer's limit of requests
        (9.0, [true, false, false], [true, false, false]),
        (9.0, [false, true, false], [true, false, false]),
    ];
    for (batches, alone, at_once) in cases {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(REQUESTS, MAX_AGE, now);
        scheduler.set_leaders("t", &[1], now);
        scheduler.producers = 1;
        let window = &mut scheduler.brokers.get_mut(&1).unwrap().window;
        (window.producers, window.filling) = (1, batches);
        let mut submit =
            |is_alone| scheduler.submit("t", Some(b"key"), Size { bytes: 1, is_alone }, now, || ()).is_some();
        assert_eq!(alone.map(&mut submit), at_once, "{batches} batches, alone: {alone:?}");
    }
}
