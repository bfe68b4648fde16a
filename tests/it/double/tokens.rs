//! Authentication: tokens, refresh tokens, one-time passwords, Basic, roles.

use jiff::SignedDuration;
use nexudus_double::{Account, Nexudus, demo};
use reqwest::Method;
use serde_json::Value;

use super::{Answer, ApiUser, WEBHOOKS, basic, nexudus, sent};

const TOTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn by_password() -> String {
    format!("grant_type=password&username={}&password={}", demo::EMAIL.replace('@', "%40"), demo::PASSWORD)
}

fn by_refresh(token: &Value) -> String {
    format!(
        "grant_type=refresh_token&refresh_token={}",
        token["refresh_token"].as_str().expect("one was given")
    )
}

async fn token(nexudus: &Nexudus, form: &str, client_id: Option<&str>) -> Answer {
    let mut request = ApiUser::with(nexudus, "")
        .request(Method::POST, "/api/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    if let Some(client_id) = client_id {
        request = request.header("client_id", client_id);
    }
    sent(request).await.expect("an answer")
}

async fn works(nexudus: &Nexudus, token: &Value) -> bool {
    let bearer = format!("Bearer {}", token["access_token"].as_str().expect("one was given"));
    match ApiUser::with(nexudus, &bearer).get(WEBHOOKS).await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_password_gives_an_opaque_token_that_works_until_it_expires() {
    let nexudus = nexudus();
    let answer = token(&nexudus, &by_password(), None).await;
    let given = answer.json();
    assert_eq!((answer.status, &given["token_type"]), (200, &"bearer".into()));
    assert_eq!(given["expires_in"], 604_799);
    assert!(works(&nexudus, &given).await);
    nexudus.shift_clock(SignedDuration::from_secs(604_798 - 60));
    assert!(works(&nexudus, &given).await);
    nexudus.shift_clock(SignedDuration::from_secs(61));
    assert!(!works(&nexudus, &given).await, "it has ended");

    let voided = token(&nexudus, &by_password(), None).await.json();
    assert!(works(&nexudus, &voided).await);
    nexudus.end_access_tokens();
    assert!(!works(&nexudus, &voided).await);
}

#[tokio::test]
async fn each_new_token_invalidates_the_older_refresh_tokens_of_its_client_id_only() {
    let nexudus = nexudus();
    let first = token(&nexudus, &by_password(), Some("a")).await.json();
    let other = token(&nexudus, &by_password(), Some("b")).await.json();
    let second = token(&nexudus, &by_refresh(&first), Some("a")).await;
    assert_eq!(second.status, 200);
    assert_eq!(token(&nexudus, &by_refresh(&first), Some("a")).await.status, 400, "voided by its refresh");
    assert!(works(&nexudus, &first).await, "the access token stays valid");
    token(&nexudus, &by_password(), Some("a")).await.json();
    let voided = token(&nexudus, &by_refresh(&second.json()), Some("a")).await;
    assert_eq!((voided.status, &voided.json()["error"]), (400, &"invalid_grant".into()));
    for wrong in [None, Some("a")] {
        assert_eq!(
            token(&nexudus, &by_refresh(&other), wrong).await.status,
            400,
            "{wrong:?} is another client"
        );
    }
    assert_eq!(token(&nexudus, &by_refresh(&other), Some("b")).await.status, 200);
}

#[tokio::test]
async fn the_default_client_id_is_the_email_address_and_refresh_tokens_last_fifteen_days() {
    let nexudus = nexudus();
    let first = token(&nexudus, &by_password(), None).await.json();
    let second = token(&nexudus, &by_refresh(&first), Some(demo::EMAIL)).await;
    assert_eq!(second.status, 200);
    nexudus.shift_clock(SignedDuration::from_hours(15 * 24 + 1));
    assert_eq!(token(&nexudus, &by_refresh(&second.json()), Some(demo::EMAIL)).await.status, 400);
}

#[tokio::test]
async fn wrong_credentials_are_an_invalid_grant_and_json_is_an_unsupported_grant_type() {
    let nexudus = nexudus();
    let wrong = by_password().replace(demo::PASSWORD, "wrong");
    let answer = token(&nexudus, &wrong, None).await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"invalid_grant".into()));
    nexudus.adjust(|behaviour| behaviour.invalid_grant_status = 401);
    assert_eq!(token(&nexudus, &wrong, None).await.status, 401);
    let json = ApiUser::with(&nexudus, "").request(Method::POST, "/api/token");
    let json = json.header("content-type", "application/json").body(r#"{"grant_type":"password"}"#);
    let answer = sent(json).await.unwrap();
    assert_eq!((answer.status, &answer.json()["error"]), (400, &"unsupported_grant_type".into()));
    let journal = nexudus.journal();
    assert_eq!(journal.token_requests().len(), 3);
}

#[tokio::test]
async fn a_user_with_two_factor_authentication_needs_a_current_one_time_password() {
    let nexudus = nexudus();
    nexudus.set_account(demo::administrator().with_totp(TOTP_SECRET));
    let code = || {
        let secret = totp_rs::Secret::try_from_base32(TOTP_SECRET).unwrap();
        let now = jiff::Timestamp::now().as_second().try_into().unwrap();
        totp_rs::Builder::new().with_secret(secret).build_noncompliant().generate(now).to_string()
    };
    assert_eq!(token(&nexudus, &by_password(), None).await.status, 400);
    assert_eq!(token(&nexudus, &format!("{}&totp=000", by_password()), None).await.status, 400);
    let right = format!("{}&totp={}", by_password(), code());
    assert_eq!(token(&nexudus, &right, None).await.status, 200);
}

#[tokio::test]
async fn only_basic_authentication_and_valid_tokens_are_accepted() {
    let nexudus = nexudus();
    nexudus.set_account(Account::administrator("t@example.com", "x").with_token("fixed"));
    for (authorization, status) in [
        (basic(demo::EMAIL, demo::PASSWORD), 200),
        ("Bearer fixed".to_owned(), 200),
        ("bearer fixed".to_owned(), 200),
        (basic(demo::EMAIL, "wrong"), 401),
        ("Bearer other".to_owned(), 401),
        ("Basic ???".to_owned(), 401),
        ("fixed".to_owned(), 401),
        (String::new(), 401),
    ] {
        assert_eq!(
            ApiUser::with(&nexudus, &authorization).get(WEBHOOKS).await.status,
            status,
            "{authorization}"
        );
    }
}

#[tokio::test]
async fn a_missing_role_is_401() {
    let nexudus = nexudus();
    let id = nexudus.add_webhook(demo::LOCATIONS[0], "6", "http://127.0.0.1:9/", true).unwrap();
    let one = format!("{WEBHOOKS}/{id}");
    for (method, path, role) in [
        ("GET", WEBHOOKS, "WebHook-List"),
        ("GET", &one, "WebHook-Read"),
        ("POST", WEBHOOKS, "WebHook-Create"),
        ("PUT", WEBHOOKS, "WebHook-Edit"),
        ("DELETE", &one, "WebHook-Delete"),
        ("GET", "/api/sys/businesses", "Business-List"),
        ("GET", "/api/spaces/bookings", "Booking-List"),
        ("GET", "/api/spaces/bookings/1", "Booking-Read"),
    ] {
        let ask = async |roles: &[&str]| {
            nexudus.set_account(Account::administrator("r@example.com", "x").with_roles(roles));
            let asker = ApiUser::with(&nexudus, &basic("r@example.com", "x"));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            sent(asker.request(method, path).body("{}")).await.unwrap().status
        };
        let others: Vec<&str> = [
            "WebHook-List",
            "WebHook-Read",
            "WebHook-Create",
            "WebHook-Edit",
            "WebHook-Delete",
            "Business-List",
        ]
        .into_iter()
        .filter(|other| *other != role)
        .collect();
        assert_eq!(ask(&others).await, 401, "{method} {path} without {role}");
        assert_ne!(ask(&[role]).await, 401, "{method} {path} with {role}");
    }
}

#[tokio::test]
async fn lifetimes_can_have_other_forms_and_json_can_begin_with_a_byte_order_mark() {
    let nexudus = nexudus();
    for expires_in in ["\"604799\"", "604799.0", "-5"] {
        nexudus.adjust(|behaviour| behaviour.expires_in = Some(expires_in.to_owned()));
        let answer = token(&nexudus, &by_password(), None).await;
        assert!(answer.body.contains(&format!("\"expires_in\":{expires_in},")), "{}", answer.body);
        assert!(works(&nexudus, &answer.json()).await, "{expires_in}");
    }
    nexudus.adjust(|behaviour| behaviour.byte_order_mark = true);
    assert!(token(&nexudus, &by_password(), None).await.body.starts_with("\u{feff}{\"access_token\""));
    assert!(ApiUser::of(&nexudus).get(WEBHOOKS).await.body.starts_with("\u{feff}{\"Records\""));
}
