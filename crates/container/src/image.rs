//! Image references: what they name, how they are shown, pulled and turned into service names.
//!
//! The grammar is that of container registries (`[domain[:port]/]path[:tag][@digest]`); short names mean Docker Hub, as
//! everywhere. Nothing here asks a registry or an engine.

mod grammar;
mod service;

#[cfg(test)]
mod tests;

use std::fmt;

pub use service::ServiceReference;

/// Registry of short names.
const DEFAULT_DOMAIN: &str = "docker.io";
/// What the default registry's address used to be.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Namespace of names without one on the default registry.
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Longest repository path that registries take.
const LONGEST_PATH: usize = 255;

/// A parsed image reference. [`fmt::Display`] gives the familiar form, tag and digest included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Nothing there.
    #[error("image reference is empty")]
    Empty,
    /// Upper-case letters in the repository path.
    #[error("image reference {0:?}: the repository name must be lower case")]
    UpperCase(String),
    /// The part before the first slash is no registry address.
    #[error("image reference {text:?}: {domain:?} is not a valid registry address")]
    Domain {
        /// Whole reference.
        text: String,
        /// The part.
        domain: String,
    },
    /// The path breaks the grammar.
    #[error(
        "image reference {text:?}: {path:?} is not a valid repository name (lower-case letters and digits, separated by '.', '_', '__' or '-')"
    )]
    Path {
        /// Whole reference.
        text: String,
        /// The part.
        path: String,
    },
    /// The path is too long.
    #[error("image reference {0:?}: the repository name is longer than 255 characters")]
    TooLong(String),
    /// The tag breaks the grammar.
    #[error(
        "image reference {text:?}: {tag:?} is not a valid tag (letters, digits, '_', '.', '-', at most 128 characters, not starting with '.' or '-')"
    )]
    Tag {
        /// Whole reference.
        text: String,
        /// The part.
        tag: String,
    },
    /// The digest breaks the grammar.
    #[error(
        "image reference {text:?}: {digest:?} is not a valid digest (sha256: and 64 hexadecimal digits)"
    )]
    Digest {
        /// Whole reference.
        text: String,
        /// The part.
        digest: String,
    },
    /// 64 hexadecimal digits are an image ID, not a name.
    #[error("image reference {0:?}: 64 hexadecimal digits are an image ID, not a name")]
    Identifier(String),
}

impl ImageReference {
    /// Parses a reference as people write it, e.g. `ruby:3.3`, `registry.example.com:5000/team/app@sha256:…`.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError::Empty);
        }
        if grammar::is_hex64(text) {
            return Err(ImageError::Identifier(text.to_owned()));
        }
        let owned = || text.to_owned();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if grammar::is_digest(digest) => (rest, Some(digest)),
            Some((_, digest)) => {
                return Err(ImageError::Digest {
                    text: owned(),
                    digest: digest.to_owned(),
                });
            }
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the registry's port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => {
                let tag = &rest[name_start + colon + 1..];
                if !grammar::is_tag(tag) {
                    return Err(ImageError::Tag {
                        text: owned(),
                        tag: tag.to_owned(),
                    });
                }
                (&rest[..name_start + colon], Some(tag))
            }
            None => (rest, None),
        };
        let (domain, path) = split_domain(name);
        if !grammar::is_domain(&domain) {
            return Err(ImageError::Domain {
                text: owned(),
                domain,
            });
        }
        if !grammar::is_path(&path) {
            if grammar::is_path(&path.to_ascii_lowercase()) {
                return Err(ImageError::UpperCase(owned()));
            }
            return Err(ImageError::Path {
                text: owned(),
                path,
            });
        }
        if path.len() > LONGEST_PATH {
            return Err(ImageError::TooLong(owned()));
        }
        Ok(Self {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Registry address, port included, e.g. `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository path on the registry, e.g. `library/ruby`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest, if one was written.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Name in full without tag and digest, e.g. `docker.io/library/ruby`.
    pub fn canonical_name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Name as people write it, without tag and digest, e.g. `ruby`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.canonical_name();
        }
        match self.path.split_once('/') {
            Some((OFFICIAL, name)) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// In full with tag and digest, e.g. `docker.io/library/ruby:3.3`.
    pub fn canonical(&self) -> String {
        format!("{}{}", self.canonical_name(), self.suffix())
    }

    /// What a pull asks for: the familiar form, `:latest` added when neither tag nor digest is there.
    pub fn pull_name(&self) -> String {
        format!(
            "{}{}{}",
            self.familiar_name(),
            self.suffix(),
            if self.bare() { ":latest" } else { "" }
        )
    }

    /// The `tag` parameter of an engine's pull: the digest, else the tag, else `latest`.
    pub fn pull_tag(&self) -> &str {
        self.digest().or(self.tag()).unwrap_or(DEFAULT_TAG)
    }

    fn bare(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar_name(), self.suffix())
    }
}

impl std::str::FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::parse(text)
    }
}

/// Whether a text names an image by its ID (`sha256:` and 64 hexadecimal digits, or these alone) and not by a reference.
/// Such an image is never pulled (docker-executor §3.3 e).
pub fn is_image_id(text: &str) -> bool {
    grammar::is_hex64(text.strip_prefix("sha256:").unwrap_or(text))
}

/// Registry and path; short names are completed.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (
                if first == LEGACY_DOMAIN {
                    DEFAULT_DOMAIN
                } else {
                    first
                },
                rest,
            )
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty();
    let path = if official {
        format!("{OFFICIAL}/{path}")
    } else {
        path.to_owned()
    };
    (domain.to_owned(), path)
}
