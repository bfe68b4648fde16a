//! A stand-in for `KMinion`, whose metrics of consumer lag the rules and the dashboard read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// Starts a server that answers with one consumer group, which reads an event between two scrapes. Returns its address.
pub(super) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for (scrape, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { continue };
            let head = BufReader::new(&stream)
                .lines()
                .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
            head.for_each(drop);
            let labels = r#"{group_id="billing",topic_name="nexudus.BookingCreate"}"#;
            let body = format!(
                "kminion_kafka_consumer_group_topic_lag{labels} 12\n\
                 kminion_kafka_consumer_group_topic_offset_sum{labels} {scrape}\n"
            );
            // The client may have disconnected.
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n{body}").ok();
        }
    });
    address
}
