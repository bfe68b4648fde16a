use base64::prelude::{BASE64_STANDARD, Engine};

use super::*;

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    secret: String,
    body_utf8_base64: String,
    signature: String,
    ascii_equals_utf8: bool,
}

fn vectors() -> Vec<(Vector, Vec<u8>)> {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../tests/data/signature-vectors.json")).unwrap();
    let decoded = |vector: Vector| {
        let body = BASE64_STANDARD.decode(&vector.body_utf8_base64).unwrap();
        (vector, body)
    };
    vectors.into_iter().map(decoded).collect()
}

fn parsed(signature: &str) -> Signature {
    Signature::parse(signature.as_bytes()).unwrap()
}

#[test]
fn every_golden_vector_is_signed_and_verified_as_real_dotnet_does() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 77);
    for (vector, body) in vectors {
        let key = SigningKey::new(&vector.secret).unwrap();
        assert_eq!(key.sign(&body), vector.signature, "{}", vector.name);
        let form = if vector.ascii_equals_utf8 { Form::Raw } else { Form::Folded };
        assert_eq!(key.verify(&body, &parsed(&vector.signature)), Some(form), "{}", vector.name);
        let lower = vector.signature.to_lowercase();
        assert_eq!(key.verify(&body, &parsed(&lower)), Some(form), "{} in lower case", vector.name);
        let mut marked = BYTE_ORDER_MARK.to_vec();
        marked.extend_from_slice(&body);
        assert_eq!(
            key.verify(&marked, &parsed(&vector.signature)),
            Some(form),
            "{} after a mark",
            vector.name
        );
    }
}

#[test]
fn a_changed_ascii_byte_or_another_key_never_verifies() {
    for (vector, mut body) in vectors() {
        let signature = parsed(&vector.signature);
        let other = SigningKey::new(&format!("{}x", vector.secret)).unwrap();
        assert_eq!(other.verify(&body, &signature), None, "{}", vector.name);
        body[0] ^= 1; // the opening bracket
        let key = SigningKey::new(&vector.secret).unwrap();
        assert_eq!(key.verify(&body, &signature), None, "{}", vector.name);
    }
}

#[test]
fn a_hash_of_the_raw_bytes_verifies_as_raw_with_and_without_the_mark() {
    let key = SigningKey::new("secret").unwrap();
    let body = "\u{FEFF}[\"é😀\"]".as_bytes();
    for (text, name) in [(body, "with the mark"), (&body[3..], "without the mark")] {
        let raw =
            Hmac::<Sha256>::new_from_slice(b"secret").unwrap().chain_update(text).finalize().into_bytes();
        assert_eq!(key.verify(body, &parsed(&hex::encode(raw))), Some(Form::Raw), "{name}");
    }
}

#[test]
fn a_windows_1252_body_verifies_with_one_mark_a_byte() {
    let key = SigningKey::new("secret").unwrap();
    let signature = key.sign("[\"José\"]".as_bytes());
    assert_eq!(key.verify(b"[\"Jos\xE9\"]", &parsed(&signature)), Some(Form::Folded));
    // "Ã©" in Windows-1252 is C3 A9, which is also "é" in UTF-8: the bytes are ambiguous, so both are tried.
    let signature = key.sign("[\"Ã©\"]".as_bytes());
    assert_eq!(key.verify(b"[\"\xC3\xA9\"]", &parsed(&signature)), Some(Form::Folded));
}

#[test]
fn a_malformed_signature_is_distinguished_from_a_wrong_one() {
    let digits = "0".repeat(64);
    assert!(Signature::parse(digits.as_bytes()).is_ok());
    for wrong in [
        "",
        "0",
        &digits[1..],
        &format!("{digits}0"),
        &digits.replace('0', "g"),
        &format!(" {}", &digits[1..]),
    ] {
        assert_eq!(Signature::parse(wrong.as_bytes()).unwrap_err(), MalformedSignature, "{wrong:?}");
    }
}

#[test]
fn debug_output_holds_neither_secret_nor_signature() {
    let key = SigningKey::new("hush").unwrap();
    let signature = parsed(&key.sign(b"[]"));
    assert_eq!(format!("{key:?} {signature:?}"), "SigningKey(***) Signature(***)");
    assert_eq!(SigningKey::new("").unwrap_err(), EmptySecret);
}
