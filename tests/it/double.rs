//! The double of Nexudus behaves as documented, over HTTP. Other tests rely on this.

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

/// Time-out of every wait; long, since the machine can be busy.
const MAX_WAIT: Duration = Duration::from_secs(30);

const WEBHOOKS: &str = "/api/sys/webhooks";

/// Starts a double without limits, with the demo's network.
fn nexudus() -> Nexudus {
    started(Options { limits: Limits::NONE, ..Options::default() })
}

fn started(options: Options) -> Nexudus {
    let nexudus = Nexudus::start(options).expect("free ports");
    nexudus.populate(Some("sécret"));
    nexudus
}

/// A client of the API, as the demo's administrator.
struct ApiUser {
    client: Client,
    base: String,
    authorization: String,
}

/// An answer of the API.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl ApiUser {
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

    /// Returns the ids of a list's records.
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

/// Sends a request. It fails if the connection fails or the body breaks off.
async fn sent(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.text().await? })
}

/// Waits until a condition holds.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(MAX_WAIT, waiting).await.expect("the condition holds in time");
}

fn basic(email: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{email}:{password}")))
}

/// Returns a webhook with all required fields.
fn webhook(name: &str) -> String {
    let business_id = demo::LOCATIONS[0];
    format!(
        r#"{{"BusinessId":{business_id},"Name":"{name}","Action":6,"URL":"http://127.0.0.1:9/webhooks/BookingCreate","Description":"made by a test","Active":true}}"#
    )
}
