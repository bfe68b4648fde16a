//! A certificate authority of one test run, and the broker's certificate under it.
//!
//! Made anew for each run, so nothing secret is in the repository and nothing expires. PEM, which librdkafka
//! and, since version 2.7, Kafka read without a key store.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// What a broker with TLS needs, and what its clients need.
pub(super) struct Certificates {
    /// The authority's certificate.
    pub(super) authority: String,
    /// The broker's private key, its certificate and the authority's, in this order, as Kafka wants them in
    /// one file.
    pub(super) server: String,
}

impl Certificates {
    /// For a server on this machine.
    pub(super) fn new() -> Self {
        let (authority, issuer) = new_authority("nexudus-bridge test authority");
        let key = KeyPair::generate().expect("an elliptic curve key");
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.use_authority_key_identifier_extension = true;
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let certificate = params.signed_by(&key, &issuer).expect("a key and an authority");
        let server = [key.serialize_pem(), certificate.pem(), authority.clone()].concat();
        Self { authority, server }
    }
}

/// The certificate of an authority that has signed nothing here.
pub(super) fn stranger() -> String {
    new_authority("nexudus-bridge test stranger").0
}

fn new_authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("an elliptic curve key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages.extend([KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
    let certificate = params.self_signed(&key).expect("a key");
    (certificate.pem(), Issuer::new(params, key))
}
