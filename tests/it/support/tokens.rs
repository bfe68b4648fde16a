//! A token server: returns unsigned tokens (JWT with `alg` `none`) to one client, which needs the right secret.
//!
//! Kafka's default validator accepts such tokens. The server implements only the necessary part of HTTP, with a thread for each
//! request, and uses TLS if it has a certificate.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::kafka::Authority;

/// The name of the client, which is also the user of the tokens by default.
pub(crate) const CLIENT: &str = "bridge";

/// The secret of the client. Form encoding changes every special character in it.
pub(crate) const CLIENT_SECRET: &str = "a:b c/d+e%f&g=h";

/// A running token server. Dropping it ends it.
pub(crate) struct TokenServer {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
}

struct Shared {
    /// The user of the tokens.
    user: String,
    /// The lifetime of a token.
    lifetime: Duration,
    /// True if the tokens have expired already, although the answer gives them a lifetime.
    stale: bool,
    given: AtomicU32,
    refused: AtomicU32,
    ended: AtomicBool,
}

impl TokenServer {
    /// Starts a server on this port of 127.0.0.1 (0 for any), whose tokens have this lifetime.
    pub(crate) fn start(port: u16, lifetime: Duration) -> Self {
        Self::serve(port, CLIENT, lifetime, false, None)
    }

    /// Starts a server whose tokens are for another user.
    pub(crate) fn start_for(user: &str, lifetime: Duration) -> Self {
        Self::serve(0, user, lifetime, false, None)
    }

    /// Starts a server whose tokens no broker accepts, since they have expired.
    pub(crate) fn start_with_stale_tokens() -> Self {
        Self::serve(0, CLIENT, Duration::from_secs(60), true, None)
    }

    /// Starts a server with https. The authority signs its certificate.
    pub(crate) fn start_with_tls(lifetime: Duration, authority: &Authority) -> Self {
        let identity = authority.server();
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        Self::serve(0, CLIENT, lifetime, false, Some(Arc::new(config)))
    }

    fn serve(port: u16, user: &str, lifetime: Duration, stale: bool, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            user: user.to_owned(),
            lifetime,
            stale,
            given: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        });
        let server = Self { address, tls: tls.is_some(), shared: Arc::clone(&shared) };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("the configuration is whole");
                        shared.answer(StreamOwned::new(connection, stream))
                    }
                    None => shared.answer(stream),
                });
            }
        });
        server
    }

    /// Returns the value for `token_endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/realms/test/token", self.address)
    }

    /// Returns the number of tokens that the server has issued.
    pub(crate) fn given(&self) -> u32 {
        self.shared.given.load(Ordering::SeqCst)
    }

    /// Returns the number of requests that the server has refused.
    pub(crate) fn refused(&self) -> u32 {
        self.shared.refused.load(Ordering::SeqCst)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok(); // ends the wait for a connection
    }
}

impl Shared {
    /// Answers one request. `None` if the client has closed the connection.
    fn answer(&self, stream: impl io::Read + Write) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let mut body = vec![0; header("content-length")?.parse().ok()?];
        stream.read_exact(&mut body).ok()?;
        let fine = head.starts_with("POST /realms/test/token HTTP/1.1")
            && header("content-type")? == "application/x-www-form-urlencoded"
            && body.starts_with(b"grant_type=client_credentials");
        let known = header("authorization").is_some_and(|value| is_ours(&value));
        let (status, answer) = match (fine, known) {
            (true, true) => ("200 OK", self.token()),
            (true, false) => ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned()),
            (false, _) => ("400 Bad Request", r#"{"error":"invalid_request"}"#.to_owned()),
        };
        if status != "200 OK" {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        let length = answer.len();
        let stream = stream.get_mut();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}").ok()?;
        stream.flush().ok()
    }

    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        let (user, seconds) = (&self.user, self.lifetime.as_secs_f64());
        let (issued, expires) =
            if self.stale { (now - 90.0, now - 30.0) } else { (now - 1.0, now + seconds) };
        let claims = format!(
            r#"{{"sub":{user:?},"jti":"{number}","iat":{issued:.3},"exp":{expires:.3},"scope":"kafka"}}"#
        );
        let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!(r#"{{"access_token":"{header}.{claims}.","token_type":"Bearer","expires_in":{seconds}}}"#)
    }
}

/// Returns whether a header `Authorization` has the client's name and secret, form-encoded (RFC 6749, section 2.3.1).
fn is_ours(header: &str) -> bool {
    let Some(pair) = header.strip_prefix("Basic ").and_then(|pair| BASE64_STANDARD.decode(pair).ok()) else {
        return false;
    };
    let pair = String::from_utf8_lossy(&pair).into_owned();
    let Some((client, secret)) = pair.split_once(':') else { return false };
    let decode = |text: &str| {
        let form = format!("x={text}");
        url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    decode(client).as_deref() == Some(CLIENT) && decode(secret).as_deref() == Some(CLIENT_SECRET)
}
