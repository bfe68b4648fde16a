//! The sender: what happens in Nexudus is posted to the webhooks of its business and action.
//!
//! A delivery that is not answered 2xx is posted again after a while, with the same bytes, up to ten times. Each failed
//! attempt counts in the webhook's `ErrorCount`; a success sets it to 0. After so many failures in a row the webhook is
//! switched off and its waiting deliveries are dropped. Nobody is told: what was lost is in [`World::missed`] only.
//! `Retry-After` is not looked at, since nothing says that Nexudus does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Client;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::clock;
use super::manners::Wire;
use super::records::Unknown;
use super::state::{State, World};
use nexudus_bridge::sender::post::Retry;
use nexudus_bridge::signature::{self, BYTE_ORDER_MARK};

/// How many attempts and how many missed events are remembered; older ones are forgotten.
const KEPT: usize = 20_000;

/// How many bytes of an answer are read, so that its connection can be used again.
const READ_BYTES: usize = 64 * 1024;

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
    queue: Queue,
    pending: BTreeMap<u64, Pending>,
    /// How many are pending, for those who wait.
    count: watch::Sender<usize>,
    last: u64,
    missed: VecDeque<Missed>,
    attempts: VecDeque<Attempt>,
}

struct Pending {
    webhook_id: i64,
    action: String,
    business_id: i64,
    record: Bytes,
    attempts: u32,
    /// Whether an attempt is on its way.
    posting: bool,
}

struct Post {
    url: String,
    body: Vec<u8>,
    signature: Option<String>,
}

impl World {
    /// Lets an action (name or number) happen to a record at a business: each active webhook for it gets the record's
    /// bytes as they are. Without one, the event is missed.
    ///
    /// # Errors
    /// [`Unknown::Action`].
    pub fn happened(
        &self,
        action: &str,
        business_id: i64,
        record: impl Into<Bytes>,
    ) -> Result<Happened, Unknown> {
        let mut state = self.lock();
        let number = state.action_number(action).ok_or_else(|| Unknown::Action(action.to_owned()))?;
        let name =
            state.actions().find(|(known, _)| *known == number).map_or(action, |(_, name)| name).to_owned();
        let record = record.into();
        let (on, off): (Vec<_>, Vec<_>) = state
            .webhooks
            .values()
            .filter(|webhook| webhook.number("Action") == Some(number))
            .filter(|webhook| webhook.number("BusinessId") == Some(business_id))
            .partition(|webhook| webhook.is_true("Active"));
        let webhooks: Vec<i64> = on.into_iter().map(super::Record::id).collect();
        let off = off.first().map(|webhook| webhook.id());
        if webhooks.is_empty() {
            let why = if off.is_some() { Why::Off } else { Why::NoWebhook };
            let action = name.clone();
            state.deliveries.miss(Missed { action, business_id, record, webhook_id: off, why });
        } else {
            for webhook_id in &webhooks {
                state.deliveries.add(Pending {
                    webhook_id: *webhook_id,
                    action: name.clone(),
                    business_id,
                    record: record.clone(),
                    attempts: 0,
                    posting: false,
                });
            }
        }
        Ok(Happened { action: Some(name), record_id: None, webhooks })
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

    /// What is to be posted now; none if the delivery is over.
    fn next_attempt(&self, delivery: u64) -> Option<Post> {
        let mut state = self.lock();
        let state = &mut *state;
        let pending = state.deliveries.pending.get_mut(&delivery)?;
        let Some(webhook) =
            state.webhooks.get(&pending.webhook_id).filter(|webhook| webhook.is_true("Active"))
        else {
            state.deliveries.lose(delivery, Why::SwitchedOff);
            return None;
        };
        pending.posting = true;
        pending.attempts += 1;
        let text = [b"[", pending.record.as_ref(), b"]"].concat();
        let signature = state.secrets.get(&pending.business_id).map(|key| key.sign(&text));
        let url = webhook.text("URL").unwrap_or_default();
        Some(Post { url, body: on_the_wire(text, state.manners.wire), signature })
    }

    /// Notes what came of an attempt; the wait before the next one, if there is one.
    fn settle(&self, delivery: u64, answer: Result<u16, String>) -> Option<Duration> {
        let mut state = self.lock();
        let at = state.clock.now();
        let pending = state.deliveries.pending.get_mut(&delivery)?;
        pending.posting = false;
        let (webhook_id, number) = (pending.webhook_id, pending.attempts);
        let attempt = Attempt { webhook_id, action: pending.action.clone(), number, at, answer };
        let arrived = attempt.answer.as_ref().is_ok_and(|status| (200..300).contains(status));
        if arrived {
            state.deliveries.end(delivery);
            let resets = state.manners.late_success_resets_errors;
            if let Some(webhook) = state.webhooks.get_mut(&webhook_id) {
                webhook.set_text("LastTrigger", &clock::text(at));
                if webhook.is_true("Active") || resets {
                    webhook.set("ErrorCount", "0");
                }
            }
            state.deliveries.note(attempt);
            return None;
        }
        let on = state.failed(&attempt);
        state.deliveries.note(attempt);
        if !on {
            state.deliveries.lose_all_of(webhook_id);
            return None;
        }
        let wait = state.sending.retry.wait(number, None);
        if wait.is_none() {
            state.deliveries.lose(delivery, Why::GaveUp);
        }
        wait
    }
}

impl State {
    /// Counts a failure on its webhook, and says whether that is still on.
    fn failed(&mut self, attempt: &Attempt) -> bool {
        let Some(webhook) = self.webhooks.get_mut(&attempt.webhook_id) else { return false };
        let errors = webhook.number("ErrorCount").unwrap_or_default() + 1;
        webhook.set("ErrorCount", errors.to_string());
        let error = match &attempt.answer {
            Ok(status) => format!("The remote server returned an error: ({status})."),
            Err(reason) => reason.clone(),
        };
        webhook.set_text("LastError", &error);
        if errors >= i64::from(self.sending.switch_off_after) {
            webhook.set("Active", "false");
        }
        webhook.is_true("Active")
    }
}

impl Deliveries {
    pub(super) fn new(queue: Queue) -> Self {
        let count = watch::Sender::new(0);
        let (missed, attempts) = (VecDeque::new(), VecDeque::new());
        Self { queue, pending: BTreeMap::new(), count, last: 0, missed, attempts }
    }

    fn add(&mut self, pending: Pending) {
        self.last += 1;
        self.pending.insert(self.last, pending);
        self.count.send_replace(self.pending.len());
        self.queue.send(self.last).ok(); // the sender is gone once the double was stopped
    }

    fn end(&mut self, delivery: u64) -> Option<Pending> {
        let ended = self.pending.remove(&delivery);
        self.count.send_replace(self.pending.len());
        ended
    }

    fn lose(&mut self, delivery: u64, why: Why) {
        if let Some(Pending { webhook_id, action, business_id, record, .. }) = self.end(delivery) {
            self.miss(Missed { action, business_id, record, webhook_id: Some(webhook_id), why });
        }
    }

    /// Drops what waits for a webhook's next attempts. What is on its way may still arrive.
    fn lose_all_of(&mut self, webhook_id: i64) {
        let waiting = |pending: &Pending| pending.webhook_id == webhook_id && !pending.posting;
        let lost: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| waiting(pending))
            .map(|(delivery, _)| *delivery)
            .collect();
        lost.into_iter().for_each(|delivery| self.lose(delivery, Why::SwitchedOff));
    }

    fn miss(&mut self, missed: Missed) {
        remember(&mut self.missed, missed);
    }

    fn note(&mut self, attempt: Attempt) {
        remember(&mut self.attempts, attempt);
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

fn on_the_wire(text: Vec<u8>, wire: Wire) -> Vec<u8> {
    match wire {
        Wire::Utf8 => text,
        Wire::Utf8WithMark => [BYTE_ORDER_MARK, &text].concat(),
        Wire::Folded => {
            let mut folded = Vec::with_capacity(text.len());
            signature::fold(&text, |piece| folded.extend_from_slice(piece));
            folded
        }
    }
}

/// Sends what the queue brings, until it is dropped.
pub(super) async fn run(world: Arc<World>, client: Client, mut queue: mpsc::UnboundedReceiver<u64>) {
    let slots = Arc::new(Semaphore::new(world.lock().sending.concurrency.max(1)));
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(delivery) = queue.recv() => {
                tasks.spawn(deliver(world.clone(), client.clone(), slots.clone(), delivery));
            }
            Some(_) = tasks.join_next() => {} // so that those that ended are forgotten
            else => return,
        }
    }
}

async fn deliver(world: Arc<World>, client: Client, slots: Arc<Semaphore>, delivery: u64) {
    loop {
        let slot = slots.acquire().await.expect("nobody closes it");
        let Some(post) = world.next_attempt(delivery) else { return };
        let answer = post.send(&client).await;
        drop(slot);
        match world.settle(delivery, answer) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return,
        }
    }
}

impl Post {
    async fn send(self, client: &Client) -> Result<u16, String> {
        let mut request = client.post(&self.url).header("content-type", "application/json").body(self.body);
        if let Some(signature) = self.signature {
            request = request.header(signature::HEADER, signature);
        }
        let mut response = request.send().await.map_err(|error| error.without_url().to_string())?;
        let mut read = 0;
        while read < READ_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read += chunk.len();
        }
        Ok(response.status().as_u16())
    }
}
