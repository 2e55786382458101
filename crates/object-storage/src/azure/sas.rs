//! Signatures of Azure over the names of objects as they are.
//!
//! A shared access signature covers the name of the object without percent-encoding; the library signs it as it stands in the address
//! (object_store 0.14), and Azure refuses such a signature for every name with a blank or a letter beyond ASCII, such as the default
//! key of a job `unit tests`. So the library gets an HMAC that undoes the encoding in the one line that holds the name.

use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::{
    Error, Result,
    client::{
        CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
    },
};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// Line of the text to be signed that holds `/blob/<account>/<container>/<name>`, from 0.
const RESOURCE_LINE: usize = 3;
const RESOURCE: &str = "/blob/";

#[derive(Debug)]
pub(super) struct DecodedNames;

impl CryptoProvider for DecodedNames {
    fn digest(&self, _: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        Err(not_needed("a digest"))
    }

    fn hmac(&self, _: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        let mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| Error::Generic {
            store: "Azure",
            source: Box::new(error),
        })?;
        Ok(Box::new(Context {
            mac,
            tag: Vec::new(),
        }))
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(not_needed("a signature by a private key"))
    }
}

fn not_needed(what: &str) -> Error {
    Error::NotSupported {
        source: format!("{what} is not needed to sign addresses").into(),
    }
}

struct Context {
    mac: Hmac<Sha256>,
    tag: Vec<u8>,
}

impl HmacContext for Context {
    fn update(&mut self, data: &[u8]) {
        match str::from_utf8(data).ok().and_then(with_decoded_name) {
            Some(text) => self.mac.update(text.as_bytes()),
            None => self.mac.update(data),
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.tag = self.mac.clone().finalize().into_bytes().to_vec();
        Ok(&self.tag)
    }
}

/// The text with the name as it is; `None` if it is no text of a shared access signature.
fn with_decoded_name(text: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let resource = lines.get(RESOURCE_LINE)?;
    if !resource.starts_with(RESOURCE) {
        return None;
    }
    let decoded = percent_decode_str(resource).decode_utf8().ok()?;
    lines[RESOURCE_LINE] = &decoded;
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_the_name_is_decoded() {
        assert_eq!(
            with_decoded_name("w\nstart%20\nend\n/blob/acc/caches/a%20b/%C3%AF%2525\n\nx")
                .as_deref(),
            Some("w\nstart%20\nend\n/blob/acc/caches/a b/ï%25\n\nx")
        );
        assert_eq!(with_decoded_name("GET\n\n\n/acc/caches"), None);
        assert_eq!(with_decoded_name("short"), None);
    }
}
