//! JSON text, walked once: where values begin and end, and whether they are JSON (RFC 8259) at all.
//!
//! `serde_json` does the same at two to three times the cost, a tenth of a delivery's, since it reads byte by byte and
//! hands every value on; here eight bytes of a string are looked at in one step and nothing is handed on.
//! The text is UTF-8 already. What is skipped is checked by the same rules as `serde_json`'s, which a test compares with
//! on generated texts: lone surrogates may be escaped, numbers may have any length, nesting any depth (a bit a level).

use std::ops::Range;

/// A place in JSON text.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// What is open around a place: a bit a level, set for an object.
#[derive(Default)]
struct Nesting {
    levels: usize,
    last: u64,
    full: Vec<u64>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space, which stays.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Takes the next byte that is no white space if it is this one.
    #[inline]
    pub(super) fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Walks an object, from its opening brace on, and hands the places of each name (without quotes) and value to `see`.
    pub(super) fn object(&mut self, mut see: impl FnMut(Name, Range<usize>)) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.name()?;
            self.take(b':')?;
            self.peek()?;
            let start = self.at;
            self.value()?;
            see(name, start..self.at);
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn name(&mut self) -> Option<Name> {
        self.take(b'"')?;
        let start = self.at;
        let escaped = self.string()?;
        Some(Name { text: start..self.at - 1, escaped })
    }

    /// Skips a value, whatever it is.
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' => self.nested(),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Option<()> {
        match self.text[self.at] {
            b'"' => {
                self.at += 1;
                self.string().map(|_| ())
            }
            b'n' => self.word(b"null"),
            b'f' => self.word(b"false"),
            b't' => self.word(b"true"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.text[self.at] == b'-');
        match self.text.get(self.at)? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    #[inline]
    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// Skips a string, from behind its opening quote; tells whether it has escapes.
    #[inline]
    fn string(&mut self) -> Option<bool> {
        let mut escaped = false;
        loop {
            self.at += plain(&self.text[self.at..]);
            match *self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return None, // a control character
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match *self.text.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.text.get(self.at + 2..self.at + 6)?;
                digits.iter().all(u8::is_ascii_hexdigit).then(|| self.at += 6)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Skips an object or an array with all that is in it, without recursion.
    fn nested(&mut self) -> Option<()> {
        let mut open = Nesting::default();
        loop {
            // A value begins here.
            match self.peek()? {
                byte @ (b'{' | b'[') => {
                    self.at += 1;
                    let object = byte == b'{';
                    open.push(object);
                    match (self.peek()?, object) {
                        (b'}', true) | (b']', false) => {}
                        (_, true) => {
                            self.name()?;
                            self.take(b':')?;
                            continue;
                        }
                        (_, false) => continue,
                    }
                }
                _ => self.scalar()?,
            }
            // A value has ended here, or an empty object or array has begun.
            loop {
                match (self.peek()?, open.is_object()) {
                    (b',', true) => {
                        self.at += 1;
                        self.name()?;
                        self.take(b':')?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        if open.pop() {
                            return Some(());
                        }
                    }
                    _ => return None,
                }
            }
        }
    }
}

/// A name in an object: its place, and whether it has escapes.
pub(super) struct Name {
    pub(super) text: Range<usize>,
    pub(super) escaped: bool,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        if self.levels > 0 && self.levels.is_multiple_of(64) {
            self.full.push(self.last);
        }
        self.last = self.last << 1 | u64::from(object);
        self.levels += 1;
    }

    fn is_object(&self) -> bool {
        self.last & 1 == 1
    }

    /// Leaves a level; whether it was the outermost.
    fn pop(&mut self) -> bool {
        self.levels -= 1;
        self.last >>= 1;
        if self.levels.is_multiple_of(64) {
            self.last = self.full.pop().unwrap_or(0);
        }
        self.levels == 0
    }
}

/// How many bytes at the start of `text` need no look in a string: all but quotes, backslashes and control characters.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    // The lowest set bit of each is right; carries set wrong ones above it only.
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return place * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let stops = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let start = words.len() * 8;
    start + rest.iter().position(stops).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn whole(text: &str) -> bool {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        cursor.value().is_some() && cursor.peek().is_none()
    }

    fn json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    /// What texts are put together of: most are no JSON, and wrong in every way that there is.
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "{", "}", "[", "]", "{}", "[]", "[[", "]]", ",", ":", "{\"a\":", "\"", "\"a\"", "\"a\":", "\"é\"", "\\", "\\u", "12aF",
        "\\n", "\"\\u12aG\"", "\"\\ud800\"", "\"aaaaaaaaaaaaaaaa\"", "\"aaaaaaa\\\\aaaaaaaaa\"", "0", "1", "-", "+", "1.5", ".",
        "e", "E5", "-0", "01", "null", "true", "false", "nul", " ", "\t", "\n", "\u{0}", "\u{1f}", "\u{7f}", "x",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn json_is_what_serde_json_takes(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
            let text: String = pieces.concat();
            prop_assert_eq!(whole(&text), json(&text), "{}", text);
        }
    }

    #[test]
    fn any_depth() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 1000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"b\":[", "]}]")] {
                let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                assert!(whole(&text), "{depth}");
                assert!(!whole(&text[..text.len() - 1]));
                assert!(!whole(&format!("{text}]")));
            }
        }
    }
}
