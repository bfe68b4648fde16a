//! Tokens in URLs: hidden wherever a URL is shown, and in `Debug` by type.

use std::fmt;

/// What stands in a token's place.
const HIDDEN: &str = "***";

/// The URL of a webhook, which can hold a token. `Debug` and `Display` hide the token.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// The URL with its token, for requests and comparisons only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for WebhookUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tokens(&self.0))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&tokens(&self.0), f)
    }
}

/// `text` with the value of every `token=` in it hidden, whatever is around.
pub fn tokens(text: &str) -> String {
    const KEY: &str = "token=";
    let lower = text.to_ascii_lowercase();
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    while let Some(at) = lower[rest..].find(KEY) {
        let value = rest + at + KEY.len();
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
