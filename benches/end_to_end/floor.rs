//! The floor: the least that takes a webhook and answers once Kafka has confirmed it.
//!
//! A plain actix-web handler, one HMAC over the raw body, one message keyed by the record's `Id`, 200 after the delivery
//! report. No limits, no admission, no folding, no JSON, no headers, no fingerprint, no metrics, no statistics. The
//! producer's settings are the bridge's, so that both put the same work on the broker.

use std::io::{self, Read as _};
use std::process;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt::System, web};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sha2::Sha256;

struct Floor {
    producer: FutureProducer,
    topic: String,
    keyed: Hmac<Sha256>,
}

/// Serves on a port of the system's choice, which it prints, until standard input ends: with the bench, however that ends.
pub(crate) fn run(bootstrap: &str, topic: &str, secret: &str) -> anyhow::Result<()> {
    let keyed = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    System::new().block_on(async {
        let floor = web::Data::new(Floor { producer: producer(bootstrap)?, topic: topic.to_owned(), keyed });
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
    let confirmed = match floor.producer.send_result(record(&floor.topic, &body)) {
        Ok(delivery) => matches!(delivery.await, Ok(Ok(_))),
        Err(_) => false,
    };
    if confirmed { HttpResponse::Ok().finish() } else { HttpResponse::ServiceUnavailable().finish() }
}

fn record<'a>(topic: &'a str, body: &'a [u8]) -> FutureRecord<'a, [u8], [u8]> {
    FutureRecord::to(topic).payload(body).key(id(body))
}

/// The digits behind the body's last `"Id":`.
fn id(body: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"\"Id\":";
    let start =
        body.windows(NAME.len()).rposition(|window| window == NAME).map_or(body.len(), |at| at + NAME.len());
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    &body[start..start + digits]
}
