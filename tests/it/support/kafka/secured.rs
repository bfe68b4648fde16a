//! The shared broker behind TLS and access rights, with all the ways to sign in that the bridge is tested with.
//!
//! One listener takes passwords (PLAIN, SCRAM-SHA-256 and -512) and tokens (OAUTHBEARER, by Kafka's own
//! validator of unsigned tokens, sessions renewed every few seconds), another client certificates.
//!
//! Users: `admin` may do everything, `bridge` and `nobody` nothing until they are granted it. Rights are the
//! one state that tests share here, so grant them on topics of your own, and leave `nobody` as it is. Grants
//! go through Kafka's own command-line tool, a Java process of about a second each; several in one call run
//! side by side.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use super::certificates::Authority;
use super::client::Client;
use super::server::{Place, Server, Setup};
use super::unique;

const MECHANISM: &str = "SCRAM-SHA-512";
const LOGIN_MODULES: &str = "org.apache.kafka.common.security";
const ADMIN: &str = "admin";
const USERS: [&str; 3] = [ADMIN, "bridge", "nobody"];

const AUTHORITY_FILE: &str = "ca.pem";
const STRANGER_FILE: &str = "stranger.pem";
const ADMIN_FILE: &str = "admin.properties";

/// How long a session may last that was begun with a token: shorter than any test that is about it.
const SESSION_MS: u32 = 3_000;

/// The shared broker with TLS, passwords and access rights.
pub(crate) struct SecuredBroker {
    server: Server,
    passwords: BTreeMap<&'static str, String>,
}

/// What a right is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Topic,
    Group,
    TransactionalId,
    /// The cluster as such; its name is not looked at.
    Cluster,
}

/// How the name of a right is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// This name.
    Literal,
    /// All names that begin with it.
    Prefixed,
}

/// One right: `user` may do `operation` (`Write`, `Describe`, `Create`, `Read`, …) on what `resource` and
/// `name` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Acl<'a> {
    pub(crate) user: &'a str,
    pub(crate) resource: Resource,
    pub(crate) name: &'a str,
    pub(crate) pattern: Pattern,
    pub(crate) operation: &'a str,
}

/// The shared broker, started by the first test that asks.
///
/// # Panics
/// When it does not start, with the reason; for each test again, without trying again.
#[track_caller]
pub(crate) fn secured() -> &'static SecuredBroker {
    static BROKER: OnceLock<Result<SecuredBroker, String>> = OnceLock::new();
    match BROKER.get_or_init(SecuredBroker::start) {
        Ok(broker) => broker,
        Err(reason) => panic!("{reason}"),
    }
}

impl SecuredBroker {
    fn start() -> Result<Self, String> {
        let passwords: BTreeMap<_, _> = USERS.into_iter().map(|user| (user, unique(user))).collect();
        let server = Server::start(|place| setup(place, &passwords))?;
        Ok(Self { server, passwords })
    }

    /// Where clients connect.
    pub(crate) fn bootstrap(&self) -> String {
        self.server.bootstrap()
    }

    /// The certificate of the authority that signed the broker's: `ssl.ca.location`.
    pub(crate) fn ca_pem_path(&self) -> PathBuf {
        self.server.place.directory.join(AUTHORITY_FILE)
    }

    /// The certificate of an authority that did not.
    pub(crate) fn stranger_ca_pem_path(&self) -> PathBuf {
        self.server.place.directory.join(STRANGER_FILE)
    }

    /// Where clients with a certificate connect.
    pub(crate) fn mutual_bootstrap(&self) -> String {
        self.server.place.behind_proxy().to_string()
    }

    /// The certificate and the key of the client `bridge`: `ssl.certificate.location`, `ssl.key.location`.
    pub(crate) fn client_pem_paths(&self) -> [PathBuf; 2] {
        ["client.pem", "client.key"].map(|name| self.server.place.directory.join(name))
    }

    /// The same of a client of that name whom another authority knows.
    pub(crate) fn stranger_pem_paths(&self) -> [PathBuf; 2] {
        ["stranger-client.pem", "stranger-client.key"].map(|name| self.server.place.directory.join(name))
    }

    /// The password of `admin`, `bridge` or `nobody`.
    pub(crate) fn password(&self, user: &str) -> &str {
        self.passwords.get(user).unwrap_or_else(|| panic!("there is no user {user}, only {USERS:?}"))
    }

    /// A client that signs in as this user.
    pub(crate) fn client(&self, user: &str) -> Client {
        client(&self.bootstrap(), &self.ca_pem_path(), user, self.password(user))
    }

    /// Makes a topic that no other test knows, and returns its name. Nobody has a right on it yet.
    pub(crate) fn topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique(prefix);
        self.client(ADMIN).create_topic(&name, partitions, &[]);
        name
    }

    /// Gives one right: `grant("bridge", Resource::Topic, "orders", Pattern::Literal, "Write")`.
    pub(crate) fn grant(
        &self,
        user: &str,
        resource: Resource,
        name: &str,
        pattern: Pattern,
        operation: &str,
    ) {
        self.grant_all(&[Acl { user, resource, name, pattern, operation }]);
    }

    /// Takes it back.
    pub(crate) fn revoke(
        &self,
        user: &str,
        resource: Resource,
        name: &str,
        pattern: Pattern,
        operation: &str,
    ) {
        self.revoke_all(&[Acl { user, resource, name, pattern, operation }]);
    }

    /// Gives several rights at a time.
    pub(crate) fn grant_all(&self, acls: &[Acl<'_>]) {
        self.change(&["--add"], acls);
    }

    /// Topics of a test's own, for one action and the quarantine, on which the user `bridge` may do this; gives their
    /// prefix.
    pub(crate) fn topics(&self, operations: &[&str]) -> String {
        let prefix = format!("{}.", unique("it"));
        let admin = self.client("admin");
        for action in ["BookingCreate", "quarantine"] {
            admin.create_topic(&format!("{prefix}{action}"), 1, &[]);
        }
        let (resource, pattern) = (Resource::Topic, Pattern::Prefixed);
        let rights = operations.iter().map(|operation| Acl {
            user: "bridge",
            resource,
            name: &prefix,
            pattern,
            operation,
        });
        self.grant_all(&rights.collect::<Vec<_>>());
        prefix
    }

    /// Takes several back.
    pub(crate) fn revoke_all(&self, acls: &[Acl<'_>]) {
        self.change(&["--remove", "--force"], acls);
    }

    /// One run of the tool for the rights that differ only in the operation: it takes a list of those.
    fn change(&self, action: &[&str], acls: &[Acl<'_>]) {
        let mut runs: BTreeMap<Acl<'_>, Vec<&str>> = BTreeMap::new();
        for acl in acls {
            runs.entry(Acl { operation: "", ..*acl }).or_default().push(acl.operation);
        }
        thread::scope(|scope| {
            for (acl, operations) in &runs {
                scope.spawn(move || {
                    let changed = self.server.tool(&self.arguments(action, acl, operations));
                    changed.unwrap_or_else(|reason| {
                        panic!("cannot {action:?} {acl:?} {operations:?}: {reason}")
                    });
                });
            }
        });
    }

    fn arguments(&self, action: &[&str], acl: &Acl<'_>, operations: &[&str]) -> Vec<OsString> {
        let admin = self.server.place.directory.join(ADMIN_FILE);
        let mut arguments: Vec<OsString> = vec!["org.apache.kafka.tools.AclCommand".into()];
        arguments.extend(["--bootstrap-server".into(), self.bootstrap().into()]);
        arguments.extend(["--command-config".into(), admin.into()]);
        arguments.extend(action.iter().map(OsString::from));
        arguments.extend(["--allow-principal".into(), format!("User:{}", acl.user).into()]);
        match acl.resource {
            Resource::Topic => arguments.extend(["--topic".into(), acl.name.into()]),
            Resource::Group => arguments.extend(["--group".into(), acl.name.into()]),
            Resource::TransactionalId => arguments.extend(["--transactional-id".into(), acl.name.into()]),
            Resource::Cluster => arguments.push("--cluster".into()),
        }
        let pattern = match acl.pattern {
            Pattern::Literal => "literal",
            Pattern::Prefixed => "prefixed",
        };
        arguments.extend(["--resource-pattern-type".into(), pattern.into()]);
        for operation in operations {
            arguments.extend(["--operation".into(), operation.into()]);
        }
        arguments
    }
}

/// Writes the certificates and the tool's settings, and says what the broker needs.
fn setup(place: &Place, passwords: &BTreeMap<&'static str, String>) -> Setup {
    let ours = Authority::new("nexudus-bridge test authority");
    let authority = place.write(AUTHORITY_FILE, &ours.pem);
    let identity = ours.server();
    // In this order, as Kafka wants them in one file.
    let server = place.write("server.pem", &[identity.key, identity.certificate, ours.pem.clone()].concat());
    let stranger = Authority::new("nexudus-bridge test stranger");
    place.write(STRANGER_FILE, &stranger.pem);
    for (prefix, client) in [("", ours.client("bridge")), ("stranger-", stranger.client("bridge"))] {
        place.write(&format!("{prefix}client.pem"), &client.certificate);
        place.write(&format!("{prefix}client.key"), &client.key);
    }
    let password = &passwords[ADMIN];
    let login = format!(
        "{LOGIN_MODULES}.scram.ScramLoginModule required username=\"{ADMIN}\" password=\"{password}\";"
    );
    let known = passwords.iter().map(|(user, password)| format!(" user_{user}=\"{password}\""));
    let plain = format!("{LOGIN_MODULES}.plain.PlainLoginModule required{};", known.collect::<String>());
    // The claim is of the broker's own token, which nobody asks it for.
    let bearer = format!(
        "{LOGIN_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"{ADMIN}\";"
    );
    let authority_path = authority.display().to_string();
    let admin_properties = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", MECHANISM),
        ("sasl.jaas.config", &login),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &authority_path),
    ];
    place.write(ADMIN_FILE, &admin_properties.map(|(key, value)| format!("{key}={value}\n")).concat());

    let [port, controller, mutual] = place.ports;
    let host = place.listen_host;
    let listeners =
        format!("SASL_SSL://{host}:{port},MUTUAL://{host}:{mutual},CONTROLLER://127.0.0.1:{controller}");
    let lines = [
        ("listeners", listeners),
        ("advertised.listeners", format!("SASL_SSL://127.0.0.1:{port},MUTUAL://127.0.0.1:{mutual}")),
        ("listener.security.protocol.map", "SASL_SSL:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT".to_owned()),
        ("inter.broker.listener.name", "SASL_SSL".to_owned()),
        ("sasl.enabled.mechanisms", format!("{MECHANISM},SCRAM-SHA-256,PLAIN,OAUTHBEARER")),
        ("sasl.mechanism.inter.broker.protocol", MECHANISM.to_owned()),
        ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", login.clone()),
        ("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", login),
        ("listener.name.sasl_ssl.plain.sasl.jaas.config", plain),
        ("listener.name.sasl_ssl.oauthbearer.sasl.jaas.config", bearer),
        ("listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms", SESSION_MS.to_string()),
        ("listener.name.mutual.ssl.client.auth", "required".to_owned()),
        ("listener.name.mutual.ssl.principal.mapping.rules", "RULE:^CN=([^,]+).*$/$1/,DEFAULT".to_owned()),
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", server.display().to_string()),
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.location", authority_path),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned()),
        // The controller's listener is plain, and only on loopback.
        ("super.users", format!("User:{ADMIN};User:ANONYMOUS")),
    ];
    Setup {
        properties: lines.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        users: passwords.iter().map(|(user, password)| ((*user).to_owned(), password.clone())).collect(),
        client: client(&place.address().to_string(), &authority, ADMIN, password),
        ..Setup::plain(place)
    }
}

fn client(bootstrap: &str, authority: &Path, user: &str, password: &str) -> Client {
    Client::new(bootstrap)
        .set("security.protocol", "SASL_SSL")
        .set("sasl.mechanism", MECHANISM)
        .set("sasl.username", user)
        .set("sasl.password", password)
        .set("ssl.ca.location", &authority.display().to_string())
}
