//! Addresses without their secrets, for messages and the log.

const HIDDEN: &str = "***";

/// Returns the text of an address with its user, password, query values and fragment replaced by `***`.
///
/// The text need not be a valid address, since a message about a mistake shows it, too.
pub fn redacted(address: &str) -> String {
    let Some((user, rest)) = address.rsplit_once('@') else { return without_query(address) };
    let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
    // If the `@` is in a query or fragment, a password could be anywhere after the scheme.
    match user.contains(['?', '#']) {
        true => format!("{scheme}://{HIDDEN}"),
        false => format!("{scheme}://{HIDDEN}@{}", without_query(rest)),
    }
}

fn without_query(text: &str) -> String {
    let (text, fragment) = text.split_once('#').map_or((text, ""), |(text, _)| (text, "#***"));
    let Some((path, query)) = text.split_once('?') else { return format!("{text}{fragment}") };
    let value = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(value).collect();
    format!("{path}?{}{fragment}", query.join("&"))
}

/// Returns whether a text looks like an address, valid or not.
pub(in crate::config) fn looks_like_address(text: &str) -> bool {
    text.contains("://") || text.split_once('?').is_some_and(|(_, query)| query.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::show::show;
    use crate::config::tests::{LEAST, from_file, mistakes};

    #[test]
    fn users_passwords_query_values_and_fragments_are_hidden() {
        for (address, shown) in [
            ("https://h:1/p/", "https://h:1/p/"),
            ("https://c/v1?api-key=hush&b=hush", "https://c/v1?api-key=***&b=***"),
            ("https://c/v1?hush", "https://c/v1?***"),
            ("c:4317?api-key=hush", "c:4317?api-key=***"),
            ("https://me:hush@idp/t?x=hush#hush", "https://***@idp/t?x=***#***"),
            ("https://me:hu/sh@idp/t", "https://***@idp/t"),
            ("https://me:hu#sh@idp", "https://***"),
            ("https://c?api-key=hu@sh", "https://***"),
            ("", ""),
        ] {
            assert_eq!(redacted(address), shown);
        }
    }

    #[test]
    fn no_setting_and_no_mistake_shows_a_query_value() {
        let tokens = "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
                      [kafka.oauth]\nclient_id = \"b\"\nclient_secret = \"s\"\ntoken_endpoint = \"https://idp/t?key=hush\"\n";
        let loaded = from_file(&format!("{LEAST}{tokens}"), &[]).unwrap();
        let shown = show(&loaded);
        assert!(shown.contains("\"https://idp/t?key=***\""), "{shown}");
        assert!(!format!("{shown}{loaded:?}").contains("key=hush"), "{shown}");
        for wrong in [
            "[telemetry]\notlp_endpoint = \"https://c/v1?api-key=hush\"",
            "[telemetry]\notlp_endpoint = \"c:4317?api-key=hush\"",
            "[nexudus]\ntoken = \"t\"\npublic_url = \"https://h?token=hush\"",
            "[ingress]\nlisten = \"http://h?token=hush\"",
        ] {
            let found = mistakes(&format!("{LEAST}{wrong}"), &[]);
            assert!(
                found.len() == 1 && found[0].contains("=***") && !found[0].contains("=hush"),
                "{found:?}"
            );
        }
    }
}
