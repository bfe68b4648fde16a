//! The shared broker with TLS and access rights, and with all the ways to sign in that the bridge is tested with.
//!
//! One listener accepts passwords (PLAIN, SCRAM-SHA-256 and -512) and tokens (OAUTHBEARER, with Kafka's own validator of unsigned
//! tokens and sessions of a few seconds). Another listener accepts client certificates.
//!
//! The user `admin` may do everything; `bridge` and `nobody` have no rights until a test grants them. Tests share these rights,
//! so a test grants rights only on topics of its own, and none to `nobody`. Kafka's own command-line tool makes the grants, in a
//! Java process of about a second each. Several grants in one call run side by side.

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
const FOREIGN_FILE: &str = "foreign.pem";
const ADMIN_FILE: &str = "admin.properties";

/// Lifetime of a session that began with a token: shorter than every test of such sessions.
const SESSION_MS: u32 = 3_000;

/// The shared broker with TLS, passwords and access rights.
pub(crate) struct SecuredBroker {
    server: Server,
    passwords: BTreeMap<&'static str, String>,
}

/// The kind of object that a right applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Topic,
    Group,
    TransactionalId,
    /// The whole cluster. The name of the right is ignored.
    Cluster,
}

/// The meaning of the name in a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// Exactly this name.
    Literal,
    /// All names with this prefix.
    Prefixed,
}

/// One right: `user` may do `operation` (`Write`, `Describe`, `Create`, `Read`, …) on the objects of `resource` and `name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Acl<'a> {
    pub(crate) user: &'a str,
    pub(crate) resource: Resource,
    pub(crate) name: &'a str,
    pub(crate) pattern: Pattern,
    pub(crate) operation: &'a str,
}

/// Returns the shared broker, which the first call starts.
///
/// # Panics
/// If it does not start, with the reason. It is not started a second time: later calls panic with the same reason.
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

    /// Returns the address for clients with a password or token.
    pub(crate) fn bootstrap(&self) -> String {
        self.server.bootstrap()
    }

    /// Returns the certificate of the authority that signed the broker's certificate: `ssl.ca.location`.
    pub(crate) fn ca_pem_path(&self) -> PathBuf {
        self.server.place.directory.join(AUTHORITY_FILE)
    }

    /// Returns the certificate of another authority, which did not sign the broker's certificate.
    pub(crate) fn foreign_ca_pem_path(&self) -> PathBuf {
        self.server.place.directory.join(FOREIGN_FILE)
    }

    /// Returns the address for clients with a certificate.
    pub(crate) fn mutual_bootstrap(&self) -> String {
        self.server.place.behind_proxy().to_string()
    }

    /// Returns the certificate and the key of the client `bridge`: `ssl.certificate.location`, `ssl.key.location`.
    pub(crate) fn client_pem_paths(&self) -> [PathBuf; 2] {
        ["client.pem", "client.key"].map(|name| self.server.place.directory.join(name))
    }

    /// Returns a certificate and a key of a client with the same name, signed by another authority.
    pub(crate) fn foreign_pem_paths(&self) -> [PathBuf; 2] {
        ["foreign-client.pem", "foreign-client.key"].map(|name| self.server.place.directory.join(name))
    }

    /// Returns the password of `admin`, `bridge` or `nobody`.
    pub(crate) fn password(&self, user: &str) -> &str {
        self.passwords.get(user).unwrap_or_else(|| panic!("no user {user}, only {USERS:?}"))
    }

    /// Returns a client that signs in as this user.
    pub(crate) fn client(&self, user: &str) -> Client {
        client(&self.bootstrap(), &self.ca_pem_path(), user, self.password(user))
    }

    /// Creates a topic of a unique name, on which no user but `admin` has a right, and returns its name.
    pub(crate) fn topic(&self, prefix: &str, partitions: i32) -> String {
        let name = unique(prefix);
        self.client(ADMIN).create_topic(&name, partitions, &[]);
        name
    }

    /// Grants one right: `grant("bridge", Resource::Topic, "orders", Pattern::Literal, "Write")`.
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

    /// Revokes one right.
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

    /// Grants several rights at a time.
    pub(crate) fn grant_all(&self, acls: &[Acl<'_>]) {
        self.change(&["--add"], acls);
    }

    /// Creates topics of the test's own, for one action and the quarantine. Grants the user `bridge` these operations on them,
    /// and returns their prefix.
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

    /// Revokes several rights at a time.
    pub(crate) fn revoke_all(&self, acls: &[Acl<'_>]) {
        self.change(&["--remove", "--force"], acls);
    }

    /// Runs the tool once for all rights that differ only in the operation, since it accepts a list of operations.
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

/// Writes the certificates and the tool's settings, and returns the setup of the broker.
fn setup(place: &Place, passwords: &BTreeMap<&'static str, String>) -> Setup {
    let ours = Authority::new("nexudus-bridge test authority");
    let authority = place.write(AUTHORITY_FILE, &ours.pem);
    let identity = ours.server();
    // Kafka requires this order in a file.
    let server = place.write("server.pem", &[identity.key, identity.certificate, ours.pem.clone()].concat());
    let foreign = Authority::new("nexudus-bridge test foreign");
    place.write(FOREIGN_FILE, &foreign.pem);
    for (prefix, client) in [("", ours.client("bridge")), ("foreign-", foreign.client("bridge"))] {
        place.write(&format!("{prefix}client.pem"), &client.certificate);
        place.write(&format!("{prefix}client.key"), &client.key);
    }
    let password = &passwords[ADMIN];
    let login = format!(
        "{LOGIN_MODULES}.scram.ScramLoginModule required username=\"{ADMIN}\" password=\"{password}\";"
    );
    let known = passwords.iter().map(|(user, password)| format!(" user_{user}=\"{password}\""));
    let plain = format!("{LOGIN_MODULES}.plain.PlainLoginModule required{};", known.collect::<String>());
    // This claim is required for a token of the broker itself, which is never used.
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
        // The controller's listener has no encryption, and is only on loopback.
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
