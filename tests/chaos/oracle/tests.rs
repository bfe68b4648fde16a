//! Tests of the oracle: a run without a fault passes, and the oracle finds each kind of violation.

use super::*;

/// A run without violations: connections send in turn, each delivery is sent once and answered.
struct Run {
    workload: Workload,
    journals: Vec<Journal>,
    log: Vec<Logged>,
    troubles: Vec<(Moment, Moment)>,
    replicas: usize,
}

/// A message that a test can change before it is passed to the oracle.
#[derive(Clone)]
struct Logged {
    name: Name,
    index: usize,
    action: usize,
    place: Position,
    key: String,
    value: String,
    id: String,
    received: Moment,
}

impl Run {
    fn new() -> Self {
        let workload = Workload::new(11);
        let journals = vec![Journal::new(); 40];
        let mut run = Self { workload, journals, log: Vec::new(), troubles: Vec::new(), replicas: 1 };
        let mut now = 100 * MILLISECOND;
        for number in 0..20 {
            for connection in [0, 1, 39] {
                let name = Name { connection, number };
                let delivery = workload.delivery(name);
                let places =
                    (0..delivery.records).map(|index| run.append(name, index, now + 2 * MILLISECOND));
                let places = places.collect();
                let entry =
                    Entry { sent: now, answered: Some(now + 5 * MILLISECOND), places, attempts: Vec::new() };
                run.journals[usize::from(connection)].push(entry);
                now += 10 * MILLISECOND;
            }
        }
        run
    }

    /// Appends a copy to its partition.
    fn append(&mut self, name: Name, index: usize, received: Moment) -> Position {
        let action = self.workload.delivery(name).action;
        let key = self.workload.key(name, index);
        let partition = i32::try_from(key % 3).expect("small");
        let same = |logged: &&Logged| logged.action == action && logged.place.partition == partition;
        let offset = i64::try_from(self.log.iter().filter(same).count()).expect("small");
        let place = Position { partition, offset: Some(offset) };
        let value = self.workload.record(name, index);
        let signal = ACTIONS[action].signal;
        let id = if signal { format!("{action} {place:?}") } else { value.clone() };
        self.log.push(Logged { name, index, action, place, key: key.to_string(), value, id, received });
        place
    }

    fn verdict(&self) -> Verdict {
        self.verdict_from(0)
    }

    fn verdict_from(&self, isolated_from: Moment) -> Verdict {
        let oracle = Oracle::new(self.workload, &self.journals, isolated_from, self.troubles.clone());
        let mut oracle = oracle.behind_proxy(self.replicas);
        for logged in &self.log {
            oracle.see(&Message {
                action: logged.action,
                place: logged.place,
                key: Some(logged.key.as_bytes()),
                value: logged.value.as_bytes(),
                id: &logged.id,
                received: logged.received,
            });
        }
        oracle.verdict()
    }

    fn entry(&mut self, name: Name) -> &mut Entry {
        &mut self.journals[usize::from(name.connection)][name.number as usize]
    }

    /// Adds an earlier attempt to a delivery, so that its first attempt becomes the second one.
    fn tried_before(&mut self, name: Name, published: bool) {
        let entry = self.entry(name);
        let first = entry.sent - 8 * MILLISECOND;
        entry.attempts = vec![(first, published), (entry.sent, false)];
    }

    /// Returns the index of a message of a change, or of a signal, in the main traffic.
    fn one(&self, signal: bool) -> usize {
        let one = self
            .log
            .iter()
            .position(|logged| logged.action != ISOLATED && ACTIONS[logged.action].signal == signal);
        one.expect("both are sent")
    }
}

/// Returns the number of violations of each rule, in their order.
fn counts(verdict: &Verdict) -> [u64; 6] {
    verdict.violations().map(|(_, findings)| findings.count)
}

#[test]
fn a_run_without_a_fault_passes() {
    let run = Run::new();
    let verdict = run.verdict();
    assert_eq!(counts(&verdict), [0; 6], "{verdict:?}");
    assert_eq!((verdict.acked, verdict.messages), (run.log.len() as u64, run.log.len() as u64));
    assert!(verdict.acked > 60 && verdict.explained == 0);
}

#[test]
fn an_acked_event_that_is_not_there_is_lost() {
    let mut run = Run::new();
    run.log.remove(17);
    assert_eq!(counts(&run.verdict()), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn an_event_of_a_deleted_topic_is_spared_only_if_it_was_sent_before() {
    let mut run = Run::new();
    let deleted = run.log.iter().position(|logged| logged.action == ISOLATED).expect("it is sent");
    let name = run.log.remove(deleted).name;
    assert_eq!(counts(&run.verdict()), [1, 0, 0, 0, 0, 0]);
    let sent = run.entry(name).sent;
    assert_eq!(counts(&run.verdict_from(sent)), [1, 0, 0, 0, 0, 0]);
    let verdict = run.verdict_from(sent + 1);
    assert_eq!(counts(&verdict), [0; 6]);
    assert!(verdict.spared > 0);
    run.log.remove(run.one(false)); // a message of another topic
    assert_eq!(counts(&run.verdict_from(sent + 1)), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn an_event_that_was_given_up_may_be_there_or_not() {
    let mut run = Run::new();
    let name = run.log[3].name;
    let entry = run.entry(name);
    (entry.answered, entry.attempts, entry.places) = (None, vec![(entry.sent, true)], Box::default());
    assert_eq!(counts(&run.verdict()), [0; 6]);
    run.log.retain(|logged| logged.name != name);
    assert_eq!(counts(&run.verdict()), [0; 6]);
}

#[test]
fn what_was_never_sent_like_that_is_invented() {
    let changes: [fn(&mut Logged); 6] = [
        |logged| logged.value = "{}".to_owned(),
        |logged| logged.value = logged.value.replace("0.09000", "0.09"),
        |logged| logged.value.push(' '),
        |logged| logged.key = "9".to_owned(),
        |logged| logged.action = (logged.action + 1) % ISOLATED,
        |logged| logged.value = Workload::new(11).record(Name { connection: 0, number: 999 }, 0),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut run = Run::new();
        let one = run.one(false);
        change(&mut run.log[one]);
        // The message is missing at its expected position, and invented at the other.
        assert_eq!(counts(&run.verdict()), [1, 1, 0, 0, 0, 0], "{number}");
    }
    let mut run = Run::new();
    let one = run.one(false);
    let name = run.log[one].name;
    let entry = run.entry(name);
    (entry.answered, entry.places) = (None, Box::default()); // no attempt ever reached the bridge
    let records = run.workload.delivery(name).records as u64;
    assert_eq!(counts(&run.verdict()), [0, records, 0, 0, 0, 0]);
}

#[test]
fn a_receipt_that_names_another_place_is_misplaced() {
    let mut run = Run::new();
    let name = run.log[5].name;
    let place = run.entry(name).places[0];
    run.entry(name).places[0].offset = place.offset.map(|offset| offset + 1);
    assert_eq!(counts(&run.verdict()), [0, 0, 1, 0, 0, 0]);
    run.entry(name).places[0].offset = None; // the broker did not name it
    assert_eq!(counts(&run.verdict()), [0; 6]);
    run.entry(name).places[0].partition += 1;
    assert_eq!(counts(&run.verdict()), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn first_copies_out_of_order_are_reordered() {
    let mut run = Run::new();
    let last = run.log.iter().rposition(|logged| logged.action != ISOLATED).expect("a message");
    let last = run.log[last].clone();
    let same = |logged: &Logged| (logged.action, &logged.key) == (last.action, &last.key);
    let first = run.log.iter().position(same).expect("a message of the same key");
    assert_ne!(run.log[first].name, last.name);
    // Exchanges the positions of the two, in the log and in their receipts.
    let place = run.log[first].place;
    for (name, index, from, to) in [
        (run.log[first].name, run.log[first].index, place, last.place),
        (last.name, last.index, last.place, place),
    ] {
        let logged = run.log.iter_mut().find(|logged| (logged.name, logged.index) == (name, index));
        logged.expect("it is there").place = to;
        assert_eq!(run.entry(name).places[index], from);
        run.entry(name).places[index] = to;
    }
    let verdict = run.verdict();
    assert!(verdict.reordered.count > 0);
    assert_eq!(counts(&verdict), [0, 0, 0, verdict.reordered.count, 0, 0]);
    // If all are in flight at the same time, any order is right.
    for entry in run.journals.iter_mut().flatten() {
        entry.sent = 0;
    }
    assert_eq!(counts(&run.verdict()), [0; 6]);
}

#[test]
fn a_key_on_two_partitions_is_reordered() {
    let mut run = Run::new();
    let one = run.one(false);
    let Logged { name, index, place, .. } = run.log[one].clone();
    let moved = Position { partition: 7, ..place };
    run.log[one].place = moved;
    run.entry(name).places[index] = moved;
    assert_eq!(counts(&run.verdict()), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_duplicate_is_explained_by_an_attempt_without_2xx_and_by_nothing_else() {
    for signal in [false, true] {
        let mut run = Run::new();
        let one = run.one(signal);
        let Logged { name, index, received, .. } = run.log[one].clone();
        run.append(name, index, received - 6 * MILLISECOND);
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
        run.tried_before(name, false); // refused before anything was published
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
        run.tried_before(name, true);
        let verdict = run.verdict();
        assert_eq!((counts(&verdict), verdict.explained, verdict.rewritten), ([0; 6], 1, 0));
        run.append(name, index, received - 4 * MILLISECOND); // the same attempt cannot arrive twice
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
    }
}

#[test]
fn a_duplicate_that_arrived_before_the_attempt_is_not_explained_by_it() {
    let mut run = Run::new();
    let one = run.one(false);
    let Logged { name, index, received, .. } = run.log[one].clone();
    run.tried_before(name, true);
    run.append(name, index, received - 30 * MILLISECOND);
    assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn an_attempt_with_2xx_has_one_copy_unless_there_was_a_fault() {
    let mut run = Run::new();
    let one = run.one(false);
    let Logged { name, index, received, .. } = run.log[one].clone();
    run.tried_before(name, true);
    run.append(name, index, received);
    assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
    let (sent, answered) = (run.entry(name).sent, run.entry(name).answered.expect("all were"));
    run.troubles = vec![(0, sent - 1), (answered + 1, answered + 2)];
    assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
    run.troubles.push((sent + 1, sent + 2));
    let verdict = run.verdict();
    assert_eq!((counts(&verdict), verdict.explained, verdict.rewritten), ([0; 6], 0, 1));
}

#[test]
fn an_attempt_without_2xx_may_have_been_written_twice_by_the_kafka_client() {
    let mut run = Run::new();
    let one = run.one(false);
    let Logged { name, index, received, .. } = run.log[one].clone();
    run.tried_before(name, true);
    run.append(name, index, received - 6 * MILLISECOND);
    run.append(name, index, received - 6 * MILLISECOND);
    let verdict = run.verdict();
    assert_eq!((counts(&verdict), verdict.explained, verdict.rewritten), ([0; 6], 2, 0));
}

#[test]
fn during_a_fault_a_proxy_may_take_an_attempt_to_each_replica_once() {
    for signal in [false, true] {
        let mut run = Run::new();
        let one = run.one(signal);
        let Logged { name, index, received, .. } = run.log[one].clone();
        run.append(name, index, received + MILLISECOND);
        run.replicas = 2;
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
        run.troubles = vec![(received, received)];
        let verdict = run.verdict();
        assert_eq!((counts(&verdict), verdict.explained), ([0; 6], 1));
        run.replicas = 1;
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
        run.replicas = 2;
        run.append(name, index, received + 2 * MILLISECOND);
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 1, 0]);
    }
}

#[test]
fn copies_of_a_change_share_their_id_and_copies_of_a_signal_do_not() {
    for signal in [false, true] {
        let mut run = Run::new();
        let one = run.one(signal);
        let Logged { name, index, id, received, .. } = run.log[one].clone();
        run.tried_before(name, true);
        run.append(name, index, received - 6 * MILLISECOND);
        let copy = run.log.last_mut().expect("just written");
        copy.id = if signal { id } else { "another".to_owned() };
        assert_eq!(counts(&run.verdict()), [0, 0, 0, 0, 0, 1]);
    }
}
