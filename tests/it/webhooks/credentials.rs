//! Credentials: every way to authenticate works, and refused credentials are not sent again.

use nexudus_bridge::kafka::embedded::EmbeddedBroker;
use nexudus_double::{Account, Fault, Matching, demo};

use crate::guardian::guarded;
use crate::support::kafka::Authority;
use crate::support::nexudus::{SOURCES, Tenant};
use crate::support::program::{Running, err, out, program};
use crate::support::tls_front::TlsFront;

#[test]
fn a_password_a_one_time_password_a_token_and_basic_are_accepted() {
    const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let tenant = Tenant::with(SOURCES);
    let user = format!("username = {:?}\npassword = {:?}", demo::EMAIL, demo::PASSWORD);
    let file = tenant.folder().join("totp");
    std::fs::write(&file, format!("{}\n", TOTP.to_lowercase())).expect("written");
    let administrator = || Account::administrator(demo::EMAIL, demo::PASSWORD);
    for (account, who) in [
        (administrator(), user.clone()),
        (administrator(), format!("{user}\nauth = \"basic\"")),
        (administrator().with_totp(TOTP), format!("{user}\ntotp_secret_file = {file:?}")),
        (administrator().with_token("a-fixed-token"), "token = \"a-fixed-token\"".to_owned()),
    ] {
        tenant.nexudus.set_account(account);
        tenant.configure(&format!("{}{SOURCES}", tenant.section_as(&who, "")));
        tenant.prints(&["webhooks", "plan"], 0);
    }
}

#[test]
fn refused_credentials_are_sent_once_and_no_output_holds_them() {
    let tenant = Tenant::with(SOURCES);
    for status in [400, 401] {
        tenant.nexudus.adjust(|behaviour| behaviour.invalid_grant_status = status);
        let who = format!("username = {:?}\npassword = \"wrong-password\"", demo::EMAIL);
        tenant.configure(&format!("{}{SOURCES}", tenant.section_as(&who, "")));
        tenant.asked();
        let output = tenant.run(&["webhooks", "apply"]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let words = format!("{} refuses the credentials of [nexudus] with {status}: ", tenant.named());
        assert!(err(&output).contains(&words), "{}", err(&output));
        assert!(!(err(&output) + &out(&output)).contains("wrong-password"));
        assert_eq!(tenant.asked().len(), 1);
    }
}

/// The page of a firewall does not refuse the credentials.
#[test]
fn the_page_of_a_firewall_before_the_token_endpoint_is_retried_and_reported_with_its_status() {
    let tenant = Tenant::with(SOURCES);
    tenant.nexudus.fault(Matching::post("/api/token").times(2), Fault::Html(403));
    tenant.prints(&["webhooks", "plan"], 0);
    assert_eq!(tenant.asked().token_requests().len(), 3);

    tenant.nexudus.fault(Matching::post("/api/token").always(), Fault::Html(403));
    let output = tenant.run(&["webhooks", "apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let words = format!("{} answers 403 to a request for a token", tenant.named());
    assert!(err(&output).contains(&words), "{}", err(&output));
}

#[test]
fn one_token_is_enough_for_a_command_in_every_form_of_its_lifetime() {
    let tenant = Tenant::with(SOURCES);
    tenant.nexudus.adjust(|behaviour| behaviour.byte_order_mark = true);
    for expires_in in ["604799", "\"604799\"", "604799.0", "\"604799.0\"", "-5", "null"] {
        tenant.nexudus.adjust(|behaviour| behaviour.expires_in = Some(expires_in.to_owned()));
        tenant.asked();
        tenant.prints(&["webhooks", "apply"], 0);
        let journal = tenant.asked();
        assert_eq!(journal.token_requests().len(), 1, "{expires_in}");
    }
    assert_eq!(tenant.nexudus.webhooks().len(), 5);
    let id = tenant.webhook("/TeamUpdated");
    for count in ["10.0", "\"10\"", "10"] {
        tenant.nexudus.change_webhook(id, &[("ErrorCount", count)]).expect("exists");
        let status = tenant.json(&["webhooks", "status"], 0);
        let rows = status["webhooks"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["webhook_id"] == id).expect("a row");
        assert_eq!(row["error_count"], 10, "{count}");
    }
}

/// A person corrects the password in Nexudus, and the configuration does not change.
#[test]
fn sighup_sends_refused_credentials_again() {
    let tenant = Tenant::with(SOURCES);
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, "another"));
    let broker = EmbeddedBroker::start(None, vec![("nexudus.quarantine".to_owned(), 1)])
        .expect("an embedded broker starts");
    tenant.configure(&format!(
        "{}[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[topics]\ncreate = false\n\
         [kafka]\nbootstrap_servers = {:?}\n{SOURCES}",
        tenant.section("guardian = { interval = \"200ms\" }"),
        broker.bootstrap_servers()
    ));
    let running = Running::serve(&tenant.file());
    let refused = format!("{} refuses the credentials of [nexudus] with 400: invalid_grant", tenant.named());
    running.line_with(&refused);
    running.signal("HUP");
    running.line_with(&refused);
    tenant.nexudus.set_account(Account::administrator(demo::EMAIL, demo::PASSWORD));
    running.signal("HUP");
    running.line_with("the webhooks in Nexudus can be read again");
    assert_eq!(tenant.asked().token_requests().len(), 3, "once at start and once for each SIGHUP");
}

/// Nexudus keeps one refresh token for each client id. A command with the bridge's client id would invalidate the bridge's token.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_another_client_id_than_the_running_bridge() {
    let tenant = Tenant::with(SOURCES);
    let client_id = || {
        let journal = tenant.asked();
        let [request] = journal.token_requests()[..] else { panic!("{:?}", journal.token_requests()) };
        request.header("client_id").expect("a client id").to_owned()
    };
    let user = format!("username = {:?}\npassword = {:?}", demo::EMAIL, demo::PASSWORD);
    for (more, is_own) in [
        ("client_id = \"mine\"", (|id| id == "mine/command") as fn(&str) -> bool),
        ("", |id| id.starts_with("nexudus-bridge@") && id.ends_with("/command")),
    ] {
        tenant.configure(&format!("{}{SOURCES}", tenant.section_as(&format!("{user}\n{more}"), "")));
        for command in ["plan", "apply", "status", "enable"] {
            tenant.asked();
            tenant.prints(&["webhooks", command], 0);
            let id = client_id();
            assert!(is_own(&id), "{command}: {id}");
        }
    }
    let bridge = guarded(&tenant, &[("nexudus.client_id", "mine")]).await;
    bridge.wait_for_metric("nexudus_bridge_webhooks_missing{source=\"default\"}", 0.0).await;
    assert_eq!(client_id(), "mine");
}

#[test]
fn a_missing_role_is_named_after_one_new_token() {
    let tenant = Tenant::with(SOURCES);
    let account =
        Account::administrator(demo::EMAIL, demo::PASSWORD).with_roles(&["WebHook-List", "Business-List"]);
    tenant.nexudus.set_account(account);
    let output = tenant.run(&["webhooks", "apply"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("needs API access and the role WebHook-Create"), "{}", err(&output));
    let journal = tenant.asked();
    assert_eq!(
        (journal.token_requests().len(), journal.writes().len()),
        (2, 2),
        "one more token, and no further record"
    );
    assert!(err(&output).contains("not tried"), "{}", err(&output));
}

#[test]
fn a_token_that_expires_during_a_command_is_renewed() {
    let tenant = Tenant::with(SOURCES);
    let world = tenant.nexudus.world();
    let posts = Matching::post("/api/sys/webhooks").after(2);
    tenant.nexudus.before_response(posts, move |_| world.end_access_tokens());
    tenant.prints(&["webhooks", "apply"], 0);
    let grants: Vec<bool> = tenant
        .asked()
        .token_requests()
        .iter()
        .map(|entry| entry.body.contains("grant_type=refresh_token"))
        .collect();
    assert_eq!(grants, [false, true]);
    assert_eq!(tenant.nexudus.webhooks().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_credentials_are_sent_only_to_a_trusted_server() {
    let tenant = Tenant::with(SOURCES);
    let authority = Authority::new("of the API");
    let front = TlsFront::before(tenant.nexudus.address(), authority.server().server_config()).await;
    let plain = tenant.nexudus.base_url();
    let section = tenant.section("").replace(&plain, &format!("https://localhost:{}", front.port));
    tenant.configure(&format!("{section}{SOURCES}"));
    let trusted = tenant.folder().join("authorities.pem");
    std::fs::write(&trusted, &authority.pem).expect("written");
    let plan = || {
        let mut plan = program();
        plan.args(["webhooks", "plan", "--config"]).arg(tenant.file()).env_remove("SSL_CERT_DIR");
        plan
    };

    let refused = plan().env_remove("SSL_CERT_FILE").output().expect("the program can be run");
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    assert!(err(&refused).contains("invalid peer certificate"), "{}", err(&refused));
    assert!(tenant.asked().is_empty(), "no request was sent to an untrusted server");

    let planned = plan().env("SSL_CERT_FILE", trusted).output().expect("the program can be run");
    assert_eq!(planned.status.code(), Some(0), "{}", err(&planned));
    assert_eq!(tenant.asked().token_requests().len(), 1);
}
