//! JSON text, walked once: where values begin and end, and whether they are JSON (RFC 8259) at all.
//!
//! `serde_json` does the same at three to five times the cost, a tenth of a delivery's, since it reads byte by byte and
//! hands every value on; here eight bytes of a string are looked at in one step and nothing is handed on.
//! The text is UTF-8 already. What is skipped is checked by the same rules as `serde_json`'s, which a test compares with
//! on generated texts: lone surrogates may be escaped, numbers may have any length, nesting any depth (a bit a level).

use std::ops::Range;

/// JSON text. Each step is given a place and gives back the place behind what it has read.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a>(pub(super) &'a [u8]);

/// What is open around a place: a bit a level, set for an object.
#[derive(Default)]
struct Nesting {
    levels: usize,
    last: u64,
    full: Vec<u64>,
}

impl Walk<'_> {
    /// The next byte that is no white space, and its place.
    #[inline(always)]
    pub(super) fn peek(self, mut at: usize) -> Option<(usize, u8)> {
        loop {
            match *self.0.get(at)? {
                b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                byte => return Some((at, byte)),
            }
        }
    }

    /// Takes the next byte that is no white space if it is this one.
    #[inline(always)]
    fn take(self, at: usize, wanted: u8) -> Option<usize> {
        let (at, byte) = self.peek(at)?;
        (byte == wanted).then_some(at + 1)
    }

    /// Walks an object, from its opening brace on, and hands the places of each name (without quotes) and value to `see`.
    #[inline]
    pub(super) fn object(self, at: usize, mut see: impl FnMut(Name, Range<usize>)) -> Option<usize> {
        let mut at = self.take(at, b'{')?;
        if let (end, b'}') = self.peek(at)? {
            return Some(end + 1);
        }
        loop {
            let start = self.take(at, b'"')?;
            let (end, escaped) = self.string(start)?;
            let name = Name { text: start..end - 1, escaped };
            let (start, first) = self.peek(self.take(end, b':')?)?;
            let end = self.value(start, first)?;
            see(name, start..end);
            at = match self.peek(end)? {
                (comma, b',') => comma + 1,
                (brace, b'}') => return Some(brace + 1),
                _ => return None,
            }
        }
    }

    /// Skips a name and its colon.
    fn name(self, at: usize) -> Option<usize> {
        let (end, _) = self.string(self.take(at, b'"')?)?;
        self.take(end, b':')
    }

    /// Skips a value, whatever it is, given its first byte.
    #[inline(always)]
    fn value(self, at: usize, first: u8) -> Option<usize> {
        match first {
            b'{' | b'[' => self.nested(at),
            _ => self.scalar(at, first),
        }
    }

    #[inline(always)]
    fn scalar(self, at: usize, first: u8) -> Option<usize> {
        match first {
            b'"' => self.string(at + 1).map(|(end, _)| end),
            b'n' => self.word(at, *b"null"),
            b'f' => self.word(at + 1, *b"alse"),
            b't' => self.word(at, *b"true"),
            b'-' | b'0'..=b'9' => self.number(at, first),
            _ => None,
        }
    }

    #[inline(always)]
    fn word(self, at: usize, word: [u8; 4]) -> Option<usize> {
        (self.0.get(at..at + 4)? == word).then_some(at + 4)
    }

    #[inline(always)]
    fn number(self, at: usize, first: u8) -> Option<usize> {
        let at = at + usize::from(first == b'-');
        let mut end = match self.0.get(at)? {
            b'0' => at + 1,
            b'1'..=b'9' => self.digits(at + 1),
            _ => return None,
        };
        if self.0.get(end) == Some(&b'.') {
            end = self.some_digits(end + 1)?;
        }
        if let Some(b'e' | b'E') = self.0.get(end) {
            let sign = usize::from(matches!(self.0.get(end + 1), Some(b'+' | b'-')));
            end = self.some_digits(end + 1 + sign)?;
        }
        Some(end)
    }

    fn some_digits(self, at: usize) -> Option<usize> {
        let end = self.digits(at);
        (end > at).then_some(end)
    }

    #[inline(always)]
    fn digits(self, mut at: usize) -> usize {
        while self.0.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    }

    /// Skips a string, from behind its opening quote; tells whether it has escapes.
    #[inline]
    fn string(self, mut at: usize) -> Option<(usize, bool)> {
        let mut escaped = false;
        loop {
            at += plain(self.0.get(at..)?);
            match *self.0.get(at)? {
                b'"' => return Some((at + 1, escaped)),
                b'\\' => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                _ => return None, // a control character
            }
        }
    }

    #[cold]
    fn escape(self, at: usize) -> Option<usize> {
        match *self.0.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
            b'u' => {
                let digits = self.0.get(at + 2..at + 6)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
            }
            _ => None,
        }
    }

    /// Skips an object or an array with all that is in it, without recursion.
    fn nested(self, mut at: usize) -> Option<usize> {
        let mut open = Nesting::default();
        loop {
            // A value begins here.
            let (start, first) = self.peek(at)?;
            match first {
                b'{' | b'[' => {
                    at = start + 1;
                    let object = first == b'{';
                    open.push(object);
                    match (self.peek(at)?.1, object) {
                        (b'}', true) | (b']', false) => {}
                        (_, true) => {
                            at = self.name(at)?;
                            continue;
                        }
                        (_, false) => continue,
                    }
                }
                _ => at = self.scalar(start, first)?,
            }
            // A value has ended here, or an empty object or array has begun.
            loop {
                let (next, byte) = self.peek(at)?;
                at = next + 1;
                match (byte, open.is_object()) {
                    (b',', true) => {
                        at = self.name(at)?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => {
                        if open.pop() {
                            return Some(at);
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
        let walk = Walk(text.as_bytes());
        let end = walk.peek(0).and_then(|(at, first)| walk.value(at, first));
        end.is_some_and(|end| walk.peek(end).is_none())
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
