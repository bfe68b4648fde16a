//! All that the double knows, behind one lock.
//!
//! The lock is held for plain computing only, never over I/O or an await. [`World`] is the way in, for the server, the
//! sender and tests alike; methods about records, webhooks and deliveries are in the files of those.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Options;
use super::api;
use super::clock::Clock;
use super::faults::{Fault, Faults, Matching};
use super::journal::Journal;
use super::levers::Lever;
use super::limits::{Limits, Taken};
use super::manners::Manners;
use super::message::{Asked, Reply};
use super::record::Record;
use super::send::{Deliveries, Queue, Sending};
use super::token::{Account, Tokens};
use nexudus_bridge::signature::SigningKey;
use parking_lot::{Mutex, MutexGuard};

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

    /// Notes a request, and says what goes wrong with it.
    pub(super) fn begin(&self, asked: &Asked) -> (u64, Option<Fault>) {
        let mut state = self.lock();
        let (now, redact) = (state.clock.now(), state.redact);
        (state.journal.note(asked, now, redact), state.faults.take(asked))
    }

    /// Lets a request take effect, and then others act.
    pub(super) fn answer(&self, asked: &Asked) -> Reply {
        let mut state = self.lock();
        let reply = api::answer(&mut state, asked);
        let reply = if state.manners.byte_order_mark { reply.with_mark() } else { reply };
        let due: Vec<Interlude> = state
            .interludes
            .iter_mut()
            .filter_map(|(matching, act)| matching.take(asked).then(|| Arc::clone(act)))
            .collect();
        state.interludes.retain(|(matching, _)| !matching.is_over());
        drop(state);
        due.iter().for_each(|act| act(self));
        reply
    }

    pub(super) fn answered(&self, number: u64, status: u16) {
        self.lock().journal.answer(number, status);
    }
}

impl State {
    pub(super) fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}
