//! The W3C trace context of a request (<https://www.w3.org/TR/trace-context/>), read by its grammar.
//!
//! Every client that has the URL can send these headers, and each header is copied into every message of a delivery. So a context
//! is at most 567 bytes long, and a header that does not follow the grammar is ignored.

use bytes::Bytes;

/// Maximum length of `tracestate` in bytes. W3C requires at least this much.
const MAX_STATE_BYTES: usize = 512;

/// Maximum number of members of `tracestate`, by W3C.
const MAX_MEMBERS: usize = 32;

/// Maximum length of a member's key and of its value in bytes, by W3C.
const MAX_PART_BYTES: usize = 256;

/// The valid trace context of a request, which the bridge passes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The `traceparent` header, of version 00.
    pub parent: Option<Bytes>,
    /// The `tracestate` header.
    pub state: Option<Bytes>,
}

impl Trace {
    /// Reads the values of `traceparent` and `tracestate`, one for each header line. A missing, malformed or second
    /// `traceparent` gives an empty context. A malformed `tracestate` is left out.
    pub fn read<'a>(
        parents: impl IntoIterator<Item = &'a [u8]>,
        states: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut parents = parents.into_iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return Self::default() };
        let Some(parent) = parent_of(parent) else { return Self::default() };
        Self { parent: Some(parent), state: state_of(states) }
    }
}

/// Returns a valid `traceparent` as version 00. For a later version, W3C requires to use the fields that version 00 has.
fn parent_of(value: &[u8]) -> Option<Bytes> {
    const SHAPE: &[u8; 55] = b"00-00000000000000000000000000000000-0000000000000000-00";
    let (head, rest) = value.trim_ascii().split_at_checked(SHAPE.len())?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let has_shape = head
        .iter()
        .zip(SHAPE)
        .all(|(byte, shape)| if *shape == b'0' { is_hex(*byte) } else { byte == shape });
    let is_zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    if !has_shape || is_zero(&head[3..35]) || is_zero(&head[36..52]) {
        return None;
    }
    match (&head[..2], rest) {
        (b"ff", _) => None,
        (b"00", []) => Some(Bytes::copy_from_slice(head)),
        (b"00", _) => None,
        (_, [] | [b'-', ..]) => {
            // Of the flags, only "sampled" has a meaning that later versions keep.
            let is_sampled = hex::decode(&head[53..]).is_ok_and(|flags| flags[0] & 1 == 1);
            let flags: &[u8] = if is_sampled { b"01" } else { b"00" };
            Some([b"00", &head[2..53], flags].concat().into())
        }
        _ => None,
    }
}

/// Returns the members of all `tracestate` lines as one list, if all of them are valid and short enough.
fn state_of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Bytes> {
    let mut state = Vec::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    for line in lines {
        if line.len() > MAX_STATE_BYTES {
            return None;
        }
        for member in
            line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
        {
            let key = key_of(member)?;
            if keys.contains(&key) || keys.len() == MAX_MEMBERS {
                return None;
            }
            if !keys.is_empty() {
                state.push(b',');
            }
            state.extend_from_slice(member);
            if state.len() > MAX_STATE_BYTES {
                return None;
            }
            keys.push(key);
        }
    }
    (!keys.is_empty()).then(|| state.into())
}

/// Returns the key of a valid list member (`key=value`).
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let at = member.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&member[..at], &member[at + 1..]);
    (is_key(key) && is_value(value)).then_some(key)
}

/// Returns whether a key is valid: a simple key, or a tenant's key `tenant@system`, the system with at most 14 characters.
fn is_key(key: &[u8]) -> bool {
    let begins =
        |text: &[u8]| text.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
    let mut parts = key.splitn(2, |byte| *byte == b'@');
    let is_part = |part: &[u8]| begins(part) && part.iter().all(is_plain);
    let tenant = parts.next().is_some_and(is_part);
    let system = parts.next().is_none_or(|system| is_part(system) && system.len() <= 14);
    tenant && system && key.len() <= MAX_PART_BYTES
}

/// Returns whether a value is valid: 1 to 256 printable ASCII characters without `,` and `=`, the last one not a space.
fn is_value(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    !value.is_empty()
        && value.len() <= MAX_PART_BYTES
        && value.iter().all(is_allowed)
        && !value.ends_with(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(value: &str) -> Option<String> {
        let read = Trace::read([value.as_bytes()], []);
        read.parent.map(|parent| String::from_utf8(parent.to_vec()).unwrap())
    }

    fn state(lines: &[&str]) -> Option<String> {
        let read = Trace::read([PARENT.as_bytes()], lines.iter().map(|line| line.as_bytes()));
        assert_eq!(
            read.parent.as_deref(),
            Some(PARENT.as_bytes()),
            "a wrong state does no harm to its parent"
        );
        read.state.map(|state| String::from_utf8(state.to_vec()).unwrap())
    }

    #[test]
    fn a_parent_is_one_by_the_grammar_and_of_a_later_version_the_known_part_counts() {
        let ids = &PARENT[2..53];
        for (value, read) in [
            (PARENT.to_owned(), Some(PARENT.to_owned())),
            (format!("00{ids}00"), Some(format!("00{ids}00"))),
            (format!("00{ids}03"), Some(format!("00{ids}03"))),
            (format!("01{ids}09"), Some(format!("00{ids}01"))),
            (format!("cc{ids}00-what-the-future-holds"), Some(format!("00{ids}00"))),
            (format!("ff{ids}01"), None),
            (format!("00{ids}01-"), None),
            (format!("00{ids}01-more"), None),
            (format!("01{ids}01more"), None),
            (format!("00{ids}1"), None),
            (format!("00{ids}+1"), None),
            (format!("+0{ids}01"), None),
            (PARENT.to_uppercase(), None),
            (PARENT.replace('-', "_"), None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(), None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(), None),
            (String::new(), None),
            ("x".repeat(100_000), None),
        ] {
            assert_eq!(parent(&value), read, "{value:.80}");
        }
        assert_eq!(Trace::read([PARENT.as_bytes(); 2], []), Trace::default());
        assert_eq!(Trace::read([], [&b"a=b"[..]]), Trace::default());
    }

    #[test]
    fn a_state_is_a_short_list_by_the_grammar_or_left_out() {
        let members = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let (full, long) = (members(32), format!("a={}", "v".repeat(256)));
        let (first, second) = (format!("a={}", "v".repeat(253)), format!("b={}", "v".repeat(253)));
        for state_as_is in ["congo=t61rcWkgMzE", "a=1,b=2", "0tenant@system=x y", "a_-*/0=!~", &full, &long] {
            assert_eq!(state(&[state_as_is]).as_deref(), Some(state_as_is));
        }
        assert_eq!(state(&["a=1", " b=2\t, ,c=3,"]).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(state(&[&first, &second]).map(|state| state.len()), Some(511));
        assert_eq!(state(&[&first, &format!("{second}v")]).map(|state| state.len()), Some(512));
        for wrong in [
            "",
            ",",
            "a",
            "=",
            "a=",
            "=1",
            "A=1",
            "a=1,a=2",
            "a=b=c",
            "a@=1",
            "@a=1",
            "a@b@c=1",
            "-a=1",
            "a b=1",
            "a=\u{e9}",
            "a=1\u{0}",
            "a@fifteen-letters=1",
        ] {
            assert_eq!(state(&[wrong]), None, "{wrong:?}");
        }
        assert_eq!(state(&[&members(33)]), None);
        assert_eq!(state(&[&format!("{long}v")]), None);
        assert_eq!(state(&[&format!("{}=v", "k".repeat(257))]), None);
        assert_eq!(state(&[&first, &format!("{second}vv")]), None, "513 bytes in all");
        assert_eq!(state(&[&format!("a=1{}", " ".repeat(510))]), None, "a line alone is too long");
    }
}
