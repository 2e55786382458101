//! The chain that jobs get as `CI_SERVER_TLS_CA_FILE` when no CA file is configured.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use webpki::{EndEntityCert, anchor_from_trusted_cert};

/// The presented certificates from the leaf on, each followed by its issuer, then the root from `roots`. Presented certificates
/// that issue nothing are left out, as the peer's verified chain leaves them out.
pub(crate) fn chain(
    presented: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let Some((leaf, rest)) = presented.split_first() else {
        return Vec::new();
    };
    let mut rest: Vec<_> = rest.iter().collect();
    let mut chain = vec![leaf.clone()];
    let mut last = leaf;
    while let Some(names) = Names::of(last) {
        if names.is_self_issued() {
            return chain;
        }
        let next = rest.iter().position(|certificate| {
            Names::of(certificate).is_some_and(|next| next.subject == names.issuer)
        });
        let Some(next) = next else { break };
        last = rest.swap_remove(next);
        chain.push(last.clone());
    }
    chain.extend(root_of(last, roots));
    chain
}

/// The certificate of `roots` that `certificate` names as its issuer.
pub(super) fn root_of(
    certificate: &CertificateDer<'_>,
    roots: &[CertificateDer<'static>],
) -> Option<CertificateDer<'static>> {
    let names = Names::of(certificate).filter(|names| !names.is_self_issued())?;
    let root = roots.iter().find(|root| {
        anchor_from_trusted_cert(root).is_ok_and(|anchor| *anchor.subject == *names.issuer)
    });
    root.cloned()
}

/// Certificates as PEM, no line break at the end.
pub(crate) fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        push_pem(&mut pem, certificate);
    }
    pem
}

pub(super) struct Names {
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

impl Names {
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        Some(Self {
            subject: parsed.subject().to_vec(),
            issuer: parsed.issuer().to_vec(),
        })
    }
}

fn push_pem(pem: &mut String, certificate: &CertificateDer<'_>) {
    if !pem.is_empty() {
        pem.push('\n');
    }
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(certificate);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----");
}

#[cfg(test)]
mod tests {
    use gantry_testkit::TestCa;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn chain_pem(
        presented: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> String {
        pem(&chain(presented, roots))
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// PEM as rcgen writes it, so that both can be compared.
    fn joined(parts: &[&str]) -> String {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| part.replace("\r\n", "\n").trim().to_owned())
            .collect();
        parts.join("\n")
    }

    #[test]
    fn the_chain_goes_from_the_leaf_over_what_was_presented_to_the_root() {
        let root = TestCa::new("Root");
        let (upper, other) = (root.sub_authority("Upper"), TestCa::new("Other"));
        let lower = upper.sub_authority("Lower");
        let leaf = lower.issue(&["gitlab.example.com"]).certificate;
        let roots = [der(other.pem()), der(root.pem())];
        // Out of order, and with one that has nothing to do with it.
        let presented = [leaf.as_str(), upper.pem(), other.pem(), lower.pem()].map(der);
        assert_eq!(
            chain_pem(&presented, &roots),
            joined(&[&leaf, lower.pem(), upper.pem(), root.pem()])
        );
        // The root is not known: as far as it goes.
        assert_eq!(
            chain_pem(&presented, &roots[..1]),
            joined(&[&leaf, lower.pem(), upper.pem()])
        );
        // The server presents its root itself.
        let presented = [leaf.as_str(), lower.pem(), upper.pem(), root.pem()].map(der);
        assert_eq!(
            chain_pem(&presented, &roots),
            joined(&[&leaf, lower.pem(), upper.pem(), root.pem()])
        );
    }

    #[test]
    fn no_certificate_is_no_text_and_garbage_is_passed_on_as_it_is() {
        assert_eq!(chain_pem(&[], &[]), "");
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(
            chain_pem(&[garbage], &[]),
            "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----"
        );
    }
}
