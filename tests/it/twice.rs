//! Even one attempt that is answered 200 can write an event twice. Consumers that drop repeated `ce_id`s process it once.
//!
//! librdkafka is idempotent within an epoch of the producer. When a message times out, it begins a new epoch for all partitions, and
//! sends all waiting messages again. A broker may have written some of them, without an acknowledgement. In this test one message
//! waits for a broker that is cut off, and the other for a second broker, whose acknowledgement is lost.

use std::time::Duration;

use crate::support::bridge::TestBridge;
use crate::support::kafka::{BROKERS, OwnCluster, unique};
use crate::support::proxy::Proxy;

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

const RECORD: &str = r#"{"Id":2}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_acknowledgement_is_lost_is_written_once_or_twice_with_one_id() {
    let proxies = [([127, 0, 0, 1], 9).into(); BROKERS].map(Proxy::start);
    let cluster = OwnCluster::start_behind(proxies.each_ref().map(Proxy::address));
    for (broker, proxy) in proxies.iter().enumerate() {
        proxy.retarget(cluster.behind_proxy(broker));
    }
    let [away, lossy, _] = &proxies;
    for another_times_out in [false, true] {
        let prefix = format!("{}.", unique("it"));
        for (action, node) in [("CoworkerCreate", 1), ("BookingCreate", 2), ("quarantine", 2)] {
            cluster.client().create_topic_on(&format!("{prefix}{action}"), node);
        }
        let settings = [("kafka.confirm_timeout", &*format!("{}s", CONFIRM_TIMEOUT.as_secs()))];
        let bootstrap = lossy.address().to_string();
        let bridge = TestBridge::on(&bootstrap, cluster.client(), prefix, &settings).await;
        for action in ["CoworkerCreate", "BookingCreate"] {
            bridge.deliver_until_confirmed(action, r#"{"Id":1}"#).await;
        }
        let before = bridge.kafka().read_to_end(&bridge.name_of("BookingCreate")).len();

        away.cut();
        let other = async {
            if another_times_out {
                let reply = bridge.deliver("CoworkerCreate", RECORD).await;
                assert_eq!(reply.status, 503, "{}", reply.json());
            }
        };
        let lost = async {
            // The acknowledgement is lost just before the other message times out, and the broker returns just after.
            tokio::time::sleep(CONFIRM_TIMEOUT - Duration::from_millis(700)).await;
            lossy.hold_answers();
            let network = async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                lossy.cut();
                tokio::time::sleep(Duration::from_millis(600)).await;
                lossy.restore();
            };
            tokio::join!(bridge.deliver("BookingCreate", RECORD), network).0.events("confirmed");
        };
        tokio::join!(other, lost);
        away.restore();

        let messages = bridge.kafka().read_to_end(&bridge.name_of("BookingCreate"));
        let copies = &messages[before..];
        let most = if another_times_out { 2 } else { 1 };
        assert!((1..=most).contains(&copies.len()), "{} copies", copies.len());
        for copy in copies {
            assert_eq!(copy.value, RECORD.as_bytes());
            assert_eq!(copy.header("ce_id"), copies[0].header("ce_id"));
        }
    }
}
