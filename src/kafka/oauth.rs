//! Authentication with credentials that change at run time: tokens (SASL OAUTHBEARER), and a name with its password.
//!
//! A task fetches tokens, and [`hand_over`] gives each token to every client. librdkafka's own way is a callback on the thread that
//! brings delivery reports, which must not wait for a token server. After a failure librdkafka waits ten seconds, and rdkafka's
//! admin client does not call back at all. The task fetches the next token long before the current one expires and retries failures
//! with back-off; meanwhile clients keep their token.
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

/// Back-off after failures.
const RETRY: BackOff = BackOff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// Part of the lifetime of a token after which the next one is fetched. librdkafka signs in again at nine tenths of the rest.
const REFRESH_AFTER: f64 = 0.7;

/// Minimum time between two fetches, also for tokens with a shorter lifetime.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// Minimum time between two log lines about the same failure.
const REPEAT: Duration = Duration::from_secs(60);

/// Fetches tokens until it is dropped.
pub(super) struct Tokens {
    latest: Arc<Mutex<Option<Token>>>,
    task: AbortHandle,
}

impl Tokens {
    /// Starts the task on the current runtime. `first` is a token of the same server; the next fetch follows from its lifetime.
    /// `tell` receives each token and each failure.
    pub(super) fn keep(
        server: TokenServer,
        first: Token,
        tell: impl Fn(Result<&Token, &TokenError>) + Send + Sync + 'static,
    ) -> Self {
        let wait = refresh_in(&first);
        Self::start(server, Some(first), wait, tell)
    }

    /// Starts the task with a fetch at once. New clients get the token of `former` until the first fetch succeeds, if that token is
    /// valid.
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

    /// Calls `show` with the latest token, if it is valid, for a new client. The lock keeps newer tokens back meanwhile.
    pub(super) fn with_latest(&self, show: impl FnOnce(&Token)) {
        let latest = self.latest.lock();
        latest.as_ref().filter(|token| token.expires > SystemTime::now()).map(show);
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
        let lifetime = duration::show(Duration::from_secs(token.lifetime.as_secs()));
        if self.logged.end() {
            tracing::info!(%lifetime, "the token server issues tokens again");
        } else {
            tracing::debug!(%lifetime, principal = token.principal, "a token was fetched");
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
            tracing::warn!(attempts = self.failures, detail = error.detail(), "no token for Kafka: {error}");
        }
        RETRY.jittered(self.failures)
    }
}

fn refresh_in(token: &Token) -> Duration {
    token.lifetime.mul_f64(REFRESH_AFTER).max(SHORTEST_REFRESH)
}

/// Gives a client the token for its next authentications. librdkafka refuses an expired token; the client then keeps its token.
pub(super) fn hand_over<C: ClientContext>(client: &Client<C>, token: &Token) {
    let (Ok(value), Ok(principal)) = (CString::new(token.expose()), CString::new(token.principal.as_str()))
    else {
        return tracing::error!("a token cannot be handed to the Kafka client"); // `TokenServer` refuses such tokens
    };
    let since_1970 = token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let expires_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX / 1_000); // it counts in microseconds
    let mut why: [c_char; 512] = [0; 512];
    // SAFETY: the client is borrowed, so its pointer is valid; the strings end with NUL and are copied; there are no
    // extensions; the buffer for an error has the stated length.
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
        // Without librdkafka's message, which may repeat the token.
        tracing::warn!(error = ?code, "the Kafka client refuses a token");
    }
}

/// Gives a client the name and password (SASL PLAIN, SCRAM) for its next connections. Open connections stay, so messages keep their
/// order.
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
