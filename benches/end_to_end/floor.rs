//! The floor: the least that takes a webhook and answers once Kafka has confirmed it.
//!
//! A plain actix-web handler, one HMAC over the raw body, one message keyed by the record's `Id`, 200 after the delivery
//! report. No limits, no admission, no folding, no JSON, no headers, no fingerprint, no metrics, no statistics. The
//! producer's settings are the bridge's, so that both put the same work on the broker.
//!
//! [`Messages::AsTheContract`] adds the two things that any bridge with the contract's message format has to do, as
//! plainly: the content function (a second SHA-256 over the record) and the nine headers.

use std::io::{self, Read as _};
use std::process;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt::System, web};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sha2::{Digest as _, Sha256};

/// What a message holds beside its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Messages {
    /// Nothing.
    Bare,
    /// The headers of the contract.
    AsTheContract,
}

struct Floor {
    producer: FutureProducer,
    topic: String,
    keyed: Hmac<Sha256>,
    messages: Messages,
}

/// Serves on a port of the system's choice, which it prints, until standard input ends: with the bench, however that ends.
pub(crate) fn run(bootstrap: &str, topic: &str, secret: &str, messages: Messages) -> anyhow::Result<()> {
    let keyed = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    System::new().block_on(async {
        let producer = producer(bootstrap)?;
        let floor = web::Data::new(Floor { producer, topic: topic.to_owned(), keyed, messages });
        let server = HttpServer::new(move || {
            App::new().app_data(floor.clone()).route("/webhooks/{action}", web::post().to(deliver))
        });
        let server = server.disable_signals().bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs()[0]);
        std::thread::spawn(|| {
            let ended = io::stdin().read(&mut [0]);
            process::exit(ended.is_err().into());
        });
        Ok(server.run().await?)
    })
}

fn producer(bootstrap: &str) -> anyhow::Result<FutureProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("acks", "all").set("enable.idempotence", "true");
    config.set("partitioner", "murmur2_random").set("linger.ms", "0").set("max.in.flight", "1");
    config.set("message.timeout.ms", "10000").set("socket.timeout.ms", "10000");
    config.set("queue.buffering.max.kbytes", "40960").set("queue.buffering.max.messages", "100000");
    config.set("message.max.bytes", "4259840").set("socket.keepalive.enable", "true");
    Ok(config.create()?)
}

async fn deliver(http: HttpRequest, body: web::Bytes, floor: web::Data<Floor>) -> HttpResponse {
    let mut mac = floor.keyed.clone();
    mac.update(&body);
    let mut signature = [0; 32];
    let header = http.headers().get("x-nexudus-hook-signature").map_or(&b""[..], |value| value.as_bytes());
    if hex::decode_to_slice(header, &mut signature).is_err() || mac.verify_slice(&signature).is_err() {
        return HttpResponse::Unauthorized().finish();
    }
    let mut record = record(&floor.topic, &body);
    if floor.messages == Messages::AsTheContract {
        record.headers = Some(headers(&body, id(&body)));
    }
    let confirmed = match floor.producer.send_result(record) {
        Ok(delivery) => matches!(delivery.await, Ok(Ok(_))),
        Err(_) => false,
    };
    if confirmed { HttpResponse::Ok().finish() } else { HttpResponse::ServiceUnavailable().finish() }
}

fn record<'a>(topic: &'a str, body: &'a [u8]) -> FutureRecord<'a, [u8], [u8]> {
    FutureRecord::to(topic).payload(body).key(id(body))
}

/// Headers of the contract's names and sizes. The record is the body without the brackets around it.
fn headers(body: &[u8], key: &[u8]) -> OwnedHeaders {
    let mut content = Sha256::new();
    content.update(b"default\0BookingUpdate\0");
    content.update(&body[1..body.len() - 1]);
    let fingerprint = hex::encode(content.finalize());
    let time = b"2026-01-02T03:04:05.678Z";
    let put = |headers: OwnedHeaders, (key, value): (&str, &[u8])| {
        headers.insert(Header { key, value: Some(value) })
    };
    let all: [(&str, &[u8]); 9] = [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", fingerprint.as_bytes()),
        ("ce_source", b"/nexudus/default"),
        ("ce_type", b"com.nexudus.BookingUpdate"),
        ("ce_subject", key),
        ("ce_time", time),
        ("ce_nexudusreceived", time),
        ("ce_nexudusfingerprint", fingerprint.as_bytes()),
    ];
    all.into_iter().fold(OwnedHeaders::new_with_capacity(9), put)
}

/// The digits behind the body's last `"Id":`.
fn id(body: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"\"Id\":";
    let start =
        body.windows(NAME.len()).rposition(|window| window == NAME).map_or(body.len(), |at| at + NAME.len());
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    &body[start..start + digits]
}
