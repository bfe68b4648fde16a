//! Authentication with credentials that change at run time: tokens (SASL OAUTHBEARER), and a name with its password.
//!
//! A task fetches tokens, and [`hand_over`] gives each token to every client. The task fetches the next token long before the
//! current one expires, and retries failures with back-off. Meanwhile clients keep their token.
//!
//! librdkafka's own token callback is not used:
//!
//! - It runs on the thread that polls for delivery reports, which must not wait for a token server.
//! - After a failure librdkafka waits ten seconds.
//! - rdkafka's admin client never calls it.
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
    pub(super) latest: Arc<Mutex<Option<Token>>>,
    task: AbortHandle,
}

impl Tokens {
    /// Starts the task on the current runtime. The task fetches at once; with `is_fresh` only when `first` is due for a refresh. Until
    /// then, new clients get the token `first`. `report` receives each token and each failure.
    pub(super) fn fetch(
        server: TokenServer,
        first: Option<Token>,
        is_fresh: bool,
        report: impl Fn(Result<&Token, &TokenError>) + Send + Sync + 'static,
    ) -> Self {
        let wait = first.as_ref().filter(|_| is_fresh).map_or(Duration::ZERO, refresh_in);
        let latest = Arc::new(Mutex::new(first));
        let task = tokio::spawn(keep_fetching(server, Arc::clone(&latest), wait, report)).abort_handle();
        Self { latest, task }
    }

    /// Calls `show` with the latest token for a new client, unless the token has expired. The lock keeps the task from replacing the
    /// token during the call.
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

async fn keep_fetching(
    server: TokenServer,
    latest: Arc<Mutex<Option<Token>>>,
    mut wait: Duration,
    report: impl Fn(Result<&Token, &TokenError>),
) {
    let (mut failures, mut logged) = (0, LogOnChange::new(REPEAT));
    loop {
        tokio::time::sleep(wait).await;
        match server.fetch().await {
            Ok(token) => {
                let lifetime = duration::show(Duration::from_secs(token.lifetime.as_secs()));
                if logged.end() {
                    tracing::info!(%lifetime, "the token server issues tokens again");
                } else {
                    tracing::debug!(%lifetime, principal = token.principal, "a token was fetched");
                }
                (failures, wait) = (0, refresh_in(&token));
                report(Ok(latest.lock().insert(token)));
            }
            Err(error) => {
                report(Err(&error));
                failures += 1;
                if logged.allow(error.clone()) {
                    tracing::warn!(
                        attempts = failures,
                        detail = error.detail(),
                        "no token for Kafka: {error}"
                    );
                }
                wait = RETRY.jittered(failures);
            }
        }
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
    let expires_ms = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX / 1_000); // librdkafka multiplies it by 1,000
    let mut why: [c_char; 512] = [0; 512];
    // SAFETY: the client is borrowed, so its pointer is valid. The strings end with NUL and are copied. There are no
    // extensions. The buffer for an error has the stated length.
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
/// The name or the password has a NUL character, which no C string can hold, or librdkafka refuses them (its error code).
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
