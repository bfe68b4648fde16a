//! Authentication with credentials that change at run time: tokens (SASL OAUTHBEARER), and a name with its password.
//!
//! A task fetches tokens, and every client is handed each one.
//! librdkafka would rather ask for a token, in a callback on the thread that also brings delivery reports; that must not
//! wait for a token server, and after a failure it does not ask again for ten seconds. rdkafka's admin client never hears
//! the question at all. So nobody waits to be asked: [`hand_over`] gives a client the token as soon as it is there, and
//! librdkafka wakes up what waits for it. The task fetches the next one long before a token expires, and tries again,
//! at growing distances, when that fails; clients go on with the token that they have.
#![expect(
    unsafe_code,
    reason = "rdkafka does not wrap librdkafka's ways to give a client a token or a password"
)]

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaRespErr;
use tokio::task::AbortHandle;

use crate::back_off::BackOff;
use crate::config::duration;
use crate::telemetry::limit::LogOnChange;
use crate::token::{Token, TokenError, TokenServer};

/// The waits after failures.
const RETRY: BackOff = BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// The part of a token's life after which the next one is fetched. Clients sign in again at nine tenths of what is left.
const REFRESH_AFTER: f64 = 0.7;

/// Minimum time between two fetches, also for tokens with a shorter lifetime.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// How long the same failure stays out of the log after it was written.
const REPEAT: Duration = Duration::from_secs(60);

/// Fetches tokens until it is dropped.
pub(super) struct Tokens {
    latest: Arc<Mutex<Option<Token>>>,
    task: AbortHandle,
}

impl Tokens {
    /// Starts the task, on the runtime in which this is called. `first` is a token of the same server, so the next one is
    /// fetched when that one needs it. Each token and each failure goes to `tell`.
    pub(super) fn keep(
        server: TokenServer,
        first: Token,
        tell: impl Fn(Result<&Token, &TokenError>) + Send + Sync + 'static,
    ) -> Self {
        let wait = refresh_in(&first);
        Self::start(server, Some(first), wait, tell)
    }

    /// Starts the task with a fetch at once. Until a token comes, new clients are given the one of `former`, if it is still
    /// valid: other credentials do not void it.
    pub(super) fn fetch(
        server: TokenServer,
        former: Option<&Self>,
        tell: impl Fn(Result<&Token, &TokenError>) + Send + Sync + 'static,
    ) -> Self {
        let carried = former.and_then(|former| former.latest.lock().clone());
        Self::start(server, carried, Duration::ZERO, tell)
    }

    fn start(
        server: TokenServer,
        first: Option<Token>,
        wait: Duration,
        tell: impl Fn(Result<&Token, &TokenError>) + Send + Sync + 'static,
    ) -> Self {
        let latest = Arc::new(Mutex::new(first));
        let keeper = Keeper {
            server,
            latest: Arc::clone(&latest),
            tell,
            failures: 0,
            logged: LogOnChange::new(REPEAT),
        };
        Self { latest, task: tokio::spawn(keeper.run(wait)).abort_handle() }
    }

    /// Calls `show` with the latest token, if there is a valid one, for a client that was made just now. No newer token can
    /// come between.
    pub(super) fn with_latest(&self, show: impl FnOnce(&Token)) {
        let latest = self.latest.lock();
        latest.as_ref().filter(|token| token.expires() > SystemTime::now()).map(show);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper<T> {
    server: TokenServer,
    latest: Arc<Mutex<Option<Token>>>,
    tell: T,
    /// Number of failures in a row.
    failures: u32,
    logged: LogOnChange<TokenError>,
}

impl<T: Fn(Result<&Token, &TokenError>)> Keeper<T> {
    async fn run(mut self, first_wait: Duration) {
        let mut wait = first_wait;
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.server.fetch().await {
                Ok(token) => self.fetched(token),
                Err(error) => self.failed(error),
            };
        }
    }

    fn fetched(&mut self, token: Token) -> Duration {
        let lifetime = duration::show(Duration::from_secs(token.lifetime().as_secs()));
        if self.logged.end() {
            tracing::info!(%lifetime, "the token server gives tokens again");
        } else {
            tracing::debug!(%lifetime, principal = token.principal(), "a token was fetched");
        }
        self.failures = 0;
        let mut latest = self.latest.lock();
        let token = latest.insert(token);
        (self.tell)(Ok(token));
        refresh_in(token)
    }

    fn failed(&mut self, error: TokenError) -> Duration {
        (self.tell)(Err(&error));
        self.failures += 1;
        if self.logged.allow(error.clone()) {
            tracing::warn!(attempts = self.failures, detail = error.words(), "no token for Kafka: {error}");
        }
        RETRY.jittered(self.failures)
    }
}

fn refresh_in(token: &Token) -> Duration {
    token.lifetime().mul_f64(REFRESH_AFTER).max(SHORTEST_REFRESH)
}

/// Gives a client the token that it shows from now on, when it connects and when a session has to be renewed. A token
/// that has expired meanwhile is not taken; then the client keeps the one that it has.
pub(super) fn hand_over<C: ClientContext>(client: &Client<C>, token: &Token) {
    let (Ok(value), Ok(principal)) = (CString::new(token.expose()), CString::new(token.principal())) else {
        return tracing::error!("a token cannot be handed to the Kafka client"); // the token server's client saw to it
    };
    let since_1970 = token.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let expires_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX / 1_000); // it counts in microseconds
    let mut why: [c_char; 512] = [0; 512];
    // SAFETY: the client is borrowed, so its pointer is valid; the strings end with NUL and are copied; there are no
    // extensions; the buffer for an error is as long as said.
    let code = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // Not in librdkafka's words: they may repeat the token.
        tracing::warn!(error = ?code, "the Kafka client does not take a token");
    }
}

/// Gives a client the name and password (SASL PLAIN, SCRAM) with which it signs in from its next connection on. Open
/// connections stay, and no message is lost or sent in another order, as it could be by a new client.
///
/// # Errors
/// A NUL character, which no C string can hold; else librdkafka's code.
pub(super) fn set_password<C: ClientContext>(
    client: &Client<C>,
    name: &str,
    password: &str,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it has a NUL character".to_owned());
    let (name, password) = (text(name)?, text(password)?);
    // SAFETY: the client is borrowed, so its pointer is valid; both strings end with NUL and are copied.
    let error = unsafe {
        bindings::rd_kafka_sasl_set_credentials(client.native_ptr(), name.as_ptr(), password.as_ptr())
    };
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is not NULL, belongs to us, and is not used after it is destroyed.
    let code = unsafe {
        let code = bindings::rd_kafka_error_code(error);
        bindings::rd_kafka_error_destroy(error);
        code
    };
    Err(format!("{code:?}"))
}
