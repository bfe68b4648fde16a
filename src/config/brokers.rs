//! Addresses of Kafka brokers: `kafka.bootstrap_servers` and `--bootstrap`.
//!
//! librdkafka accepts almost every malformed address. Quotes become part of a host name, port 99999 becomes port 34463, and after
//! an unknown scheme the rest of the list is ignored. The result would look like an outage of Kafka, so the bridge refuses such
//! an address at start.

use std::net::Ipv6Addr;

/// The values of `security.protocol`, which are also the schemes of addresses.
const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Reads a list of addresses, `[scheme://]host[:port]` with commas between them. Returns the list without spaces. librdkafka's
/// default port is 9092.
///
/// # Errors
/// The first mistake and the right form. The address itself is not repeated: it may hold a password.
pub fn brokers(list: &str) -> Result<String, String> {
    let brokers: Vec<&str> = list.split(',').map(str::trim).collect();
    for (index, broker) in brokers.iter().enumerate() {
        if let Err(wrong) = check(broker) {
            let which = if brokers.len() > 1 { format!(" (address {})", index + 1) } else { String::new() };
            return Err(format!(
                "{wrong}{which}, expected host:port,host:port such as kafka-1:9092,kafka-2:9092"
            ));
        }
    }
    Ok(brokers.join(","))
}

/// Returns the part `host[:port]` of a checked address.
pub fn without_scheme(broker: &str) -> &str {
    broker.split_once("://").map_or(broker, |(_, address)| address)
}

/// Returns the first scheme of a checked list that differs from `protocol`. librdkafka ignores an address with such a scheme.
pub(super) fn other_scheme(list: &str, protocol: &str) -> Option<String> {
    let schemes = list.split(',').filter_map(|broker| Some(broker.split_once("://")?.0));
    schemes.map(str::to_ascii_uppercase).find(|scheme| !scheme.eq_ignore_ascii_case(protocol))
}

fn check(broker: &str) -> Result<(), String> {
    let (scheme, address) = broker.split_once("://").unwrap_or((PROTOCOLS[0], broker));
    if !PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Err(format!("has a scheme other than {}", PROTOCOLS.join(", ")));
    }
    let in_brackets = address.strip_prefix('[');
    let (host, port) = match in_brackets {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
            (host, (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or_default()))
        }
        None => address.rsplit_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let (host_without_zone, _) = host.split_once('%').unwrap_or((host, ""));
    let is_ipv6 = host_without_zone.parse::<Ipv6Addr>().is_ok();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(allowed);
    let has_separator = address.contains(|c: char| c.is_whitespace() || c == ';');
    let mistakes = [
        (address.is_empty(), "has an empty address"),
        (address.contains(['"', '\'', '`']), "has quotes within the text"),
        (has_separator, "separates addresses by something else than a comma"),
        (in_brackets.is_some() && !address.contains(']'), "has a bracket that is not closed"),
        (in_brackets.is_some() && !is_ipv6, "has brackets around something else than an IPv6 address"),
        (
            in_brackets.is_none() && host.contains(':'),
            "has more than one colon in an address (an IPv6 address needs brackets)",
        ),
        (port.is_some_and(|port| !is_port(port)), "has a port that is not a number from 1 to 65535"),
        (in_brackets.is_none() && !is_name, "has an address without a valid host name"),
    ];
    mistakes.iter().find(|(is_made, _)| *is_made).map_or(Ok(()), |(_, mistake)| Err((*mistake).to_owned()))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_every_form_of_librdkafka() {
        for (list, taken) in [
            ("localhost:9092", "localhost:9092"),
            ("kafka", "kafka"),
            ("kafka_1.example-x.com:1, 10.0.0.1:65535 ,b", "kafka_1.example-x.com:1,10.0.0.1:65535,b"),
            ("[::1]:9092,[fe80::1%eth0]", "[::1]:9092,[fe80::1%eth0]"),
            ("SASL_SSL://h:9092,ssl://[::1]", "SASL_SSL://h:9092,ssl://[::1]"),
        ] {
            assert_eq!(brokers(list).as_deref(), Ok(taken));
        }
    }

    #[test]
    fn every_other_text_is_refused_with_the_mistake_and_the_right_form() {
        for (list, wrong) in [
            ("", "an empty address"),
            ("a:1,,b:1", "an empty address (address 2)"),
            ("a:1,", "an empty address (address 2)"),
            ("SSL://", "an empty address"),
            ("\"kafka:9092\"", "quotes"),
            ("'kafka:9092'", "quotes"),
            ("kafka://h:9092", "a scheme other than PLAINTEXT, SSL"),
            ("http://h:9092", "a scheme other than"),
            ("://h:9092", "a scheme other than"),
            ("h:9092;i:9092", "something else than a comma"),
            ("h:9092 i:9092", "something else than a comma"),
            ("h:0", "from 1 to 65535"),
            ("h:99999", "from 1 to 65535"),
            ("h:+1", "from 1 to 65535"),
            ("h:", "from 1 to 65535"),
            ("h:9092/", "from 1 to 65535"),
            ("[::1]9092", "from 1 to 65535"),
            ("::1", "needs brackets"),
            ("[::1", "not closed"),
            ("[kafka]:9092", "brackets around something else"),
            (":9092", "without a valid host name"),
            ("h/x", "without a valid host name"),
            ("me:hush@h:9092", "more than one colon"),
            ("hush@h:9092", "without a valid host name"),
            ("bücher:9092", "without a valid host name"),
        ] {
            let error = brokers(list).unwrap_err();
            assert!(error.starts_with("has ") || error.starts_with("separates "), "{error}");
            assert!(error.contains(wrong) && error.contains("expected host:port"), "{list}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_scheme_other_than_the_protocol_is_found() {
        assert_eq!(other_scheme("a:1,ssl://b:1", "SSL"), None);
        assert_eq!(other_scheme("a:1,ssl://b:1", "plaintext").as_deref(), Some("SSL"));
    }
}
