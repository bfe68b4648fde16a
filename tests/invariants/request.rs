//! Requests for the property tests and the fuzzer: valid and invalid deliveries, and arbitrary bytes.

use arbitrary::Arbitrary;
use bytes::Bytes;
use nexudus_bridge::action::catalogue::ENTRIES;
use nexudus_bridge::signature::SigningKey;

use crate::body::Body;

pub(crate) const SECRET: &str = "surface-secret";
pub(crate) const LARGEST_BODY: usize = 64 * 1024;

/// The pieces that are written on one connection, one after the other, without waiting for answers.
pub(crate) type Pieces = Vec<Piece>;

/// A piece of the bytes on a connection.
#[derive(Debug, Arbitrary)]
pub(crate) enum Piece {
    /// A valid or invalid delivery.
    Delivery(Delivery),
    /// Some bytes.
    Raw(Vec<u8>),
    /// A line of a request.
    Line(u8),
}

/// A delivery.
#[derive(Debug, Arbitrary)]
pub(crate) struct Delivery {
    method: u8,
    target: Target,
    action: Action,
    signature: Signature,
    framing: Framing,
    odd: Option<u8>,
    body: Body,
}

#[derive(Debug, Arbitrary)]
enum Target {
    Short,
    Source(u8),
    Absolute,
    Asterisk,
    Query(Vec<u8>),
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Action {
    Known(u8),
    Escaped(u8),
    Number(u8),
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Signature {
    Right,
    Flipped(u8),
    Missing,
    Twice,
    Any(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Framing {
    Length,
    Chunked(u8),
    Off(i8),
    Both,
    Odd(u8),
    Neither,
}

#[rustfmt::skip]
const METHODS: [&str; 8] = ["POST", "POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "CONNECT"];

#[rustfmt::skip]
const ODD_FRAMINGS: [&str; 14] = [
    "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding : chunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity\r\n", "Transfer-Encoding:\r\n chunked\r\n", "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding\r\n", "Content-Length: +5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5, 5\r\n", "Content-Length : 5\r\n",
    "Content-Length: 0x5\r\n", "Content-Length: 99999999999999999999\r\n",
];

#[rustfmt::skip]
const ODD_HEADERS: [&str; 12] = [
    "Connection: close\r\n", "Upgrade: websocket\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Expect: 100-continue\r\n",
    "Content-Encoding: gzip\r\n", "Host: y\r\n", "X: \0\r\n", " folded\r\n", "X: bare\nY: line\r\n", "X\r\n", ": x\r\n",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n",
];

#[rustfmt::skip]
const LINES: [&str; 10] = [
    "\r\n", "POST /webhooks/BookingCreate HTTP/1.1\r\n", "Host: x\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
    "0\r\n\r\n", "5;x=y\r\nabcde\r\n", "GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\n",
];

impl Piece {
    /// Writes the piece. Returns its body if the signature is valid.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Option<Bytes> {
        match self {
            Self::Delivery(delivery) => return delivery.write(bytes),
            Self::Raw(raw) => bytes.extend_from_slice(raw),
            Self::Line(index) => bytes.extend_from_slice(pick(&LINES, *index).as_bytes()),
        }
        None
    }

    /// Returns true if every server must accept the piece and continue.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Delivery(Delivery { method, target, action, signature, framing, odd, body }) => {
                pick(&METHODS, *method) == "POST"
                    && matches!(target, Target::Short | Target::Absolute)
                    && matches!(action, Action::Known(_) | Action::Escaped(_))
                    && matches!(signature, Signature::Right)
                    && matches!(framing, Framing::Length | Framing::Chunked(_))
                    && odd.is_none()
                    && body.bytes().len() <= LARGEST_BODY
            }
            _ => false,
        }
    }
}

impl Delivery {
    /// Returns a valid delivery.
    pub(crate) fn valid(action: &str, odd: &str) -> Self {
        let place = |found: Option<usize>| u8::try_from(found.expect("exists")).expect("few");
        Self {
            method: 0,
            target: Target::Short,
            action: Action::Known(place(ENTRIES.iter().position(|entry| entry.name == action))),
            signature: Signature::Right,
            framing: Framing::Length,
            odd: ODD_HEADERS.iter().position(|known| *known == odd).map(|found| place(Some(found))),
            body: Body::Text(r#"{"Id":1}"#.to_owned()),
        }
    }

    /// Writes the delivery. Returns its body if the signature is valid.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Option<Bytes> {
        let body = Bytes::from(self.body.bytes());
        let mut put = |text: &[u8]| bytes.extend_from_slice(text);
        put(pick(&METHODS, self.method).as_bytes());
        put(b" ");
        put(&self.path());
        put(b" HTTP/1.1\r\nHost: x\r\n");
        if let Some(odd) = self.odd {
            put(pick(&ODD_HEADERS, odd).as_bytes());
        }
        let right = SigningKey::new(SECRET).expect("not empty").sign(&body);
        for value in self.signature.values(&right) {
            put(b"X-Nexudus-Hook-Signature: ");
            put(&value);
            put(b"\r\n");
        }
        self.framing.write(&body, bytes);
        matches!(self.signature, Signature::Right | Signature::Twice).then_some(body)
    }

    fn path(&self) -> Vec<u8> {
        let action = self.action.text();
        let (before, after): (&[u8], &[u8]) = match &self.target {
            Target::Short => (b"/webhooks/", b""),
            Target::Source(place) => match place % 4 {
                0 => (b"/webhooks/default/", b""),
                1 => (b"/webhooks/north/", b"?token=t%6Fken"),
                2 => (b"/webhooks/north/", b"?token=wrong"),
                _ => (b"/webhooks/stranger/", b""),
            },
            Target::Absolute => (b"http://x/webhooks/", b""),
            Target::Asterisk => return b"*".to_vec(),
            Target::Query(query) => return [b"/webhooks/", &action[..], b"?token=", query].concat(),
            Target::Any(target) => return target.clone(),
        };
        [before, &action, after].concat()
    }
}

impl Action {
    fn text(&self) -> Vec<u8> {
        let name = |place: u8| ENTRIES[usize::from(place) % ENTRIES.len()].name;
        match self {
            Self::Known(place) => name(*place).as_bytes().to_vec(),
            Self::Escaped(place) => {
                name(*place).bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect()
            }
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Any(text) => text.clone(),
        }
    }
}

impl Signature {
    /// Returns the values of the header: none, one or two.
    fn values(&self, right: &str) -> Vec<Vec<u8>> {
        match self {
            Self::Right => vec![right.as_bytes().to_vec()],
            Self::Flipped(place) => {
                let mut digits = right.as_bytes().to_vec();
                let place = usize::from(*place) % digits.len();
                digits[place] = if digits[place] == b'0' { b'1' } else { b'0' };
                vec![digits]
            }
            Self::Missing => Vec::new(),
            Self::Twice => vec![right.as_bytes().to_vec(); 2],
            Self::Any(value) => vec![value.clone()],
        }
    }
}

impl Framing {
    fn write(&self, body: &[u8], bytes: &mut Vec<u8>) {
        let length = |number: usize| format!("Content-Length: {number}\r\n");
        let (header, chunk) = match self {
            Self::Length => (length(body.len()), None),
            Self::Off(by) => (length(body.len().saturating_add_signed((*by).into())), None),
            Self::Neither => (String::new(), None),
            Self::Odd(place) => (pick(&ODD_FRAMINGS, *place).to_owned(), None),
            Self::Both => (format!("{}Transfer-Encoding: chunked\r\n", length(body.len())), Some(7)),
            Self::Chunked(size) => {
                ("Transfer-Encoding: chunked\r\n".to_owned(), Some(usize::from(*size) + 1))
            }
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let Some(chunk) = chunk else { return bytes.extend_from_slice(body) };
        for piece in body.chunks(chunk) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
}

fn pick(list: &[&'static str], place: u8) -> &'static str {
    list[usize::from(place) % list.len()]
}
