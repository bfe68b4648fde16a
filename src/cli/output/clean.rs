//! Replaces terminal control characters in text of other systems.
//!
//! Names of locations, answers of servers and bodies of events can hold control characters, which move the cursor, set the
//! window's title or hide text. [`super::Output`] and the messages on standard error pass every character through [`lines`]
//! or [`json`].

use std::fmt::Write as _;

/// The escape sequences of the program's own styles. All other sequences are replaced.
const STYLES: [&str; 6] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];

/// Returns bytes as one line of text. Line breaks and tabs become spaces. Invalid UTF-8, other control characters and overrides of
/// the reading direction become U+FFFD.
pub fn one_line(bytes: impl AsRef<[u8]>) -> String {
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_unsafe(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    String::from_utf8_lossy(bytes.as_ref()).chars().map(visible).collect()
}

/// Returns `text` with its line breaks and tabs; other control characters are replaced. The program's own styles stay if `styles` is
/// true.
pub(super) fn lines(text: &str, styles: bool) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        if let Some(style) = style {
            clean.push_str(if styles { style } else { "" });
        } else if !is_unsafe(c) || c == '\n' || c == '\t' {
            clean.push(c);
        } else {
            clean.push(if c == '\r' { ' ' } else { char::REPLACEMENT_CHARACTER });
        }
        rest = &rest[style.map_or(c.len_utf8(), |style| style.len())..];
    }
    clean
}

/// Returns the same JSON with escapes for terminal control characters. In JSON they occur in strings only, and those below U+0020
/// are escaped already.
pub(super) fn json(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            write!(clean, "\\u{:04x}", c as u32).expect("a String takes all");
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Returns true if a terminal interprets the character: C0 and C1 controls, and overrides of the reading direction, which can
/// disguise the text of a line.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{ADDED, ERROR, FAINT, HEADING, WARNING, styled};

    #[test]
    fn one_line_replaces_everything_that_drives_a_terminal() {
        assert_eq!(one_line(b"a\n\x1b[2Jb\xFF\x07"), "a \u{FFFD}[2Jb\u{FFFD}\u{FFFD}");
        assert_eq!(one_line("\u{9b}31m\u{202e}é😀"), "\u{FFFD}31m\u{FFFD}é😀");
    }

    #[test]
    fn lines_keep_breaks_and_our_styles_and_nothing_else() {
        assert_eq!(
            lines("a\r\n\tb\x1b[2J\u{9b}c\x1b]0;t\x07", true),
            "a \n\tb\u{FFFD}[2J\u{FFFD}c\u{FFFD}]0;t\u{FFFD}"
        );
        for style in [HEADING, ERROR, WARNING, ADDED, FAINT] {
            let text = styled(style, "é");
            assert_eq!(lines(&text, true), text);
            assert_eq!(lines(&text, false), "é");
        }
        assert_eq!(lines("\x1b[8mhidden\x1b[31;1mx", true), "\u{FFFD}[8mhidden\u{FFFD}[31;1mx");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({"n": "\u{9b}2J\u{7f}é\u{202e}\u{1b}"});
        let clean = json(&document.to_string());
        assert!(!clean.chars().any(is_unsafe), "{clean:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), document);
    }
}
