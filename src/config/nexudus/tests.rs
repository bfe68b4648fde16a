use super::*;
use crate::config::Config;
use crate::config::load::{Environment, Mistakes, load};
use crate::kafka::settings::check_property;
use secrecy::ExposeSecret;

const SOURCE: &str = "[sources.default]\nsecrets = [\"s\"]\nbusiness_id = 7\n";

fn configured(nexudus: &str) -> Result<Config, Mistakes> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SOURCE}[nexudus]\n{nexudus}")).unwrap();
    load(Some(file.path()), &Environment::new(), check_property)
}

fn section(nexudus: &str) -> NexudusSettings {
    configured(nexudus).unwrap().nexudus.unwrap()
}

fn mistake(nexudus: &str) -> String {
    let Mistakes(mistakes) = configured(nexudus).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].clone()
}

const MINIMAL: &str = "public_url = \"https://hooks.example.com\"\ntoken = \"abc\"\n";
const USER: &str =
    "public_url = \"https://hooks.example.com\"\nusername = \"u@example.com\"\npassword = \"p w\"\n";

#[test]
fn the_section_is_optional_and_its_defaults_are_those_of_the_documentation() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SOURCE).unwrap();
    let config = load(Some(file.path()), &Environment::new(), check_property).unwrap();
    assert!(config.nexudus.is_none());
    let nexudus = section(MINIMAL);
    assert_eq!(nexudus.base_url.as_str(), "https://spaces.nexudus.com/");
    assert_eq!((nexudus.pace.requests_per_minute, nexudus.pace.writes_per_minute), (120, 60));
    assert_eq!(nexudus.pace.requests_per_hour, 5000);
    assert_eq!(
        (nexudus.pace.request_spacing, nexudus.pace.request_timeout),
        (Duration::from_millis(100), Duration::from_millis(15_000))
    );
    assert_eq!(
        nexudus.guardian,
        GuardianSettings { interval: Duration::from_millis(60_000), reenable: true }
    );
    assert!(matches!(nexudus.credentials, Credentials::Token(token) if token.expose_secret() == "abc"));
}

#[test]
fn addresses_are_accepted_with_and_without_api_and_a_slash_at_the_end() {
    let url = |line: &str| section(&format!("{MINIMAL}{line}")).base_url.to_string();
    assert_eq!(url("base_url = \"https://spaces.nexudus.com/api/\""), "https://spaces.nexudus.com/");
    assert_eq!(url("base_url = \"http://127.0.0.1:8000/proxy/api\""), "http://127.0.0.1:8000/proxy");
    let nexudus = section("public_url = \"https://example.com/bridge/\"\ntoken = \"abc\"");
    assert_eq!(nexudus.public_url.as_str(), "https://example.com/bridge");
    for wrong in ["ftp://x", "spaces.nexudus.com", "https://u:p@x", "https://x/?a=b", "https://x/#f"] {
        assert!(mistake(&format!("{MINIMAL}base_url = {wrong:?}")).contains("nexudus.base_url"), "{wrong}");
    }
    let warnings =
        configured(&format!("{MINIMAL}base_url = \"http://nexudus.example.com\"")).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("unencrypted")), "{warnings:?}");
}

#[test]
fn a_section_without_any_location_is_a_warning() {
    let warned = |business_id: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("[sources.default]\nsecrets = [\"s\"]\n{business_id}[nexudus]\n{MINIMAL}");
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()), &Environment::new(), check_property).unwrap().warnings
    };
    assert_eq!(warned("business_id = 7\n"), [""; 0]);
    assert_eq!(warned(""), ["nexudus: no source has a business_id, so there is no webhook to manage"]);
}

#[test]
fn sections_are_equal_only_if_nexudus_cannot_distinguish_them() {
    let same = |a: &str, b: &str| section(a) == section(b);
    let with = |more: &str| format!("{USER}{more}\n");
    let base = with("totp_secret = \"GEZDGNBVGY3TQOJQ\"\nclient_id = \"a\"");
    assert!(same(&base, &base) && same(MINIMAL, MINIMAL));
    for other in [
        with("client_id = \"a\""),
        with("totp_secret = \"GEZDGNBVGY3TQOJQ\"\nclient_id = \"b\""),
        with("totp_secret = \"GEZDGNBVGY3TQOJX\"\nclient_id = \"a\""),
        base.replace("p w", "p v"),
        base.replace("u@", "v@"),
        base.replace("hooks.", "hook."),
        format!("{base}requests_per_minute = 7\n"),
        with("auth = \"basic\""),
        MINIMAL.to_owned(),
    ] {
        assert!(!same(&base, &other), "{other}");
    }
}

#[test]
fn credentials_are_read_in_all_their_forms() {
    let credentials = |more: &str| section(&format!("{USER}{more}")).credentials;
    let Credentials::Password { username, password, totp_secret, client_id } = credentials("") else {
        panic!()
    };
    assert_eq!(
        (username.as_str(), password.expose_secret(), totp_secret.is_none()),
        ("u@example.com", "p w", true)
    );
    assert!(client_id.starts_with("nexudus-bridge@") && client_id.len() > 15, "{client_id}");
    let more = "totp_secret = \"gezd gnbv gy3t qojq gezd gnbv gy3t qojq\"\nclient_id = \"mine\"";
    let Credentials::Password { totp_secret, client_id, .. } = credentials(more) else { panic!() };
    assert_eq!(totp_secret.unwrap().expose_secret(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    assert_eq!(client_id, "mine");
    assert!(matches!(credentials("auth = \"basic\""), Credentials::Basic { .. }));
    assert!(matches!(section(MINIMAL).credentials, Credentials::Token(_)));
}

#[test]
fn every_secret_may_be_in_a_file_that_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (password, totp, token) =
        (file("password", "p w\n"), file("totp", "GEZDGNBVGY3TQOJQ\n"), file("token", "abc\r\n"));
    let config = configured(&format!(
        "public_url = \"https://h\"\nusername = \"u\"\npassword_file = {password:?}\ntotp_secret_file = {totp:?}"
    ));
    assert_eq!(config.unwrap().files, [password, totp]);
    let nexudus = section(&format!("public_url = \"https://h\"\ntoken_file = {token:?}"));
    assert!(matches!(nexudus.credentials, Credentials::Token(token) if token.expose_secret() == "abc"));
}

#[test]
fn each_missing_wrong_or_conflicting_setting_is_one_mistake() {
    for (section, expected) in [
        ("", "expected username and password_file or password, or token_file or token"),
        ("public_url = \"https://h\"\nusername = \"u\"", "expected username and password_file"),
        ("token = \"abc\"", "expected public_url"),
        (&format!("{USER}token = \"abc\""), "has a token and other credentials"),
        (&format!("{USER}password_file = \"/no/such\""), "cannot be read"),
        (&format!("{USER}auth = \"digest\""), "is not one of"),
        (&format!("{USER}auth = \"basic\"\nclient_id = \"x\""), "uses neither totp_secret nor client_id"),
        (&format!("{USER}totp_secret = \"hunter2\""), "is not the secret of one-time passwords"),
        (&format!("{USER}client_id = \"a b\""), "no header can hold"),
        (&format!("{MINIMAL}requests_per_minute = 0"), "expected 1 to 100000"),
        (&format!("{MINIMAL}requests_per_hour = 1_000_001"), "expected 1 to 1000000"),
        (&format!("{MINIMAL}guardian = {{ interval = \"10ms\" }}"), "0s for never"),
        (&format!("{MINIMAL}guardian = {{ interva = \"60s\" }}"), "did you mean interval?"),
        (&format!("{MINIMAL}bas_url = \"x\""), "did you mean base_url?"),
    ] {
        let mistake = mistake(section);
        assert!(mistake.contains(expected), "{section}: {mistake}");
        assert!(!mistake.contains("hunter2") && !mistake.contains("p w"), "{mistake}");
    }
}

#[test]
fn secrets_are_in_neither_the_settings_nor_debug() {
    let config = configured(&format!("{USER}totp_secret = \"GEZDGNBVGY3TQOJQ\"")).unwrap();
    let shown = format!("{:?} {:?}", config.settings, config.nexudus);
    assert!(!shown.contains("p w") && !shown.contains("GEZD"), "{shown}");
    assert!(shown.contains("nexudus.password") && shown.contains("nexudus.guardian.interval"), "{shown}");
}

#[test]
fn a_command_has_a_client_id_of_its_own() {
    let mut nexudus = section(&format!("{USER}client_id = \"mine\""));
    nexudus.as_command();
    assert!(
        matches!(nexudus.credentials, Credentials::Password { client_id, .. } if client_id == "mine/command")
    );
}
