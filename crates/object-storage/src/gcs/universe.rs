//! Signatures of Google Cloud Storage for hosts of another universe.
//!
//! A signature covers the host that the request is sent to. The library signs the one of `googleapis.com` wherever the storage is
//! (object_store 0.14), and the storage of another universe refuses that. So the library gets a digest that reads the other host in
//! the line that holds it.

use object_store::{
    Error, Result,
    client::{
        CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
    },
};
use sha2::{Digest as _, Sha256};

const SIGNED: &str = "\nhost:storage.googleapis.com\n";

/// Signs for this host, with the port if there is one.
#[derive(Debug)]
pub(super) struct OtherHost(pub(super) String);

impl CryptoProvider for OtherHost {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Context {
                line: format!("\nhost:{}\n", self.0),
                hash: Sha256::new(),
                digest: Vec::new(),
            })),
            _ => Err(not_needed("another digest than SHA-256")),
        }
    }

    fn hmac(&self, _: DigestAlgorithm, _: &[u8]) -> Result<Box<dyn HmacContext>> {
        Err(not_needed("a keyed digest"))
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(not_needed("another private key"))
    }
}

fn not_needed(what: &str) -> Error {
    Error::NotSupported {
        source: format!("{what} is not needed to sign addresses").into(),
    }
}

struct Context {
    line: String,
    hash: Sha256,
    digest: Vec<u8>,
}

impl DigestContext for Context {
    fn update(&mut self, data: &[u8]) {
        // The canonical request comes in one piece.
        match str::from_utf8(data) {
            Ok(text) => self.hash.update(text.replacen(SIGNED, &self.line, 1)),
            Err(_) => self.hash.update(data),
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.digest = self.hash.clone().finalize().to_vec();
        Ok(&self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(host: &str, text: &str) -> Vec<u8> {
        let provider = OtherHost(host.to_owned());
        let mut context = provider.digest(DigestAlgorithm::Sha256).unwrap();
        context.update(text.as_bytes());
        context.finish().unwrap().to_vec()
    }

    #[test]
    fn the_host_of_the_request_is_the_one_that_is_signed() {
        let request =
            |host: &str| format!("PUT\n/b/o\nq=host%3A\ncontent-type:x\nhost:{host}\n\nhost\n-");
        let other = request("storage.example.com:4443");
        assert_eq!(
            digest(
                "storage.example.com:4443",
                &request("storage.googleapis.com")
            ),
            Sha256::digest(&other).to_vec()
        );
        // What is no such line stays.
        assert_eq!(
            digest("storage.example.com", "host:storage.googleapis.com"),
            Sha256::digest("host:storage.googleapis.com").to_vec()
        );
    }
}
