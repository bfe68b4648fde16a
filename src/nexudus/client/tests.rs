use std::sync::Mutex as StdMutex;

use actix_web::{HttpRequest, HttpResponse};
use secrecy::SecretString;

use std::time::{Duration, Instant};

use super::*;
use crate::config::{Credentials, GuardianSettings, Pace};
use crate::nexudus::record::RawRecord;
use crate::sender::double;

fn nexudus(base: &str, credentials: Credentials) -> NexudusSettings {
    NexudusSettings {
        base_url: base.parse().unwrap(),
        credentials,
        public_url: "https://hooks.example.com".parse().unwrap(),
        pace: Pace {
            request_timeout: Duration::from_secs(5),
            requests_per_minute: 1000,
            writes_per_minute: 1000,
            requests_per_hour: 1000,
            request_spacing: Duration::ZERO,
        },
        guardian: GuardianSettings { interval: Duration::ZERO, reenable: false },
    }
}

pub(in crate::nexudus) type Seen = Arc<StdMutex<Vec<String>>>;

/// Starts an API with fixed answers. Also returns its requests: method, path with query, `Authorization`, `client_id` and body.
pub(in crate::nexudus) async fn api(
    credentials: Credentials,
    answer: impl Fn(u32, &str) -> HttpResponse + Send + Sync + 'static,
) -> (ApiClient, Seen) {
    let seen = Seen::default();
    let note = Arc::clone(&seen);
    let base = double::start(move |number, request: &HttpRequest, body| {
        let header = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        let body = String::from_utf8_lossy(body);
        let (auth, id) = (header("authorization"), header("client_id"));
        note.lock().unwrap().push(format!("{} {} {auth} {id} {body}", request.method(), request.uri()));
        answer(number, request.path())
    })
    .await;
    (ApiClient::new(&nexudus(&base, credentials), Arc::new(Metrics::new(""))).unwrap(), seen)
}

pub(in crate::nexudus) fn fixed() -> Credentials {
    Credentials::Token("fixed-token".into())
}

pub(in crate::nexudus) fn password() -> Credentials {
    Credentials::Password {
        username: "bridge@example.com".to_owned(),
        password: "open sesame".into(),
        totp_secret: None,
        client_id: "nexudus-bridge@here".to_owned(),
    }
}

pub(in crate::nexudus) fn ok(json: &str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(json.to_owned())
}

pub(in crate::nexudus) const RECORD: &str = r#"{"Id":7}"#;

pub(in crate::nexudus) fn reading() -> Call<'static> {
    Call::read("read", "/api/sys/webhooks/7", &[], "WebHook-Read")
}

pub(in crate::nexudus) fn writing() -> Call<'static> {
    Call::update("/api/sys/webhooks", Bytes::from_static(RECORD.as_bytes()), "WebHook-Edit")
}

pub(in crate::nexudus) async fn read_id(client: &ApiClient) -> Result<Option<i64>, ApiError> {
    client.get::<RawRecord>(&reading()).await.map(|record| record.id())
}

pub(in crate::nexudus) fn seen(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().clone()
}

#[tokio::test]
async fn a_fixed_token_and_basic_credentials_go_with_every_request() {
    let (client, asked) = api(fixed(), |_, _| ok(RECORD)).await;
    assert_eq!(read_id(&client).await, Ok(Some(7)));
    assert_eq!(seen(&asked), ["GET /api/sys/webhooks/7 Bearer fixed-token - "]);
    let basic = Credentials::Basic { username: "u@x".to_owned(), password: SecretString::from("p:é") };
    let (client, asked) = api(basic, |_, _| ok(RECORD)).await;
    assert_eq!(read_id(&client).await, Ok(Some(7)));
    let expected = format!("GET /api/sys/webhooks/7 Basic {} - ", base64(b"u@x:p:\xc3\xa9"));
    assert_eq!(seen(&asked), [expected]);
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_second_401_names_the_role_and_refused_credentials_are_never_tried_again() {
    let (client, asked) = api(password(), |_, path| match path {
        "/api/token" => ok(r#"{"access_token":"a","expires_in":60}"#),
        _ => HttpResponse::Unauthorized().finish(),
    })
    .await;
    let error = read_id(&client).await.unwrap_err();
    assert!(error.to_string().ends_with("needs API access and the role WebHook-Read"), "{error}");
    assert_eq!(seen(&asked).len(), 4); // token, 401, token, 401

    let refuse = |_: u32, _: &str| {
        let text = r#"{"error":"invalid_grant","error_description":"bad open sesame"}"#;
        HttpResponse::BadRequest().body(text)
    };
    let (client, asked) = api(password(), refuse).await;
    for _ in 0..3 {
        let error = read_id(&client).await.unwrap_err();
        let text = "refuses the credentials of [nexudus] with 400: invalid_grant: bad ***";
        assert_eq!(error.kind.to_string(), text);
    }
    assert_eq!(seen(&asked).len(), 1);
}

#[tokio::test]
async fn a_throttled_request_is_sent_again_after_retry_after() {
    let (client, asked) = api(fixed(), |number, _| match number {
        1 => HttpResponse::Conflict().insert_header(("Retry-After", "1")).finish(),
        2 => HttpResponse::TooManyRequests()
            .insert_header(("Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"))
            .finish(),
        _ => ok(r#"{"WasSuccessful":true,"Value":{"Id":7}}"#),
    })
    .await;
    let begun = Instant::now();
    assert_eq!(client.write(&writing()).await, Ok(Some(7)));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(seen(&asked).len(), 3);
    let metrics = client.session.lock().await.metrics.render();
    for (outcome, count) in [("throttled", 2), ("ok", 1)] {
        let line = format!(r#"nexudus_requests_total{{operation="update",outcome="{outcome}"}} {count}"#);
        assert!(metrics.contains(&line), "{metrics}");
    }

    let long = |_: u32, _: &str| HttpResponse::Conflict().insert_header(("Retry-After", "400")).finish();
    let (client, asked) = api(password(), long).await;
    for _ in 0..3 {
        let ErrorKind::Throttled(Some(wait)) = read_id(&client).await.unwrap_err().kind else {
            panic!("it is throttled")
        };
        assert!((301..=400).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(seen(&asked).len(), 1, "no request is sent before the end of Retry-After");
}

#[tokio::test]
async fn a_long_retry_after_is_bounded_and_try_again_ends_it() {
    for value in ["31536000", "Thu, 31 Dec 2099 23:59:59 GMT", "18446744073709551615"] {
        let (mut client, asked) = api(fixed(), move |number, _| match number {
            1 => HttpResponse::Conflict().insert_header(("Retry-After", value)).finish(),
            _ => ok(RECORD),
        })
        .await;
        for _ in 0..3 {
            let ErrorKind::Throttled(Some(wait)) = read_id(&client).await.unwrap_err().kind else {
                panic!("{value}: it is throttled")
            };
            assert!((3500..=3601).contains(&wait.as_secs()), "{value}: {wait:?}");
        }
        assert_eq!(seen(&asked).len(), 1, "{value}");
        client.try_again();
        assert_eq!(read_id(&client).await, Ok(Some(7)), "{value}");
    }
}

#[tokio::test]
async fn a_read_with_an_unreadable_answer_is_retried_and_a_write_is_not() {
    let answer = |number: u32, _: &str| match number {
        1 => HttpResponse::InternalServerError().body(r#"{"Message":"An error has occurred."}"#),
        2 => ok("<html>"),
        _ => ok(RECORD),
    };
    let (client, asked) = api(fixed(), answer).await;
    assert_eq!(read_id(&client).await, Ok(Some(7)));
    assert_eq!(seen(&asked).len(), 3);

    let (client, asked) = api(fixed(), answer).await;
    for text in ["it answers 500", "its answer is not the expected JSON"] {
        let error = client.write(&writing()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable(text.to_owned()));
        assert!(error.is_unclear());
    }
    assert_eq!(seen(&asked)[0], format!("PUT /api/sys/webhooks Bearer fixed-token - {RECORD}"));
    assert_eq!(seen(&asked).len(), 2);
}

#[tokio::test]
async fn a_refusal_has_the_text_of_the_api_whatever_its_status() {
    let text = r#"{"Message":"Name: is a required field","Value":null,"Errors":[{"AttemptedValue":null,"Message":"is a required field","PropertyName":"Name"},{"Message":"has\nfixed-token","PropertyName":"URL"}],"WasSuccessful":false}"#;
    let (client, asked) = api(fixed(), move |number, _| match number {
        1 => ok(text),
        2 => HttpResponse::BadRequest().body(text),
        3 => HttpResponse::NotFound().body("\"Not found\""),
        _ => HttpResponse::Found().insert_header(("Location", "/elsewhere")).finish(),
    })
    .await;
    for refusal in [
        "refuses with 200: Name: is a required field; URL: has ***",
        "refuses with 400: Name: is a required field; URL: has ***",
        "refuses with 404",
        "refuses with 302: a redirect; is nexudus.base_url right?",
    ] {
        assert_eq!(client.write(&writing()).await.unwrap_err().kind.to_string(), refusal);
    }
    assert_eq!(seen(&asked).len(), 4);
}

#[tokio::test]
async fn every_error_names_the_host_of_the_api_and_debug_holds_no_secret() {
    let refuse = |_: u32, path: &str| match path {
        "/api/token" => HttpResponse::BadRequest().body(r#"{"error":"invalid_grant"}"#),
        _ => HttpResponse::Ok().finish(),
    };
    type Answer = fn(u32, &str) -> HttpResponse;
    let answers: [(Credentials, Answer, &str); 6] = [
        (password(), refuse, "refuses the credentials"),
        (fixed(), |_, _| HttpResponse::Unauthorized().finish(), "answers 401"),
        (fixed(), |_, _| HttpResponse::BadRequest().finish(), "refuses with 400"),
        (
            fixed(),
            |_, _| HttpResponse::Conflict().insert_header(("Retry-After", "400")).finish(),
            "throttles requests",
        ),
        (fixed(), |_, _| HttpResponse::InternalServerError().finish(), "is not available"),
        (fixed(), |_, _| ok("<html>"), "is not available"),
    ];
    for (credentials, answer, text) in answers {
        let (client, _) = api(credentials, answer).await;
        let host = client.config.base_url.authority().to_owned();
        let error = client.write(&writing()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("Nexudus at {host} {text}")), "{error}");
    }
    let mut config = nexudus("http://127.0.0.1:9", password());
    config.pace.request_timeout = Duration::from_millis(200);
    let shown = format!("{config:?}");
    assert!(!shown.contains("sesame") && shown.contains("bridge@example.com"), "{shown}");
    let client = ApiClient::new(&config, Arc::new(Metrics::new(""))).unwrap();
    let error = client.write(&writing()).await.unwrap_err();
    assert!(error.to_string().starts_with("Nexudus at 127.0.0.1:9 is not available: "), "{error}");
    let https =
        ApiError::new(&"https://spaces.nexudus.com/below".parse().unwrap(), ErrorKind::Shifting("Team"));
    assert_eq!(https.host, "spaces.nexudus.com");
}

#[tokio::test]
async fn a_missing_role_is_reported_with_the_beginning_of_the_answer_s_text_on_one_line() {
    let page = format!(
        "<html><body class=\"x\"><h1>Blocked</h1>\r\n<p>fixed-token \u{1b}[31m{}</p>",
        "é".repeat(300)
    );
    let (client, _) = api(fixed(), move |_, _| HttpResponse::Forbidden().body(page.clone())).await;
    let error = read_id(&client).await.unwrap_err().to_string();
    let (_, text) = error.split_once(": Blocked *** ").unwrap_or_else(|| panic!("{error}"));
    assert!(!error.contains(['<', '\n', '\u{1b}']), "{error}");
    assert!((150..200).contains(&text.chars().count()), "{error}");
}

#[tokio::test]
async fn all_pages_are_read_again_if_records_moved_between_pages() {
    use crate::nexudus::listing::Collection;
    const THINGS: Collection = Collection { entity: "Thing", path: "/api/things" };
    let page = |ids: &[u32], total: usize, more: bool| {
        let records: Vec<String> = ids.iter().map(|id| format!(r#"{{"Id":{id}}}"#)).collect();
        ok(&format!(r#"{{"Records":[{}],"HasNextPage":{more},"TotalItems":{total}}}"#, records.join(",")))
    };
    // After the first page record 1 is deleted and record 5 is added: record 3 moves to the first page, which was read
    // already, and the total does not change.
    let (client, asked) = api(fixed(), move |number, _| match number {
        1 => page(&[1, 2], 4, true),
        2 => page(&[4, 5], 4, false),
        3 | 5 => page(&[2, 3], 4, true),
        _ => page(&[4, 5], 4, false),
    })
    .await;
    let ids: Vec<i64> =
        client.list(THINGS, &[("Thing_X", "a b".to_owned())], |_| ()).await.unwrap().into_keys().collect();
    assert_eq!(ids, [2, 3, 4, 5]);
    assert_eq!(
        seen(&asked)[1],
        "GET /api/things?page=2&size=1000&orderBy=Id&Thing_X=a+b Bearer fixed-token - "
    );
    assert_eq!(seen(&asked).len(), 6);

    let (client, asked) = api(fixed(), move |_, _| page(&[1, 2], 9, true)).await;
    let error = client.list(THINGS, &[], |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("has no end"), "{error}");
    assert!(seen(&asked).len() < 10);
    // One page is one answer. The total may count records that this user cannot see.
    let (client, _) = api(fixed(), move |_, _| page(&[1, 2], 9, false)).await;
    assert_eq!(client.list(THINGS, &[], |_| ()).await.unwrap().len(), 2);
}
