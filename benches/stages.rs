//! The stages of a delivery that are plain computation: is the signature right, where are the records, what is their
//! fingerprint. One number a stage and size; `end_to_end` tells what they are worth together.
//!
//! Bodies are the sender's fixtures in their wire form, as they are (with the non-ASCII text that makes Nexudus's
//! folding necessary) and with letters in its place. `cargo bench --bench stages -- verify` runs one group.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use nexudus_bridge::delivery::decode::{MAX_RECORDS, decode};
use nexudus_bridge::event::Fingerprint;
use nexudus_bridge::sender::payloads::{Template, payload, wire_body};
use nexudus_bridge::signature::{Signature, SigningKey};

/// What the records' keys are made of.
const KEY_FIELD: &str = "Id";

/// How many bookings make a body of about 100 KiB.
const MANY: u64 = 45;

/// A body with its name in the report.
struct Body {
    name: String,
    bytes: Bytes,
}

fn main() {
    let bodies = bodies();
    let mut criterion = Criterion::default().configure_from_args();
    verify(&mut criterion, &bodies);
    stage(&mut criterion, "decode", &bodies, |body| {
        black_box(decode(body, KEY_FIELD, MAX_RECORDS));
    });
    stage(&mut criterion, "fingerprint", &bodies, |body| {
        black_box(Fingerprint::of("default", "BookingUpdate", body));
    });
    criterion.final_summary();
}

fn verify(criterion: &mut Criterion, bodies: &[Body]) {
    let key = SigningKey::new("a shared secret of usual length").expect("it is not empty");
    let parsed = |digits: &str| Signature::parse(digits.as_bytes()).expect("64 hexadecimal digits");
    let mut group = criterion.benchmark_group("verify");
    for Body { name, bytes } in bodies {
        let right = parsed(&key.sign(bytes));
        let wrong = parsed(&"5A".repeat(32));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("right", name), |bencher| {
            bencher.iter(|| key.verify(black_box(bytes), &right).expect("the signature is right"));
        });
        group.bench_function(BenchmarkId::new("wrong", name), |bencher| {
            bencher
                .iter(|| assert!(key.verify(black_box(bytes), &wrong).is_none(), "the signature is wrong"));
        });
    }
    group.finish();
}

fn stage(criterion: &mut Criterion, name: &str, bodies: &[Body], run: impl Fn(&Bytes)) {
    let mut group = criterion.benchmark_group(name);
    for Body { name, bytes } in bodies {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| run(black_box(bytes))));
    }
    group.finish();
}

/// Three sizes, each as the fixture is and in ASCII.
fn bodies() -> Vec<Body> {
    let sizes =
        [("0.5 KiB", wire("HelpDeskCommentCreated")), ("3 KiB", wire("CoworkerCreate")), ("100 KiB", many())];
    let both = sizes.into_iter().flat_map(|(size, bytes)| {
        let ascii = bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'x' }).collect();
        [(format!("{size} ASCII"), ascii), (format!("{size} non-ASCII"), bytes)]
    });
    both.map(|(name, bytes)| Body { name, bytes }).collect()
}

fn wire(action: &str) -> Bytes {
    wire_body(payload(action).expect("every action has a fixture")).into()
}

/// An array of many records.
fn many() -> Bytes {
    let template = Template::new(wire("BookingUpdate"));
    let records = (0..MANY).map(|number| {
        let array = template.copy(number);
        array[1..array.len() - 1].to_vec()
    });
    [b"[".as_slice(), &records.collect::<Vec<_>>().join(&b','), b"]"].concat().into()
}
