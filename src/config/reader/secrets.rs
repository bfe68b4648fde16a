//! Files that hold one secret each. They are read once, and examined for bytes that an editor does not show.
//!
//! A trailing blank line, a space or a byte order mark can be part of a secret, so the bridge keeps it. The warning about it
//! explains why no signature matches.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::values::{non_empty_text, not_empty, text};
use super::{Read, Section};

const MAX_BYTES: u64 = 1 << 20;

/// A secret and the file that it was read from.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// The path in the configuration.
    pub path: PathBuf,
    /// The content of the file without one trailing line break.
    pub content: SecretString,
}

impl SecretFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, is empty, larger than 1 MiB or not UTF-8.
    pub fn read(path: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("names the file {path:?}, which {what}");
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong("is larger than 1 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text"))?;
        let secret = match text.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => &text,
        };
        if secret.is_empty() {
            return Err(wrong("is empty"));
        }
        Ok(Self { path: path.into(), content: secret.into() })
    }

    /// Returns a warning about bytes that probably do not belong to the secret. `key` names the setting or argument.
    pub fn warning(&self, key: &str) -> Option<String> {
        let flaw = flaw(self.content.expose_secret())?;
        Some(format!("{key}: the secret in the file {:?} {flaw}, which counts as part of it", self.path))
    }
}

impl Section<'_> {
    /// Reads a secret from `key`, or from the file that `{key}_file` names. `check` refuses or normalizes the secret.
    pub(in crate::config) fn secret(
        &mut self,
        key: &str,
        check: fn(String) -> Read<String>,
    ) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        let inline = self.value(key, true, |value| check(non_empty_text(value)?));
        let file = self.value(&file_key, false, |value| {
            let file = SecretFile::read(&text(value)?)?;
            let content = check(file.content.expose_secret().to_owned())?.into();
            Ok(SecretFile { content, ..file })
        });
        if inline.is_some() && file.is_some() {
            self.mistake(format!(" has both {key} and {file_key}, expected one of them"));
        }
        let inline = inline.map(|secret| self.inline_secret(key, secret));
        let from_file = file.map(|file| self.file_secret(&file_key, file));
        inline.or(from_file)
    }

    /// Reads the secrets of the list `key` and of the files in the list `file_key`.
    pub(in crate::config) fn secrets(&mut self, key: &str, file_key: &str) -> Vec<SecretString> {
        let inline = self.texts(key, true, |text| not_empty(text.to_owned()));
        let files = self.list(file_key, SecretFile::read);
        let mut secrets = Vec::with_capacity(inline.len() + files.len());
        for (index, secret) in inline.into_iter().enumerate() {
            secrets.push(self.inline_secret(&format!("{key}[{index}]"), secret));
        }
        secrets.extend(files.into_iter().map(|file| self.file_secret(file_key, file)));
        secrets
    }

    /// Returns the secret, and warns about bytes that probably do not belong to it.
    pub(in crate::config) fn inline_secret(&mut self, key: &str, secret: String) -> SecretString {
        if let Some(flaw) = flaw(&secret) {
            self.warn(format!("{}: the secret {flaw}, which counts as part of it", self.key(key)));
        }
        secret.into()
    }

    /// Returns the content of the file. Notes the file, and warns about bytes that probably do not belong to the secret.
    pub(in crate::config) fn file_secret(&mut self, key: &str, file: SecretFile) -> SecretString {
        let key = self.key(key);
        self.notes.warnings.extend(file.warning(&key));
        self.notes.files.push(file.path);
        file.content
    }
}

/// Describes bytes that rarely belong to a secret. PEM text is accepted: it has several lines, and OpenSSL skips white space
/// around it.
fn flaw(secret: &str) -> Option<&'static str> {
    if secret.starts_with('\u{feff}') {
        return Some("begins with a byte order mark");
    }
    if secret.contains("-----BEGIN ") {
        return None;
    }
    let is_break = |c: char| matches!(c, '\n' | '\r');
    match secret.trim_matches(is_break) {
        line if line.contains(is_break) => Some("has several lines"),
        line if line.len() < secret.len() => Some("has a blank line before or after it"),
        line if line.trim() != line => Some("begins or ends with white space"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::config::tests::{MINIMAL, from_file};

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Result<SecretFile, String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let read = SecretFile::read(file.path().to_str().unwrap());
        (file, read)
    }

    #[test]
    fn one_line_break_is_dropped_and_other_white_space_around_the_secret_is_a_warning() {
        let pem = "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----";
        for (content, secret, flaw) in [
            ("hush", "hush", None),
            ("hush\n", "hush", None),
            ("hush\r\n", "hush", None),
            ("hu sh\n", "hu sh", None),
            (&format!("{pem}\n\n"), &format!("{pem}\n"), None),
            ("hush\n\n", "hush\n", Some("a blank line before or after it")),
            ("hush\r\n\r\n", "hush\r\n", Some("a blank line before or after it")),
            ("\nhush", "\nhush", Some("a blank line before or after it")),
            (" hush\n", " hush", Some("begins or ends with white space")),
            ("hush\t", "hush\t", Some("begins or ends with white space")),
            ("hush\nsecond\n", "hush\nsecond", Some("has several lines")),
            ("\u{feff}hush\n", "\u{feff}hush", Some("begins with a byte order mark")),
            (&format!("\u{feff}{pem}"), &format!("\u{feff}{pem}"), Some("begins with a byte order mark")),
        ] {
            let (_file, read) = file(content.as_bytes());
            let read = read.unwrap();
            assert_eq!(read.content.expose_secret(), secret);
            let warning = read.warning("kafka.x");
            assert_eq!(warning.is_some(), flaw.is_some(), "{content:?}: {warning:?}");
            let Some((warning, flaw)) = warning.zip(flaw) else { continue };
            assert!(warning.starts_with("kafka.x: the secret in the file \"/"), "{warning}");
            assert!(warning.contains(flaw) && !warning.contains("hush"), "{warning}");
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_refused() {
        let large = vec![b'x'; 1 + (1 << 20)];
        for (content, wrong) in [
            (&b""[..], "is empty"),
            (b"\r\n", "is empty"),
            (b"h\0u\0s\0h\0\xff", "is not UTF-8"),
            (&large, "is larger than 1 MiB"),
        ] {
            let (file, read) = file(content);
            let error = read.unwrap_err();
            assert!(error.ends_with(wrong) || error.contains(wrong), "{error}");
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        }
        assert!(SecretFile::read("/no/such").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_file_is_read_once() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"hush\n").unwrap();
        drop(writer);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        for [list, files] in [["secrets", "secret_files"], ["url_tokens", "url_token_files"]] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"hush\n").unwrap();
            drop(writer);
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let inline = if list == "secrets" { "" } else { "secrets = [\"s\"]\n" };
            let config =
                from_file(&format!("[sources.default]\n{inline}{files} = [{path:?}]\n"), &[]).unwrap();
            let source = &config.sources["default"];
            assert_eq!((source.keys.len(), source.url_tokens.len()), (1, usize::from(list == "url_tokens")));
        }
        let text = format!("{MINIMAL}[kafka.property_files]\n\"sasl.password\" = {path:?}\n");
        let config = from_file(&text, &[]).unwrap();
        assert_eq!(config.kafka.properties["sasl.password"].expose(), "hush");
        assert_eq!(config.files, [PathBuf::from(path)]);
    }

    #[test]
    fn each_setting_warns_about_white_space_around_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hush\n\n").unwrap();
        let text = format!(
            "[sources.default]\nsecrets = [\"hush \"]\nsecret_files = [{file:?}]\nurl_token_files = [{file:?}]\n\
             [kafka.properties]\n\"sasl.password\" = \"hush\\n\"\n\"security.protocol\" = \"SASL_SSL\"\n\
             [kafka.property_files]\n\"ssl.key.password\" = {file:?}\n\
             [kafka.oauth]\ntoken_endpoint = \"https://idp/t\"\nclient_id = \"b\"\nclient_secret_file = {file:?}\n\
             [nexudus]\npublic_url = \"https://h\"\nusername = \"u\"\npassword_file = {file:?}\n"
        );
        let warnings = from_file(&text, &[]).unwrap().warnings;
        for key in [
            "sources.default.secrets[0]: the secret begins or ends with white space",
            "sources.default.secret_files: the secret in the file",
            "sources.default.url_token_files: the secret in the file",
            "kafka.properties.\"sasl.password\": the secret has a blank line",
            "kafka.property_files.\"ssl.key.password\": the secret in the file",
            "kafka.oauth.client_secret_file: the secret in the file",
            "nexudus.password_file: the secret in the file",
        ] {
            assert_eq!(
                warnings.iter().filter(|warning| warning.starts_with(key)).count(),
                1,
                "{key}: {warnings:#?}"
            );
        }
        assert!(warnings.iter().all(|warning| !warning.contains("hush")), "{warnings:?}");
    }
}
