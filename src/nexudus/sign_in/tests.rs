use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use secrecy::SecretString;

use super::*;
use crate::config::Credentials;
use crate::nexudus::client::tests::{RECORD, api, ok, password, read_id, seen};

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_by_its_refresh_token_then_by_the_password() {
    let (client, asked) = api(password(), |number, path| match (number, path) {
        (1, "/api/token") => {
            ok(r#"{"access_token":"a1","token_type":"bearer","expires_in":604799,"refresh_token":"r1"}"#)
        }
        (4, _) | (7, _) => HttpResponse::Unauthorized().finish(),
        (5, "/api/token") => {
            ok(r#"{"access_token":"a2","token_type":"bearer","expires_in":604799,"refresh_token":"r2"}"#)
        }
        (8, "/api/token") => HttpResponse::BadRequest().body(r#"{"error":"invalid_grant"}"#),
        (9, "/api/token") => ok(r#"{"access_token":"a3","token_type":"bearer","expires_in":604799}"#),
        (_, "/api/token") => panic!("request {number} should not be for a token"),
        _ => ok(RECORD),
    })
    .await;
    for _ in 0..4 {
        assert_eq!(read_id(&client).await, Ok(Some(7)));
    }
    let get = |token: &str| format!("GET /api/sys/webhooks/7 Bearer {token} - ");
    let token = |form: &str| format!("POST /api/token - nexudus-bridge@here {form}");
    let by_password = "grant_type=password&username=bridge%40example.com&password=open+sesame";
    assert_eq!(
        seen(&asked),
        [
            token(by_password),
            get("a1"),
            get("a1"),
            get("a1"),
            token("grant_type=refresh_token&refresh_token=r1"),
            get("a2"),
            get("a2"),
            token("grant_type=refresh_token&refresh_token=r2"),
            token(by_password),
            get("a3"),
        ]
    );
}

#[tokio::test]
async fn a_read_without_a_token_requests_a_token_five_times_in_total() {
    let (client, asked) = api(password(), |_, _| HttpResponse::ServiceUnavailable().finish()).await;
    let error = read_id(&client).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable("it answers 503".to_owned()));
    assert_eq!(seen(&asked).len(), 5);
}

#[tokio::test]
async fn after_a_failed_refresh_the_password_is_used_whatever_the_answer() {
    for answer in [
        || HttpResponse::InternalServerError().finish(),
        || HttpResponse::NotFound().finish(),
        || HttpResponse::Forbidden().finish(),
        || ok("{}"),
    ] {
        let (client, asked) = api(password(), move |number, path| match (number, path) {
            (1, "/api/token") => ok(r#"{"access_token":"a1","expires_in":0,"refresh_token":"r1"}"#),
            (3, "/api/token") => answer(),
            (_, "/api/token") => ok(r#"{"access_token":"a2"}"#),
            _ => ok(RECORD),
        })
        .await;
        // The first token expires when it arrives, and is still used for one request.
        assert_eq!(read_id(&client).await, Ok(Some(7)));
        assert_eq!(read_id(&client).await, Ok(Some(7)));
        let grants: Vec<bool> = seen(&asked)
            .iter()
            .filter(|request| request.starts_with("POST /api/token"))
            .map(|request| request.contains("refresh_token=r1"))
            .collect();
        assert_eq!(grants, [false, true, false]);
    }
}

#[tokio::test]
async fn after_an_error_of_oauth_the_credentials_are_not_sent_again() {
    for (status, error) in [
        (400, "invalid_grant"),
        (401, "invalid_client"),
        (403, "unauthorized_client"),
        (400, "invalid_totp"),
        (200, "invalid_grant"),
    ] {
        let (mut client, asked) = api(password(), move |number, path| match (number, path) {
            (1, _) => HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap())
                .body(format!(r#"{{"error":"{error}"}}"#)),
            (_, "/api/token") => ok(r#"{"access_token":"a1"}"#),
            _ => ok(RECORD),
        })
        .await;
        for _ in 0..3 {
            let error = read_id(&client).await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Credentials(..)), "{error}");
            assert!(error.to_string().contains(&format!("with {status}: ")), "{error}");
        }
        assert_eq!(seen(&asked).len(), 1, "{status} {error}");
        client.try_again();
        assert_eq!(read_id(&client).await, Ok(Some(7)), "{status} {error}");
    }
}

#[tokio::test]
async fn every_other_answer_to_a_request_for_a_token_is_retried_with_back_off() {
    type Answer = fn() -> HttpResponse;
    let answers: [Answer; 5] = [
        || HttpResponse::Forbidden().content_type("text/html").body("<html>blocked</html>"),
        || HttpResponse::Unauthorized().finish(),
        || HttpResponse::BadRequest().body(r#"{"error":"server_error"}"#),
        || HttpResponse::NotFound().finish(),
        || ok("<html>"),
    ];
    let cases = answers.map(|answer| async move {
        let times = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&times);
        let (client, _) = api(password(), move |number, path| {
            note.lock().unwrap().push(Instant::now());
            match (number, path) {
                (..=2, _) => answer(),
                (_, "/api/token") => ok(r#"{"access_token":"a1"}"#),
                _ => ok(RECORD),
            }
        })
        .await;
        assert_eq!(read_id(&client).await, Ok(Some(7)));
        let times = times.lock().unwrap().clone();
        assert_eq!(times.len(), 4, "two attempts, a token, the record");
        for (number, least) in [(1, 500), (2, 1000)] {
            assert!(times[number] - times[number - 1] >= Duration::from_millis(least), "attempt {number}");
        }
    });
    futures_util::future::join_all(cases).await;

    // Any other failure is not a refusal of the credentials, and the error has its status.
    let (client, asked) =
        api(password(), |_, _| HttpResponse::Forbidden().body("<html>blocked</html>")).await;
    let error = read_id(&client).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoToken(403, String::new()));
    assert!(error.is_general() && !error.is_unclear());
    assert!(error.to_string().contains("answers 403 to a request for a token"), "{error}");
    assert_eq!(seen(&asked).len(), 5);
}

#[tokio::test]
async fn a_lifetime_is_read_in_every_form_and_a_byte_order_mark_is_skipped() {
    for expires_in in ["604799", "604799.0", r#""604799""#, r#""604799.0""#, "-5", "null", "{}", r#""soon""#]
    {
        let (client, asked) = api(password(), move |_, path| match path {
            "/api/token" => ok(&format!("\u{feff}{{\"access_token\":\"a1\",\"expires_in\":{expires_in}}}")),
            _ => ok(&format!("\u{feff}{RECORD}")),
        })
        .await;
        for _ in 0..3 {
            assert_eq!(read_id(&client).await, Ok(Some(7)), "{expires_in}");
        }
        assert_eq!(seen(&asked).len(), 4, "{expires_in}: one token for three requests");
    }
}

#[tokio::test]
async fn after_a_refused_one_time_password_only_the_next_one_is_tried() {
    let Credentials::Password { username, password, client_id, .. } = password() else { unreachable!() };
    let totp_secret = Some(SecretString::from("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"));
    let credentials = Credentials::Password { username, password, totp_secret, client_id };
    let code = |request: &String| request.rsplit_once("totp=").unwrap().1.to_owned();
    let (client, asked) = api(credentials.clone(), |number, path| match (number, path) {
        (1, _) => HttpResponse::BadRequest().body(r#"{"error":"invalid_grant"}"#),
        (_, "/api/token") => ok(r#"{"access_token":"a1"}"#),
        _ => ok(RECORD),
    })
    .await;
    assert_eq!(read_id(&client).await, Ok(Some(7)));
    let asked = seen(&asked);
    assert_eq!(asked.len(), 3);
    assert_ne!(code(&asked[0]), code(&asked[1]));

    let (client, asked) =
        api(credentials, |_, _| HttpResponse::BadRequest().body(r#"{"error":"invalid_grant"}"#)).await;
    for _ in 0..3 {
        assert!(matches!(read_id(&client).await.unwrap_err().kind, ErrorKind::Credentials(..)));
    }
    assert_eq!(seen(&asked).len(), 2);
}
