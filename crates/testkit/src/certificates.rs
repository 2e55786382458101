//! Certificates made on the spot: an authority, servers and clients it vouches for.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// A certificate authority that nobody trusts until told to.
pub struct TestCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, and what is presented after it.
    pub certificate: String,
    /// Its PKCS#8 key.
    pub key: String,
}

impl TestCa {
    /// A new authority of the given common name.
    ///
    /// # Panics
    /// If the key cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key for the authority");
        let params = authority(name);
        let certificate = params.self_signed(&key).expect("an authority");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority that this one vouches for.
    ///
    /// # Panics
    /// If the key cannot be made.
    #[must_use]
    pub fn sub_authority(&self, name: &str) -> Self {
        self.vouch_for(authority(name))
    }

    /// The same, and its certificate says under which URL (of at most 100 bytes) this one's certificate is found.
    ///
    /// # Panics
    /// If the key cannot be made.
    #[must_use]
    pub fn sub_authority_with_url(&self, name: &str, url: &str) -> Self {
        let mut params = authority(name);
        params.custom_extensions.push(issuer_at(url));
        self.vouch_for(params)
    }

    fn vouch_for(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key for the authority");
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server or client of these names; IP addresses are recognised.
    ///
    /// # Panics
    /// If a name cannot stand in a certificate.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(&params(names.first().unwrap_or(&"nobody"), names))
    }

    /// The same, out of date since 2001.
    ///
    /// # Panics
    /// If a name cannot stand in a certificate.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        let mut params = params(names.first().unwrap_or(&"nobody"), names);
        expire(&mut params);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// A certificate that vouches for itself; `ca` marks it as an authority, as `openssl req -x509` does.
    #[must_use]
    pub fn self_signed(names: &[&str], ca: bool) -> Self {
        Self::vouched_by_itself(names, ca, false)
    }

    /// As [`self_signed`](Self::self_signed), out of date since 2001.
    #[must_use]
    pub fn expired(names: &[&str], ca: bool) -> Self {
        Self::vouched_by_itself(names, ca, true)
    }

    /// Certificate and others to present after it.
    #[must_use]
    pub fn with_chain(mut self, others: &[&str]) -> Self {
        for other in others {
            self.certificate.push_str(other);
        }
        self
    }

    fn vouched_by_itself(names: &[&str], ca: bool, expired: bool) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(names.first().unwrap_or(&"nobody"), names);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        if expired {
            expire(&mut params);
        }
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

/// Authority information access with one `caIssuers` address, DER by hand: all lengths fit in one byte.
fn issuer_at(url: &str) -> CustomExtension {
    let length = |length: usize| u8::try_from(length).expect("a short URL");
    let method = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02];
    let inner = length(method.len() + 2 + url.len());
    let mut der = vec![0x30, inner + 2, 0x30, inner];
    der.extend_from_slice(&method);
    der.extend_from_slice(&[0x86, length(url.len())]);
    der.extend_from_slice(url.as_bytes());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], der)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName((*name).try_into().expect("a DNS name")),
        })
        .collect();
    params
}
