//! The state of the double, behind one lock.
//!
//! The lock is held for computing only, never over I/O or an await. The methods of [`World`] take it; the other files add
//! methods about records, requests and deliveries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nexudus_bridge::nexudus::record::RawRecord;
use nexudus_bridge::sender::post::Retry;
use nexudus_bridge::signature::SigningKey;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc::UnboundedSender;

use crate::access::{Account, Accounts, Admitted, Limits, administrator};
use crate::behaviour::{Behaviour, Fault, Matching};
use crate::message::Journal;

/// The ids start just below 2^31, as those of Nexudus do, and soon exceed it.
const FIRST_ID: i64 = 2_147_483_600;

/// A network in Nexudus, with its API and its webhooks.
pub struct World {
    state: Mutex<State>,
}

pub(super) struct State {
    /// Time of the double's clock minus time of the machine's.
    clock_offset: SignedDuration,
    pub(super) behaviour: Behaviour,
    pub(super) limits: Limits,
    pub(super) admitted: Admitted,
    pub(super) accounts: Accounts,
    pub(super) faults: Vec<(Matching, Fault)>,
    pub(super) reactions: Vec<(Matching, Reaction)>,
    pub(super) journal: Journal,
    pub(super) webhooks: BTreeMap<i64, RawRecord>,
    pub(super) records: BTreeMap<&'static str, BTreeMap<i64, Located>>,
    /// By location.
    pub(super) secrets: HashMap<i64, SigningKey>,
    pub(super) deliveries: Deliveries,
    pub(super) levers: Vec<Lever>,
    last_id: i64,
}

/// A change between the effect of a request and its response.
pub(super) type Reaction = Arc<dyn Fn(&World) + Send + Sync>;

/// A record and its location. Not every record has a field for the location.
pub(super) struct Located {
    pub(super) business_id: i64,
    pub(super) record: RawRecord,
}

/// A name, and what `POST /double/{name}` does. It returns a line for the response.
pub(super) type Lever = (&'static str, Arc<dyn Fn() -> String + Send + Sync>);

/// Options of a double. The default is Nexudus as documented, empty, with the demo's administrator.
pub struct Options {
    /// Port on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// Rate limits.
    pub limits: Limits,
    /// Retries of a failed delivery. Nexudus's schedule is not published.
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, limits: Limits::DOCUMENTED, retry: Retry::NEXUDUS }
    }
}

impl World {
    pub(super) fn new(options: &Options, queue: UnboundedSender<u64>) -> Self {
        let mut accounts = Accounts::default();
        accounts.set(administrator());
        let state = State {
            clock_offset: SignedDuration::ZERO,
            behaviour: Behaviour::default(),
            limits: options.limits,
            admitted: Admitted::default(),
            accounts,
            faults: Vec::new(),
            reactions: Vec::new(),
            journal: Journal::default(),
            webhooks: BTreeMap::new(),
            records: BTreeMap::new(),
            secrets: HashMap::new(),
            deliveries: Deliveries {
                retry: options.retry,
                queue,
                pending: BTreeMap::new(),
                last: 0,
                missed: 0,
            },
            levers: Vec::new(),
            last_id: FIRST_ID,
        };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Returns the time of the double's clock.
    pub fn now(&self) -> Timestamp {
        self.lock().now()
    }

    /// Shifts the clock of tokens and records. Rate limits and retries follow the machine's clock.
    pub fn shift_clock(&self, by: SignedDuration) {
        self.lock().clock_offset += by;
    }

    /// Changes the behaviour.
    pub fn adjust(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// Adds an account, or replaces the one with the same e-mail address.
    pub fn set_account(&self, account: Account) {
        self.lock().accounts.set(account);
    }

    /// Invalidates all access tokens, although they have not expired.
    pub fn end_access_tokens(&self) {
        self.lock().accounts.invalidate_access_tokens();
    }

    /// Sets the shared secret of a location. Without one, deliveries have no signature.
    pub fn set_secret(&self, business_id: i64, secret: Option<&str>) {
        let mut state = self.lock();
        match secret.and_then(|secret| SigningKey::new(secret).ok()) {
            Some(key) => state.secrets.insert(business_id, key),
            None => state.secrets.remove(&business_id),
        };
    }

    /// Adds a fault. Of several that select a request, the oldest applies.
    pub fn fault(&self, matching: Matching, fault: Fault) {
        self.lock().faults.push((matching, fault));
    }

    /// Makes a change after the effect of a selected request and before its response, such as the deletion of a record
    /// between two pages.
    pub fn before_response(&self, matching: Matching, act: impl Fn(&World) + Send + Sync + 'static) {
        self.lock().reactions.push((matching, Arc::new(act)));
    }

    /// Removes all faults and all changes of [`World::before_response`].
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.reactions.clear();
    }

    /// Returns a copy of the journal.
    pub fn journal(&self) -> Journal {
        self.lock().journal.clone()
    }

    /// Removes all requests from the journal.
    pub fn clear_journal(&self) {
        self.lock().journal.clear();
    }

    /// Returns the number of events without an enabled webhook, and of deliveries that were dropped.
    pub fn missed(&self) -> usize {
        self.lock().deliveries.missed
    }

    /// Returns the number of deliveries that are being sent or wait for a retry.
    pub fn pending(&self) -> usize {
        self.lock().deliveries.pending.len()
    }
}

impl State {
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock_offset
    }

    pub(super) fn new_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }
}

/// The pending deliveries, and the number of missed events.
pub(super) struct Deliveries {
    pub(super) retry: Retry,
    /// Numbers of new deliveries, for the task that sends them.
    queue: UnboundedSender<u64>,
    pub(super) pending: BTreeMap<u64, Delivery>,
    last: u64,
    pub(super) missed: usize,
}

/// A pending delivery.
pub(super) struct Delivery {
    pub(super) webhook_id: i64,
    pub(super) business_id: i64,
    pub(super) record: Bytes,
    pub(super) attempts: u32,
    /// True if an attempt is in progress.
    pub(super) is_posting: bool,
}

impl Deliveries {
    pub(super) fn add(&mut self, delivery: Delivery) {
        self.last += 1;
        self.pending.insert(self.last, delivery);
        self.queue.send(self.last).ok(); // the receiver is dropped once the double is stopped
    }

    pub(super) fn give_up(&mut self, number: u64) {
        self.missed += usize::from(self.pending.remove(&number).is_some());
    }

    /// Drops the deliveries of a webhook that wait for a retry. An attempt in progress may still succeed.
    pub(super) fn give_up_waiting(&mut self, webhook_id: i64) {
        let before = self.pending.len();
        self.pending.retain(|_, delivery| delivery.webhook_id != webhook_id || delivery.is_posting);
        self.missed += before - self.pending.len();
    }
}
