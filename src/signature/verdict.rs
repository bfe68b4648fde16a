//! The verdict of the command `verify` on a signature.

use super::{BYTE_ORDER_MARK, Form, Signature, SigningKey};

/// The result of verifying a signature under several keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The form of the signed bytes; `None` if the signature is wrong.
    pub form: Option<Form>,
    /// True if the body begins with a byte order mark that was not signed.
    pub skipped_mark: bool,
    /// True if the signature is wrong, but right without the line break at the end of the body. Editors and `echo` add one.
    pub has_line_break: bool,
}

impl Verdict {
    /// Verifies a signature.
    pub fn new(keys: &[SigningKey], body: &[u8], signature: &Signature) -> Self {
        let form = |body: &[u8]| keys.iter().find_map(|key| key.verify(body, signature));
        let without_mark = body.strip_prefix(BYTE_ORDER_MARK).and_then(form);
        let line = body.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let right = without_mark.or_else(|| form(body));
        Self {
            form: right,
            skipped_mark: without_mark.is_some(),
            has_line_break: right.is_none() && line.and_then(form).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_a_skipped_byte_order_mark_and_a_line_break_are_found_under_any_key() {
        let keys = ["old", "new"].map(|secret| SigningKey::new(secret).unwrap());
        let body = "[\"é\"]".as_bytes();
        let verdict = |keys, body: &[u8], signed: &[u8]| {
            let signature =
                Signature::parse(SigningKey::new("new").unwrap().sign(signed).as_bytes()).unwrap();
            let verdict = Verdict::new(keys, body, &signature);
            (verdict.form, verdict.skipped_mark, verdict.has_line_break)
        };
        assert_eq!(verdict(&keys, body, body), (Some(Form::Folded), false, false));
        assert_eq!(verdict(&keys, b"[]", b"[]"), (Some(Form::Raw), false, false));
        assert_eq!(verdict(&keys[..1], b"[]", b"[]"), (None, false, false));
        assert_eq!(verdict(&keys, b"[] ", b"[]"), (None, false, false));
        for end in ["\n", "\r\n"] {
            assert_eq!(verdict(&keys, format!("[]{end}").as_bytes(), b"[]"), (None, false, true));
        }
        let marked = [BYTE_ORDER_MARK, body].concat();
        assert_eq!(verdict(&keys, b"\xEF\xBB\xBF[]", b"[]"), (Some(Form::Raw), true, false));
        assert_eq!(verdict(&keys, &marked, body), (Some(Form::Folded), true, false));
        assert_eq!(verdict(&keys, &marked, &marked), (Some(Form::Folded), false, false));
    }
}
