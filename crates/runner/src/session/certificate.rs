//! The certificate of this start: signed by itself and told to GitLab with each request, which trusts it alone (cli §9).

use std::{net::IpAddr, sync::Arc};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
};

/// Makes a key and a certificate for the host, an address or a name. Returns what to serve with, and the certificate as PEM.
///
/// The peer makes an RSA key of 2048 bits; this one is of the curve P-256, which every client takes and which costs no second of
/// the start.
pub(super) fn make(host: &str) -> Result<(Arc<ServerConfig>, String), String> {
    let words = |error: rcgen::Error| error.to_string();
    let name = match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(words)?),
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![name];
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "GitLab Runner");
    subject.push(DnType::CommonName, "Gantry session server");
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The time of its life is the crate's default, far more than that of any process: it is made anew at each start, and GitLab
    // has no other way to know it than being told.
    let key = KeyPair::generate().map_err(words)?;
    let certificate = params.self_signed(&key).map_err(words)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let words = |error: tokio_rustls::rustls::Error| error.to_string();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(words)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(words)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A terminal is one long connection: nothing is resumed, so nothing is kept.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), certificate.pem()))
}
