//! The double of Nexudus keeps every documented manner, asked over HTTP: other tests rely on it.

mod api;
mod faults;
mod sender;
mod tokens;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nexudus_double::{Limits, Nexudus, Options, demo};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// Generous: the machine may be busy.
const MAX_WAIT: Duration = Duration::from_secs(30);

const WEBHOOKS: &str = "/api/sys/webhooks";

/// A double without limits, with the demo's network.
fn nexudus() -> Nexudus {
    started(Options { limits: Limits::NONE, ..Options::default() })
}

fn started(options: Options) -> Nexudus {
    let nexudus = Nexudus::start(options).expect("there are free ports");
    nexudus.populate(Some("sécret"));
    nexudus
}

/// Asks the API as the demo's administrator.
struct Asker {
    client: Client,
    base: String,
    authorization: String,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Asker {
    fn of(nexudus: &Nexudus) -> Self {
        Self::with(nexudus, &basic(demo::EMAIL, demo::PASSWORD))
    }

    fn with(nexudus: &Nexudus, authorization: &str) -> Self {
        let client = nexudus_bridge::sender::client(MAX_WAIT).expect("plain HTTP needs nothing");
        Self { client, base: nexudus.base_url(), authorization: authorization.to_owned() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        if self.authorization.is_empty() {
            request
        } else {
            request.header("authorization", &self.authorization)
        }
    }

    async fn get(&self, path: &str) -> Answer {
        sent(self.request(Method::GET, path)).await.expect("an answer")
    }

    async fn post(&self, json: &str) -> Answer {
        sent(self.request(Method::POST, WEBHOOKS).body(json.to_owned())).await.expect("an answer")
    }

    async fn put(&self, json: &str) -> Answer {
        sent(self.request(Method::PUT, WEBHOOKS).body(json.to_owned())).await.expect("an answer")
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// The ids of a list's records.
    fn ids(&self) -> Vec<i64> {
        let records = self.json()["Records"].clone();
        records
            .as_array()
            .expect("a list")
            .iter()
            .map(|record| record["Id"].as_i64().expect("an id"))
            .collect()
    }
}

/// Sends a request; an error is that of a connection or of a body that broke off.
async fn sent(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.text().await? })
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(MAX_WAIT, waiting).await.expect("it becomes so in time");
}

fn basic(email: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{email}:{password}")))
}

/// A create of a webhook, complete.
fn webhook(name: &str) -> String {
    let business_id = demo::LOCATIONS[0];
    format!(
        r#"{{"BusinessId":{business_id},"Name":"{name}","Action":6,"URL":"http://127.0.0.1:9/webhooks/BookingCreate","Description":"made by a test","Active":true}}"#
    )
}
