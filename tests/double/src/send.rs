//! The sender posts each event to the webhooks of its location and action.
//!
//! A delivery that is not answered 2xx is posted again after a delay, with the same bytes. Each failed attempt increments
//! the webhook's `ErrorCount`; a success sets it to 0. After ten failures in a row the webhook is disabled and its waiting
//! deliveries are dropped. Only [`World::missed`] counts them. The sender ignores `Retry-After`, since no documentation
//! mentions that Nexudus obeys it.

use std::sync::Arc;
use std::time::Duration;

use nexudus_bridge::signature;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::changes::is_active;
use crate::record::time_text;
use crate::state::{State, World};

/// Time-out of an attempt.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Number of failures in a row that disables a webhook.
const MAX_ERRORS: i64 = 10;

/// A request to a webhook's URL.
struct Post {
    url: String,
    body: Vec<u8>,
    signature: Option<String>,
}

impl World {
    /// Returns the next attempt of a delivery; `None` if the delivery has ended.
    fn next_attempt(&self, number: u64) -> Option<Post> {
        let mut state = self.lock();
        let state = &mut *state;
        let delivery = state.deliveries.pending.get_mut(&number)?;
        let webhook = state.webhooks.get(&delivery.webhook_id).filter(|webhook| is_active(webhook));
        let Some(webhook) = webhook else {
            state.deliveries.give_up(number);
            return None;
        };
        delivery.is_posting = true;
        delivery.attempts += 1;
        let body = [b"[", delivery.record.as_ref(), b"]"].concat();
        let signature = state.secrets.get(&delivery.business_id).map(|key| key.sign(&body));
        Some(Post { url: webhook.get("URL").unwrap_or_default(), body, signature })
    }

    /// Records the result of an attempt: the status, or the error. Returns the delay of the next attempt, if any.
    fn settle(&self, number: u64, result: Result<u16, String>) -> Option<Duration> {
        let mut state = self.lock();
        let delivery = state.deliveries.pending.get_mut(&number)?;
        delivery.is_posting = false;
        let (webhook_id, attempts) = (delivery.webhook_id, delivery.attempts);
        let error = match result {
            Ok(200..300) => {
                state.deliveries.pending.remove(&number);
                state.succeeded(webhook_id);
                return None;
            }
            Ok(status) => format!("The remote server returned an error: ({status})."),
            Err(error) => error,
        };
        if !state.failed(webhook_id, error) {
            state.deliveries.give_up_waiting(webhook_id);
            return None;
        }
        let delay = state.deliveries.retry.wait(attempts, None);
        if delay.is_none() {
            state.deliveries.give_up(number);
        }
        delay
    }
}

impl State {
    fn succeeded(&mut self, webhook_id: i64) {
        let (now, resets_errors) = (time_text(self.now()), self.behaviour.late_success_resets_errors);
        if let Some(webhook) = self.webhooks.get_mut(&webhook_id) {
            webhook.set("LastTrigger", now);
            if is_active(webhook) || resets_errors {
                webhook.set("ErrorCount", 0);
            }
        }
    }

    /// Counts a failed attempt. Returns whether the webhook is still enabled.
    fn failed(&mut self, webhook_id: i64, error: String) -> bool {
        let Some(webhook) = self.webhooks.get_mut(&webhook_id) else { return false };
        let errors = webhook.integer("ErrorCount").unwrap_or_default() + 1;
        webhook.set("ErrorCount", errors);
        webhook.set("LastError", error);
        if errors >= MAX_ERRORS {
            webhook.set("Active", false);
        }
        is_active(webhook)
    }
}

/// Sends the deliveries of the queue until it is closed.
pub(super) async fn run(world: Arc<World>, client: Client, mut queue: mpsc::UnboundedReceiver<u64>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Some(number) = queue.recv() => drop(tasks.spawn(deliver(world.clone(), client.clone(), number))),
            Some(_) = tasks.join_next() => {} // frees the memory of tasks that have ended
            else => return,
        }
    }
}

async fn deliver(world: Arc<World>, client: Client, number: u64) {
    while let Some(post) = world.next_attempt(number) {
        let result = post.send(&client).await;
        let Some(delay) = world.settle(number, result) else { return };
        tokio::time::sleep(delay).await;
    }
}

impl Post {
    async fn send(self, client: &Client) -> Result<u16, String> {
        let mut request = client.post(&self.url).header("content-type", "application/json").body(self.body);
        if let Some(signature) = self.signature {
            request = request.header(signature::HEADER, signature);
        }
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        let status = response.status().as_u16();
        response.bytes().await.ok(); // so that the connection can be used again
        Ok(status)
    }
}
