//! All that the double knows, behind one lock.
//!
//! The lock is held for plain computing only, never over I/O or an await. [`World`] is the way in, for the server, the
//! sender and tests alike; methods about records, webhooks and deliveries are in the files of those.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nexudus_bridge::sender::post::Retry;
use nexudus_bridge::signature::SigningKey;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

use crate::faults::{Fault, Faults, Matching};
use crate::manners::{Limits, Manners, Taken};
use crate::message::Journal;
use crate::record::Record;
use crate::token::{Account, EMAIL, PASSWORD, Tokens};

/// The first id that is given. Real ones come near 2^31, and these soon go over it.
const FIRST_ID: i64 = 2_147_483_600;

/// What Nexudus knows and what happens in it.
pub struct World {
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) manners: Manners,
    pub(super) limits: Limits,
    pub(super) taken: Taken,
    pub(super) tokens: Tokens,
    pub(super) faults: Faults,
    pub(super) interludes: Vec<(Matching, Interlude)>,
    pub(super) journal: Journal,
    pub(super) redact: bool,
    pub(super) webhooks: BTreeMap<i64, Record>,
    /// By entity and id.
    pub(super) records: BTreeMap<&'static str, BTreeMap<i64, Located>>,
    /// The shared secret of each business that has one.
    pub(super) secrets: HashMap<i64, SigningKey>,
    pub(super) sending: Sending,
    pub(super) deliveries: Deliveries,
    pub(super) levers: Vec<Lever>,
    next_id: i64,
}

/// What others do meanwhile.
pub(super) type Interlude = Arc<dyn Fn(&World) + Send + Sync>;

/// A record and the business that it belongs to, which not every record says.
pub(super) struct Located {
    pub(super) business_id: i64,
    pub(super) record: Record,
}

impl World {
    pub(super) fn new(options: Options, queue: Queue) -> Self {
        let Options { port: _, accounts, manners, limits, sending, redact } = options;
        let mut tokens = Tokens::default();
        accounts.into_iter().for_each(|account| tokens.put(account));
        let state = State {
            clock: Clock::default(),
            manners,
            limits,
            taken: Taken::default(),
            tokens,
            faults: Faults::default(),
            interludes: Vec::new(),
            journal: Journal::default(),
            redact,
            webhooks: BTreeMap::new(),
            records: BTreeMap::new(),
            secrets: HashMap::new(),
            sending,
            deliveries: Deliveries::new(queue),
            levers: Vec::new(),
            next_id: FIRST_ID,
        };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The time by the double's clock.
    pub fn now(&self) -> Timestamp {
        self.lock().clock.now()
    }

    /// Puts the clock forward (or back): tokens end, and what changes from now on has later times. Limits and the
    /// sender's waits stay in real time.
    pub fn shift_clock(&self, by: SignedDuration) {
        self.lock().clock.shift(by);
    }

    /// Changes the manners that the documentation leaves open.
    pub fn adjust(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.lock().manners);
    }

    /// Sets other limits. What was taken until now counts no more.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.lock();
        state.limits = limits;
        state.taken = Taken::default();
    }

    /// Sets how deliveries are sent from now on; `concurrency` and `timeout` stay as they were at start.
    pub fn set_sending(&self, sending: Sending) {
        self.lock().sending = sending;
    }

    /// Adds an account, or replaces the one of the same address.
    pub fn set_account(&self, account: Account) {
        self.lock().tokens.put(account);
    }

    /// Makes every access token that was given invalid, though its `expires_in` is not over.
    pub fn end_access_tokens(&self) {
        self.lock().tokens.end_access();
    }

    /// Makes every refresh token that was given invalid.
    pub fn void_refresh_tokens(&self) {
        self.lock().tokens.void_refresh();
    }

    /// Sets the shared secret of a business, or takes it away: deliveries have no signature then.
    pub fn set_secret(&self, business_id: i64, secret: Option<&str>) {
        self.set_key(business_id, secret.and_then(|secret| SigningKey::new(secret).ok()));
    }

    /// [`World::set_secret`] with a secret that is a key already.
    pub fn set_key(&self, business_id: i64, key: Option<SigningKey>) {
        let mut state = self.lock();
        match key {
            Some(key) => state.secrets.insert(business_id, key),
            None => state.secrets.remove(&business_id),
        };
    }

    /// Lets something go wrong with the requests that match.
    pub fn fault(&self, matching: Matching, fault: Fault) {
        self.lock().faults.add(matching, fault);
    }

    /// Takes back all faults and interludes that are still to come.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.interludes.clear();
    }

    /// Lets others do something once a request that matches has taken effect, before it is answered: delete a record
    /// between two pages, change a webhook between a GET and its PUT.
    pub fn meanwhile(&self, matching: Matching, act: impl Fn(&World) + Send + Sync + 'static) {
        self.lock().interludes.push((matching, Arc::new(act)));
    }

    /// The requests until now.
    pub fn journal(&self) -> Journal {
        self.lock().journal.clone()
    }

    /// Forgets the requests until now.
    pub fn clear_journal(&self) {
        self.lock().journal.clear();
    }

    /// Adds a lever.
    pub fn add_lever(&self, lever: Lever) {
        self.lock().levers.push(lever);
    }

    /// What was lost until now.
    pub fn missed(&self) -> Vec<Missed> {
        self.lock().deliveries.missed.iter().cloned().collect()
    }

    /// The attempts to deliver until now, in the order in which they ended.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().deliveries.attempts.iter().cloned().collect()
    }

    /// How many deliveries are on their way or wait for their next attempt.
    pub fn pending(&self) -> usize {
        self.lock().deliveries.pending.len()
    }

    /// Waits until every delivery has arrived or is lost.
    pub async fn settled(&self) {
        let mut count = self.lock().deliveries.count.subscribe();
        count.wait_for(|count| *count == 0).await.expect("the sender of it is in self");
    }
}

impl State {
    pub(super) fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}

/// How a double begins. The default is Nexudus as documented, with the demo's administrator and nothing in it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 for any.
    pub port: u16,
    /// Who may ask.
    pub accounts: Vec<Account>,
    /// The manners that the documentation leaves open.
    pub manners: Manners,
    /// Throttling.
    pub limits: Limits,
    /// How deliveries are sent.
    pub sending: Sending,
    /// Whether the journal leaves out passwords and tokens of the API. URLs of webhooks are always as they were sent.
    pub redact: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            accounts: vec![Account::administrator(EMAIL, PASSWORD)],
            manners: Manners::default(),
            limits: Limits::DOCUMENTED,
            sending: Sending::default(),
            redact: true,
        }
    }
}

/// Something that a POST to `/double/{name}` does.
#[derive(Clone)]
pub struct Lever {
    /// Its name, such as `kafka/stop`.
    pub name: &'static str,
    /// What it does, and what the answer is: a line for people.
    pub act: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Lever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lever").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A clock that is so far ahead of the machine's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    pub(super) fn now(self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    pub(super) fn shift(&mut self, by: SignedDuration) {
        self.ahead += by;
    }
}

/// How many attempts and how many missed events are remembered; older ones are forgotten.
const KEPT: usize = 20_000;

/// How deliveries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// How often and after which waits a delivery is tried again. Nexudus's schedule is not published.
    pub retry: Retry,
    /// The failure in a row that switches a webhook off: 10 as documented, or 11, which one tenant's dead webhooks had.
    pub switch_off_after: u32,
    /// How many deliveries are on their way at once.
    pub concurrency: usize,
    /// How long an attempt may take.
    pub timeout: Duration,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            retry: Retry::NEXUDUS,
            switch_off_after: 10,
            concurrency: 16,
            timeout: Duration::from_secs(30),
        }
    }
}

/// What came of something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The action; none if the catalogue has none for it.
    pub action: Option<String>,
    /// The record that it happened to, where it is known.
    pub record_id: Option<i64>,
    /// The webhooks that it is posted to. Where there is none, it is missed.
    pub webhooks: Vec<i64>,
}

/// An event that reached nobody, or not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The action's name.
    pub action: String,
    /// Where it happened.
    pub business_id: i64,
    /// The record, as it would have been sent.
    pub record: Bytes,
    /// The webhook that should have brought it, if there is one.
    pub webhook_id: Option<i64>,
    /// Why it did not.
    pub why: Why,
}

/// Why an event was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no webhook for the action at that business.
    NoWebhook,
    /// There is one, but it was off.
    Off,
    /// It was switched off (or deleted) while the delivery waited for its next attempt.
    SwitchedOff,
    /// Every attempt had failed.
    GaveUp,
}

/// An attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The webhook.
    pub webhook_id: i64,
    /// The action's name.
    pub action: String,
    /// Which attempt of its delivery, from 1.
    pub number: u32,
    /// When it ended, by the double's clock.
    pub at: Timestamp,
    /// The status, or why there was none.
    pub answer: Result<u16, String>,
}

/// Where deliveries wait for the task that sends them.
pub(super) type Queue = mpsc::UnboundedSender<u64>;

/// The deliveries that are not settled, and what became of the others.
pub(super) struct Deliveries {
    pub(super) queue: Queue,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// How many are pending, for those who wait.
    pub(super) count: watch::Sender<usize>,
    pub(super) last: u64,
    pub(super) missed: VecDeque<Missed>,
    pub(super) attempts: VecDeque<Attempt>,
}

pub(super) struct Pending {
    pub(super) webhook_id: i64,
    pub(super) action: String,
    pub(super) business_id: i64,
    pub(super) record: Bytes,
    pub(super) attempts: u32,
    /// Whether an attempt is on its way.
    pub(super) posting: bool,
}

impl Deliveries {
    pub(super) fn new(queue: Queue) -> Self {
        let count = watch::Sender::new(0);
        let (missed, attempts) = (VecDeque::new(), VecDeque::new());
        Self { queue, pending: BTreeMap::new(), count, last: 0, missed, attempts }
    }

    pub(super) fn add(&mut self, pending: Pending) {
        self.last += 1;
        self.pending.insert(self.last, pending);
        self.count.send_replace(self.pending.len());
        self.queue.send(self.last).ok(); // the sender is gone once the double was stopped
    }

    pub(super) fn end(&mut self, delivery: u64) -> Option<Pending> {
        let ended = self.pending.remove(&delivery);
        self.count.send_replace(self.pending.len());
        ended
    }

    pub(super) fn lose(&mut self, delivery: u64, why: Why) {
        if let Some(Pending { webhook_id, action, business_id, record, .. }) = self.end(delivery) {
            self.miss(Missed { action, business_id, record, webhook_id: Some(webhook_id), why });
        }
    }

    /// Drops what waits for a webhook's next attempts. What is on its way may still arrive.
    pub(super) fn lose_all_of(&mut self, webhook_id: i64) {
        let waiting = |pending: &Pending| pending.webhook_id == webhook_id && !pending.posting;
        let lost: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| waiting(pending))
            .map(|(delivery, _)| *delivery)
            .collect();
        lost.into_iter().for_each(|delivery| self.lose(delivery, Why::SwitchedOff));
    }

    pub(super) fn miss(&mut self, missed: Missed) {
        remember(&mut self.missed, missed);
    }

    pub(super) fn note(&mut self, attempt: Attempt) {
        remember(&mut self.attempts, attempt);
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_ahead_by_what_it_was_shifted() {
        let mut clock = Clock::default();
        clock.shift(SignedDuration::from_hours(24));
        let ahead = clock.now().duration_since(Timestamp::now());
        assert!(ahead > SignedDuration::from_hours(23) && ahead <= SignedDuration::from_hours(24), "{ahead}");
    }
}
