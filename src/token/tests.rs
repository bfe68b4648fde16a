use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::{HttpRequest, HttpResponse};

use super::*;
use crate::sender::double;

const SECRET: &str = "a:b+c%d é";

type Seen = Arc<Mutex<Vec<(Option<String>, HashMap<String, String>)>>>;

fn oauth(base: &str) -> OAuth {
    OAuth {
        token_endpoint: format!("{base}/token").parse().unwrap(),
        client_id: "the client".to_owned(),
        client_secret: SECRET.into(),
        scope: Some("one two".to_owned()),
    }
}

/// Starts a token server with fixed answers. Also returns the header `Authorization` and the form of each request.
async fn server(
    answer: impl Fn(u32, &HttpRequest) -> HttpResponse + Send + Sync + 'static,
) -> (TokenServer, Seen) {
    let seen = Seen::default();
    let note = Arc::clone(&seen);
    let base = double::start(move |number, request, body| {
        let header = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        note.lock().unwrap().push((header, form_urlencoded::parse(body).into_owned().collect()));
        answer(number, request)
    })
    .await;
    (TokenServer::new(&oauth(&base)).unwrap(), seen)
}

fn given(json: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(json)
}

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

fn in_seconds(seconds: u64) -> u64 {
    let moment = SystemTime::now() + Duration::from_secs(seconds);
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn the_request_is_the_standard_s_and_the_token_has_what_the_answer_says() {
    let token = jwt(r#"{"sub":"bridge","exp":1}"#);
    let expected = token.clone();
    let (server, seen) = server(move |_, request| {
        assert_eq!((request.method().as_str(), request.path()), ("POST", "/token"));
        given(format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":60}}"#))
    })
    .await;
    let token = server.fetch().await.unwrap();
    assert_eq!((token.expose(), token.principal.as_str()), (expected.as_str(), "bridge"));
    assert_eq!(token.lifetime, Duration::from_secs(60));
    let left = token.expires.duration_since(SystemTime::now()).unwrap();
    assert!((50..=60).contains(&left.as_secs()), "{left:?}");
    let seen = seen.lock().unwrap().clone();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("the+client:a%3Ab%2Bc%25d+%C3%A9"));
    let form = [("grant_type", "client_credentials"), ("scope", "one two")];
    let form = HashMap::from(form.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(seen, [(Some(basic), form)]);
}

#[tokio::test]
async fn lifetime_and_principal_are_taken_from_where_they_are_found() {
    let exp = format!(r#"{{"exp":{}}}"#, in_seconds(100));
    for (answer, seconds, principal) in [
        (r#""access_token":"opaque","expires_in":"30""#.to_owned(), 30..=30, "the client"),
        (r#""access_token":"opaque""#.to_owned(), 300..=300, "the client"),
        (format!(r#""access_token":"{}""#, jwt(&exp)), 90..=100, "the client"),
        (r#""access_token":"opaque","expires_in":-5"#.to_owned(), 300..=300, "the client"),
        (r#""access_token":"opaque","expires_in":"30.0""#.to_owned(), 30..=30, "the client"),
        (format!(r#""access_token":"{}","expires_in":20.5"#, jwt(r#"{"sub":"s"}"#)), 20..=20, "s"),
        (format!(r#""access_token":"{}","expires_in":20"#, jwt(r#"{"sub":7}"#)), 20..=20, "the client"),
    ] {
        let body = format!("\u{feff}{{{answer}}}");
        let (server, _) = server(move |_, _| given(body.clone())).await;
        let token = server.fetch().await.unwrap();
        assert_eq!(token.principal, principal, "{answer}");
        let lifetime = token.lifetime.as_secs();
        assert!(seconds.contains(&lifetime), "{answer}: {lifetime}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_header_gets_the_credentials_in_the_body_from_then_on() {
    let (server, seen) = server(|_, request| {
        if request.headers().contains_key("authorization") {
            HttpResponse::BadRequest().body(r#"{"error":"invalid_client"}"#)
        } else {
            given(r#"{"access_token":"t","token_type":"Bearer","expires_in":9}"#.to_owned())
        }
    })
    .await;
    for _ in 0..2 {
        assert_eq!(server.fetch().await.unwrap().expose(), "t");
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|(header, _)| header.is_some()).collect::<Vec<_>>(), [true, false, false]);
    for (_, form) in &seen[1..] {
        assert_eq!((form["client_id"].as_str(), form["client_secret"].as_str()), ("the client", SECRET));
    }
}

#[tokio::test]
async fn a_failure_has_its_kind_and_no_text_of_the_server() {
    type Answer = fn() -> HttpResponse;
    let answers: [(Answer, &str); 10] = [
        (|| HttpResponse::Unauthorized().body(SECRET), "the token server refuses with 401 invalid_client"),
        (
            || HttpResponse::BadRequest().body(r#"{"error":"invalid_scope","error_description":"a:b"}"#),
            "the token server refuses with 400 invalid_scope",
        ),
        (|| HttpResponse::BadRequest().body(r#"{"error":"a:b+c%d"}"#), "the token server refuses with 400"),
        (|| HttpResponse::ServiceUnavailable().finish(), "the token server refuses with 503"),
        (
            || HttpResponse::Found().insert_header(("location", "/elsewhere")).finish(),
            "the token server refuses with 302",
        ),
        (|| HttpResponse::Ok().body("<html>"), "unusable: it holds no access_token"),
        (
            || given(r#"{"access_token":"t","token_type":"mac"}"#.to_owned()),
            "unusable: its token_type is not Bearer",
        ),
        (|| given(r#"{"access_token":"t\u0001auth=x"}"#.to_owned()), "unusable: its access_token has"),
        (
            || given(r#"{"access_token":"t","expires_in":0}"#.to_owned()),
            "unusable: its token has expired already",
        ),
        (|| HttpResponse::Ok().body(vec![b' '; MAX_ANSWER_BYTES + 1]), "unusable: it is too long"),
    ];
    for (answer, expected) in answers {
        let (server, _) = server(move |_, _| answer()).await;
        let error = server.fetch().await.expect_err(expected);
        let shown = format!("{error} {}", error.detail());
        assert!(shown.contains(expected), "{shown}");
        assert!(!shown.contains("a:b") && !shown.contains("127.0.0.1"), "{shown}");
    }
    let nowhere = TokenServer::new(&oauth("http://127.0.0.1:1")).unwrap();
    let error = nowhere.fetch().await.expect_err("nobody is there");
    assert_eq!(error.to_string(), "the token server cannot be reached");
    assert!(!error.detail().is_empty() && !format!("{nowhere:?}").contains("a:b"), "{nowhere:?}");
}

#[tokio::test]
async fn a_token_is_not_in_debug() {
    let (server, _) = server(|_, _| given(r#"{"access_token":"hush-hush","expires_in":9}"#.to_owned())).await;
    let token = server.fetch().await.unwrap();
    assert!(!format!("{token:?}").contains("hush"), "{token:?}");
}
