//! Invariants of the signature: folding equals a slow reference, and verification equals HMACs that are computed independently of
//! the bridge.

use std::collections::BTreeSet;

use hmac::{Hmac, KeyInit as _, Mac as _};
use nexudus_bridge::signature::{BYTE_ORDER_MARK, Form, Signature, SigningKey, fold, fold_bytes};
use sha2::Sha256;

const SECRET: &str = "k\u{e9}y \u{1f511}";

/// Folding equals the vendor's rule, and a signature is valid only for a form of exactly this body.
pub(crate) fn folding_and_verifying_agree_with_the_slow_reference(body: &[u8]) {
    let marks_a_byte: Vec<u8> = body.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
    assert_eq!(gathered(body, |text, sink| fold_bytes(text, sink)), marks_a_byte);
    let folded = gathered(body, |text, sink| fold(text, sink));
    assert!(folded.is_ascii(), "a key or a text is folded to ASCII even if it is not UTF-8");
    if let Ok(text) = std::str::from_utf8(body) {
        assert_eq!(folded, folded_slowly(text));
    }
    let key = SigningKey::new(SECRET).expect("not empty");
    let signed = key.sign(body);
    assert_eq!(signed, signed.to_uppercase());
    let right: BTreeSet<Vec<u8>> = forms(body).into_iter().map(|text| hmac(SECRET, &text)).collect();
    assert!(right.contains(&hex::decode(signed).expect("hex digits")), "what is signed is one of the forms");
    for text in forms(body) {
        let form = key.verify(body, &parsed(&hmac(SECRET, &text)));
        let exact = body == text || body.strip_prefix(BYTE_ORDER_MARK) == Some(&text[..]);
        assert_eq!(form, Some(if exact { Form::Raw } else { Form::Folded }));
        assert_eq!(key.verify(body, &parsed(&hmac("another", &text))), None);
    }
    for other in neighbours(body) {
        let signature = hmac(SECRET, &other);
        assert_eq!(key.verify(body, &parsed(&signature)).is_some(), right.contains(&signature), "{other:?}");
    }
}

/// A header is a signature if and only if it is 64 hexadecimal digits.
pub(crate) fn a_signature_is_64_hexadecimal_digits(header: &[u8]) {
    let wellformed = header.len() == 64 && header.iter().all(u8::is_ascii_hexdigit);
    assert_eq!(Signature::parse(header).is_ok(), wellformed);
}

/// Folds by the vendor's rule in a slow and obvious way: one `?` for each UTF-16 code unit above U+007F.
fn folded_slowly(text: &str) -> Vec<u8> {
    text.encode_utf16().map(|unit| u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(b'?')).collect()
}

/// Returns every text whose HMAC is valid for a body: the body, the folded body, and the body with a `?` for each byte that is not
/// ASCII; each with and without the byte order mark.
fn forms(body: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for text in body.strip_prefix(BYTE_ORDER_MARK).into_iter().chain([body]) {
        forms.push(text.to_vec());
        forms.extend(std::str::from_utf8(text).ok().map(folded_slowly));
        forms.push(text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect());
    }
    forms
}

/// Returns bodies that differ slightly from this one.
fn neighbours(body: &[u8]) -> Vec<Vec<u8>> {
    let mut neighbours = vec![[body, b"?"].concat(), [b" ", body].concat()];
    if let Some((last, before)) = body.split_last() {
        neighbours.push(before.to_vec());
        neighbours.push([before, &[last ^ 1]].concat());
    }
    neighbours
}

fn hmac(secret: &str, text: &[u8]) -> Vec<u8> {
    let key = folded_slowly(secret);
    let mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn parsed(signature: &[u8]) -> Signature {
    Signature::parse(hex::encode(signature).as_bytes()).expect("64 digits")
}

fn gathered(text: &[u8], fold: impl Fn(&[u8], &mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut out = Vec::new();
    fold(text, &mut |piece| out.extend_from_slice(piece));
    out
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_any_text(text in "(?s)\u{feff}?.{0,600}") {
            folding_and_verifying_agree_with_the_slow_reference(text.as_bytes());
        }

        #[test]
        fn of_any_bytes(body in proptest::collection::vec(any::<u8>(), 0..900)) {
            folding_and_verifying_agree_with_the_slow_reference(&body);
        }

        #[test]
        fn of_any_header(header in proptest::collection::vec(any::<u8>(), 0..70), digits in "[0-9a-fA-Fg ]{62,66}") {
            a_signature_is_64_hexadecimal_digits(&header);
            a_signature_is_64_hexadecimal_digits(digits.as_bytes());
        }
    }
}
