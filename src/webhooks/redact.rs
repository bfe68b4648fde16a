//! Hides tokens in URLs and texts. [`WebhookUrl`] also hides its token in `Debug`.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

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
        let token = |url: &Self| {
            let url = url.parsed()?;
            url.query_pairs().find(|(name, _)| name == KEY).map(|(_, token)| token.into_owned())
        };
        token(self).zip(token(other)).is_some_and(|(ours, theirs)| ours != theirs)
    }
}

impl<T: Into<String>> From<T> for WebhookUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide(&self.0, |c| c == '&'))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Returns `text` with the value of every `token=` hidden.
pub fn tokens(text: &str) -> String {
    hide(text, |c| c.is_whitespace() || matches!(c, '&' | '#' | '"' | '\'' | '<' | '>'))
}

/// Hides each token up to the character that ends it; also a token whose name is percent-encoded.
fn hide(text: &str, ends: fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        let is_token = percent_decode_str(before).decode_utf8_lossy().to_ascii_lowercase().ends_with(KEY);
        let length = if is_token { after.find(ends).unwrap_or(after.len()) } else { 0 };
        shown.extend([before, "=", if is_token { "***" } else { "" }]);
        rest = &after[length..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_every_token_is_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("https://h/webhooks/X?token=abc", "https://h/webhooks/X?token=***"),
            ("https://h/x?a=1&Token=a%20b&c=é", "https://h/x?a=1&Token=***&c=é"),
            ("POST 'https://h/x?token=a)b': 503", "POST 'https://h/x?token=***': 503"),
            ("token=a token=b", "token=*** token=***"),
            ("token=token=a", "token=***"),
            ("token=", "token=***"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(tokens(text), shown);
        }
        for (url, shown) in [
            ("https://h/x?%74oken=a'b#c&d=token", "https://h/x?%74oken=***&d=token"),
            ("https://h/x?a=1&TOKEN=\"b c\"", "https://h/x?a=1&TOKEN=***"),
        ] {
            assert_eq!(WebhookUrl::from(url).to_string(), shown);
        }
    }
}
