//! TLS on the ingress: only HTTP/1.1, a certificate that is replaced while the bridge serves, and unusable certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexudus_bridge::app::{App, BuildError};
use nexudus_bridge::outgoing::use_ring;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::bridge::{MAX_WAIT, SECRET, config, sign};
use crate::support::kafka::{plain, unique};
use crate::support::program::{Running, err, field, run};

const RECORD: &str = r#"{"Id":1}"#;

/// Returns a self-signed certificate for localhost, valid until the first day of this year, and its key.
pub(crate) fn certificate(year: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// Returns a client that trusts only this certificate.
pub(crate) fn client(certificate: &str) -> reqwest::ClientBuilder {
    use_ring();
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).expect("a certificate");
    reqwest::Client::builder().no_proxy().timeout(2 * MAX_WAIT).tls_certs_only([root])
}

/// Connects to `address` as localhost by TLS. The client trusts `certificate`, and offers these protocols by ALPN.
pub(crate) async fn connect(
    address: SocketAddr,
    certificate: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    use_ring();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate"))
        .expect("a root");
    let mut client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(client)).connect(name, TcpStream::connect(address).await?).await
}

struct Served {
    folder: tempfile::TempDir,
    program: Running,
    port: u16,
    admin: String,
    topic: String,
}

impl Served {
    fn start((chain, key): &(String, String)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let prefix = format!("{}.", unique("it"));
        let [chain_file, key_file] = [("tls.crt", chain), ("tls.key", key)].map(|(name, text)| {
            fs::write(folder.path().join(name), text).expect("written");
            folder.path().join(name)
        });
        let text = format!(
            "[ingress]\nlisten = \"127.0.0.1:0\"\ntls_cert = {chain_file:?}\ntls_key = {key_file:?}\n[admin]\n\
             listen = \"127.0.0.1:0\"\n[topics]\nprefix = {prefix:?}\n[sources.default]\nsecrets = [{SECRET:?}]\n\
             [kafka]\nbootstrap_servers = {:?}\n",
            plain().bootstrap(),
        );
        fs::write(folder.path().join("bridge.toml"), text).expect("written");
        let program = Running::serve(&folder.path().join("bridge.toml"));
        let line = program.line_with("the bridge is listening");
        let ingress: std::net::SocketAddr = field(&line, "ingress").parse().expect("an address");
        let admin = field(&line, "admin").to_owned();
        program.line_with("topics were created");
        Self { folder, program, port: ingress.port(), admin, topic: format!("{prefix}BookingCreate") }
    }

    /// Posts a record until the answer is not 503, as a sender does: the broker may not have a new topic yet.
    async fn post(&self, client: reqwest::ClientBuilder) -> reqwest::Result<reqwest::Response> {
        let client = client.build()?;
        let url = format!("https://localhost:{}/webhooks/BookingCreate", self.port);
        let begun = std::time::Instant::now();
        loop {
            let request =
                client.post(&url).header("X-Nexudus-Hook-Signature", sign(RECORD.as_bytes())).body(RECORD);
            let reply = request.send().await?;
            if reply.status() != 503 || begun.elapsed() > MAX_WAIT {
                return Ok(reply);
            }
        }
    }

    fn replace(&self, (chain, key): (&str, &str)) {
        fs::write(self.folder.path().join("tls.crt"), chain).expect("written");
        fs::write(self.folder.path().join("tls.key"), key).expect("written");
    }

    async fn expires(&self) -> String {
        let metrics = reqwest::get(format!("http://{}/metrics", self.admin)).await.expect("answered");
        let text = metrics.text().await.expect("text");
        let name = "nexudus_bridge_tls_certificate_not_after_timestamp_seconds ";
        text.lines().find_map(|line| line.strip_prefix(name)).expect("the series exists").to_owned()
    }

    fn topic(&self, expected: usize) {
        let messages = plain().client().consume_all(&self.topic, expected, MAX_WAIT);
        assert!(messages.iter().all(|message| message.value == RECORD.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_accepted_over_http_1_1_but_neither_over_http_2_nor_without_tls() {
    let pair = certificate(2040);
    let bridge = Served::start(&pair);
    let reply = bridge.post(client(&pair.0)).await.expect("answered");
    assert_eq!(reply.status(), 200, "{:?}", reply.text().await);
    let address = SocketAddr::from(([127, 0, 0, 1], bridge.port));
    for (offered, spoken) in
        [(&["h2", "http/1.1"][..], Some("http/1.1")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let stream = connect(address, &pair.0, offered).await.expect("a handshake");
        let negotiated =
            stream.get_ref().1.alpn_protocol().map(<[u8]>::escape_ascii).map(|text| text.to_string());
        assert_eq!(negotiated.as_deref(), spoken, "{offered:?}");
    }
    connect(address, &pair.0, &["h2"]).await.expect_err("HTTP/2 alone is refused in the handshake");
    let mut plaintext = TcpStream::connect(address).await.expect("it listens");
    plaintext.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    plaintext.read_to_end(&mut answer).await.ok(); // a reset also ends the connection
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    assert_eq!(bridge.expires().await, "2208988800");
    bridge.topic(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_over_and_an_unusable_one_is_not() {
    let (old, new) = (certificate(2040), certificate(2041));
    let bridge = Served::start(&old);
    bridge.post(client(&old.0)).await.expect("answered");
    // The old key does not fit the new certificate.
    bridge.replace((&new.0, &old.1));
    bridge.program.signal("HUP");
    let line = bridge.program.line_with("not reloaded");
    assert!(line.contains("does not fit the certificate") && !line.contains("PRIVATE"), "{line}");
    assert_eq!(bridge.post(client(&old.0)).await.expect("answered").status(), 200);
    // Corrected files need no signal: the bridge reads them every ten seconds.
    bridge.replace((&new.0, &new.1));
    bridge.program.line_with("a new certificate was taken over");
    assert_eq!(bridge.post(client(&new.0)).await.expect("answered").status(), 200);
    bridge.post(client(&old.0)).await.expect_err("the old certificate is not shown any more");
    assert_eq!(bridge.expires().await, "2240611200");
    bridge.topic(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_does_not_stop_the_renewal_and_is_taken_over_after_its_correction() {
    let (old, new) = (certificate(2040), certificate(2041));
    let bridge = Served::start(&old);
    let file = bridge.folder.path().join("bridge.toml");
    let whole = fs::read_to_string(&file).expect("exists");
    fs::write(&file, "[ingress").expect("written");
    bridge.program.signal("HUP");
    bridge.program.line_with("not reloaded");
    bridge.replace((&new.0, &old.1)); // first one file, then the other, as a renewal may do
    assert!(bridge.program.line_with("not reloaded: the former certificate").contains("does not fit"));
    bridge.replace((&new.0, &new.1));
    bridge.program.line_with("a new certificate was taken over");
    assert_eq!(bridge.post(client(&new.0)).await.expect("answered").status(), 200);
    fs::write(&file, whole).expect("written");
    bridge.program.line_with("sources and secrets were taken over");
    bridge.topic(1);
}

#[test]
fn an_expired_or_soon_expiring_certificate_is_a_warning_of_config_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let until = |date: jiff::Timestamp| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let date = date.to_zoned(jiff::tz::TimeZone::UTC);
        params.not_after =
            date_time_ymd(date.year().into(), date.month().cast_unsigned(), date.day().cast_unsigned());
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    };
    let days = |days: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    for (pair, warned) in [
        (until(days(-1)), Some("expired at ")),
        (until(days(10)), Some("expires at ")),
        (until(days(20)), None),
    ] {
        let [chain, key] = [("tls.crt", pair.0), ("tls.key", pair.1)].map(|(name, text)| {
            fs::write(folder.path().join(name), text).expect("written");
            folder.path().join(name)
        });
        let file = folder.path().join("bridge.toml");
        let text = format!(
            "[ingress]\ntls_cert = {chain:?}\ntls_key = {key:?}\n[sources.default]\nsecrets = [\"s\"]\n"
        );
        fs::write(&file, text).expect("written");
        let checked = run(&["config", "check", "--config", &file.display().to_string()]);
        assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
        match warned {
            Some(words) => {
                let expected = format!("warning: ingress.tls_cert: the certificate in {chain:?} {words}");
                assert!(err(&checked).contains(&expected), "{}", err(&checked));
            }
            None => assert_eq!(err(&checked), ""),
        }
    }
}

/// A certificate that `openssl x509 -req` made without extensions; valid until 2126.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJDCBywIUGI0xQz5HJlXoT3bPajCWOyVjA0AwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODA0NDAxMFoYDzIxMjYxMTA0MDQ0MDEw
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQjfT8axZv18BXIv0f3Z3nXPernBpQ07bLnFisPdDG1rfClwUTLFPL1t90HscpK
HxO493BM+Ncat6Ksx7WxhF7WMAoGCCqGSM49BAMCA0gAMEUCIHA4FofkFKLexo3g
z64YQeXDGm7hQ8zhLPhmQHg/RdgcAiEAnb8mHamezLzTQQL0OpUavSfq6S2YOUMi
Q/2skHh/HXE=
-----END CERTIFICATE-----
";

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_certificate_ends_the_start_and_its_file_and_mistake_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = certificate(2040);
    let file = |name: &str, text: &str| -> PathBuf {
        fs::write(folder.path().join(name), text).expect("written");
        folder.path().join(name)
    };
    let (good, fitting) = (file("good", &chain), file("fitting", &key));
    let (other, empty) = (file("other", &certificate(2040).1), file("empty", ""));
    let absent = folder.path().join("absent");
    let version_1 = file("version-1", VERSION_1);
    let marked = file("marked", &format!("\u{feff}{chain}"));
    let marked_key = file("marked-key", &format!("\u{feff}{key}"));
    let encrypted = file("encrypted", &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let header = "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n";
    let encrypted_before = file("encrypted-before", &key.replacen("PRIVATE KEY-----\n", header, 1));
    for (cert, key, wrong) in [
        (&empty, &fitting, "holds no certificate"),
        (&absent, &fitting, "is no certificate chain in PEM"),
        (&good, &empty, "is no private key in PEM"),
        (&good, &other, "does not fit the certificate"),
        (&version_1, &fitting, "certificate of version 1, which clients refuse: issue one of version 3"),
        (&marked, &fitting, "begins with a byte order mark, which PEM must not have: save it without"),
        (&good, &marked_key, "begins with a byte order mark"),
        (
            &good,
            &encrypted,
            "holds an encrypted private key, and there is no setting for its passphrase: decrypt it",
        ),
        (&good, &encrypted_before, "holds an encrypted private key"),
    ] {
        let text = |path: &Path| path.display().to_string();
        let (cert, key) = (text(cert), text(key));
        let settings = [("ingress.tls_cert", cert.as_str()), ("ingress.tls_key", key.as_str())];
        let built = App::build(config("127.0.0.1:9", "it.", &settings));
        match built.map(drop) {
            Err(BuildError::Tls(error)) => assert!(error.contains(wrong), "{error}"),
            other => panic!("{other:?} with {cert} and {key}"),
        }
    }
}
