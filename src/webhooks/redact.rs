//! Tokens in URLs: hidden wherever a URL is shown, and in `Debug` by type.

use std::fmt;

use url::{Url, form_urlencoded};

/// The text that replaces a token.
const HIDDEN: &str = "***";

/// The name of the query parameter that holds a token.
const KEY: &str = "token";

/// The URL of a webhook, which can hold a token. `Debug` and `Display` hide the token.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// The URL with its token, for requests and comparisons only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Splits a URL; `None` if it is not a URL.
    pub fn parsed(&self) -> Option<Url> {
        Url::parse(self.0.trim()).ok()
    }

    /// Returns true if both have a token, as the ingress reads them, but not the same one.
    pub fn has_another_token_than(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.parsed(), other.parsed()) else { return false };
        let find =
            |url: &Url| url.query_pairs().find(|(name, _)| name == KEY).map(|(_, token)| token.into_owned());
        find(&ours).zip(find(&theirs)).is_some_and(|(ours, theirs)| ours != theirs)
    }

    /// The URL with `***` in place of each token, also of one whose name is percent-encoded.
    fn hidden(&self) -> String {
        let Some((base, query)) = self.0.split_once('?') else { return tokens(&self.0) };
        let pair = |pair: &str| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let is_token =
                form_urlencoded::parse(name.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case(KEY));
            if is_token && name.len() < pair.len() { format!("{name}={HIDDEN}") } else { pair.to_owned() }
        };
        let query: Vec<String> = query.split('&').map(pair).collect();
        tokens(&format!("{base}?{}", query.join("&")))
    }
}

impl<T: Into<String>> From<T> for WebhookUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hidden())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.hidden(), f)
    }
}

/// Returns `text` with the value of every `token=` hidden.
pub fn tokens(text: &str) -> String {
    const KEY_AND_SIGN: &str = "token=";
    let lower = text.to_ascii_lowercase();
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    while let Some(at) = lower[rest..].find(KEY_AND_SIGN) {
        let value = rest + at + KEY_AND_SIGN.len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '&' | '#' | '"' | '\'' | '<' | '>');
        let end = text[value..].find(ends).map_or(text.len(), |length| value + length);
        shown.push_str(&text[rest..value]);
        shown.push_str(HIDDEN);
        rest = end;
    }
    shown.push_str(&text[rest..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn the_value_of_every_token_is_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("https://h/webhooks/X?token=abc", "https://h/webhooks/X?token=***"),
            ("https://h/x?a=1&Token=a%20b&c=é", "https://h/x?a=1&Token=***&c=é"),
            ("POST 'https://h/x?token=a)b': 503", "POST 'https://h/x?token=***': 503"),
            ("token=a token=b", "token=*** token=***"),
            ("token=", "token=***"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(tokens(text), shown);
        }
    }
}
