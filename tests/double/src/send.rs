//! The sender: what happens in Nexudus is posted to the webhooks of its business and action.
//!
//! A delivery that is not answered 2xx is posted again after a while, with the same bytes, up to ten times. Each failed
//! attempt counts in the webhook's `ErrorCount`; a success sets it to 0. After so many failures in a row the webhook is
//! switched off and its waiting deliveries are dropped. Nobody is told: what was lost is in [`World::missed`] only.
//! `Retry-After` is not looked at, since nothing says that Nexudus does.

use std::sync::Arc;
use std::time::Duration;

use nexudus_bridge::signature::{self, BYTE_ORDER_MARK};
use reqwest::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::manners::Wire;
use crate::record;
use crate::state::{Attempt, State, Why, World};

/// How many bytes of an answer are read, so that its connection can be used again.
const READ_BYTES: usize = 64 * 1024;

struct Post {
    url: String,
    body: Vec<u8>,
    signature: Option<String>,
}

impl World {
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
                webhook.set_text("LastTrigger", &record::time_text(at));
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
