//! The header `X-Nexudus-Hook-Signature`: signs a body as Nexudus does, and verifies signatures.
//!
//! Nexudus signs with .NET's `ASCIIEncoding`: HMAC-SHA256 over a folded copy of the text, in which one `?` replaces each UTF-16 code
//! unit above U+007F. The key is folded the same way. The encoding of non-ASCII text on the wire is not documented. So a signature
//! is right if it is the HMAC of one of these, each with or without a leading byte order mark:
//!
//! - the raw body ([`Form::Raw`]);
//! - the folded body ([`Form::Folded`]), also with one `?` for each byte, for text in a single-byte encoding.
//!
//! The key is the same in every form, so none is weaker than another.
//!
//! Invariant: neither a secret nor an expected signature leaves this module in `Debug`, an error or a log.
//! `tests/data/signature-vectors.json` holds signatures that real .NET computed.

pub mod verdict;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The UTF-8 byte order mark, which .NET's stream writers can emit and which is not part of the signed text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The HTTP header that carries the signature.
pub const HEADER: &str = "x-nexudus-hook-signature";

/// The keyed HMAC state of a shared secret, computed once. The secret itself is not kept.
#[derive(Clone)]
pub struct SigningKey {
    keyed: Hmac<Sha256>,
}

/// A well-formed signature of 32 bytes that is not verified yet.
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

/// The bytes over which a valid signature was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Form {
    /// The body as it arrived (with or without its byte order mark).
    Raw,
    /// The body with every UTF-16 code unit above U+007F replaced by `?`, as .NET's `ASCIIEncoding` does.
    Folded,
}

/// A signature header that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not 64 hexadecimal digits")]
pub struct MalformedSignature;

/// A secret that cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty; Nexudus sends no signature for an empty secret")]
pub struct EmptySecret;

impl SigningKey {
    /// Makes a key of a shared secret, folded as Nexudus folds it. Nothing is trimmed or decoded.
    ///
    /// # Errors
    /// [`EmptySecret`]: Nexudus does not sign with an empty secret, so no signature could match.
    pub fn new(secret: &str) -> Result<Self, EmptySecret> {
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        let mut folded = Vec::with_capacity(secret.len());
        fold(secret.as_bytes(), |piece| folded.extend_from_slice(piece));
        let keyed = Hmac::new_from_slice(&folded).expect("HMAC takes a key of any length");
        Ok(Self { keyed })
    }

    /// Returns the signature that Nexudus sends with `text` (UTF-8 without a byte order mark): 64 upper-case hex digits.
    pub fn sign(&self, text: &[u8]) -> String {
        let mut mac = self.keyed.clone();
        if std::str::from_utf8(text).is_ok() {
            fold(text, |piece| mac.update(piece));
        } else {
            fold_bytes(text, |piece| mac.update(piece));
        }
        hex::encode_upper(mac.finalize().into_bytes())
    }

    /// Returns the form of `body` for which `signature` is right; `None` if it is wrong. Compares in constant time.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> Option<Form> {
        let unmarked = body.strip_prefix(BYTE_ORDER_MARK);
        unmarked.into_iter().chain([body]).find_map(|text| self.form_of(text, signature))
    }

    fn form_of(&self, text: &[u8], signature: &Signature) -> Option<Form> {
        if text.is_ascii() {
            return self.matches(signature, |mac| mac.update(text)).then_some(Form::Raw); // the folded form of ASCII text is the same
        }
        // The form of the published code comes first: for most bodies one HMAC is enough.
        if is_utf8(text) && self.matches(signature, |mac| fold(text, |piece| mac.update(piece))) {
            return Some(Form::Folded);
        }
        if self.matches(signature, |mac| mac.update(text)) {
            return Some(Form::Raw);
        }
        self.matches(signature, |mac| fold_bytes(text, |piece| mac.update(piece))).then_some(Form::Folded)
    }

    fn matches(&self, signature: &Signature, feed: impl FnOnce(&mut Hmac<Sha256>)) -> bool {
        let mut mac = self.keyed.clone();
        feed(&mut mac);
        mac.verify_slice(&signature.0).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl Signature {
    /// Reads a header value: 64 hexadecimal digits in either case.
    ///
    /// # Errors
    /// [`MalformedSignature`] for anything else.
    pub fn parse(value: &[u8]) -> Result<Self, MalformedSignature> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(value, &mut bytes).map_err(|_| MalformedSignature)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(***)")
    }
}

impl Form {
    /// Returns the form's name as a metric label and log field.
    pub fn label(self) -> &'static str {
        self.into()
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Passes the folded form of UTF-8 `text` to `sink` in pieces: one `?` for each UTF-16 code unit above U+007F. For bytes that are not
/// UTF-8 it counts by lead bytes and never fails.
pub fn fold(text: &[u8], mut sink: impl FnMut(&[u8])) {
    replace_non_ascii(text, &mut sink, |byte| match byte {
        0x80..=0xBF => 0, // a continuation is counted with its lead byte
        0xF0..=0xFF => 2, // above U+FFFF: a surrogate pair
        _ => 1,
    });
}

/// Passes `body` to `sink` with one `?` for each byte above 7F: the folded form of text in a single-byte encoding.
pub fn fold_bytes(body: &[u8], mut sink: impl FnMut(&[u8])) {
    replace_non_ascii(body, &mut sink, |_| 1);
}

fn replace_non_ascii(bytes: &[u8], sink: &mut impl FnMut(&[u8]), marks: impl Fn(u8) -> usize) {
    const CHUNK: usize = 256;
    let mut block = [0; 2 * CHUNK + 2]; // one HMAC update for each character would cost more than the hash
    for chunk in bytes.chunks(CHUNK) {
        if chunk.is_ascii() {
            sink(chunk);
            continue;
        }
        let mut used = 0;
        let mut rest = chunk;
        while let [first, behind @ ..] = rest {
            if first.is_ascii() {
                let run = ascii_run(rest);
                block[used..used + run].copy_from_slice(&rest[..run]);
                used += run;
                rest = &rest[run..];
            } else {
                let count = marks(*first);
                block[used..used + 2].fill(b'?');
                used += count;
                rest = behind;
            }
        }
        sink(&block[..used]);
    }
}

/// Returns the number of bytes before the first one above 7F.
fn ascii_run(bytes: &[u8]) -> usize {
    const HIGH: u64 = u64::MAX / 255 * 0x80;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let found = u64::from_le_bytes(*chunk) & HIGH;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    chunks.len() * 8 + rest.iter().position(|byte| !byte.is_ascii()).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
