use super::{ImageReference, grammar};

/// How a service's image names its container (docker-executor §5.3).
///
/// Text that cannot be read as a reference gives no names of its own: the image is used as written and only the aliases of the
/// configuration count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReference {
    /// Image to use; `:latest` added when it had neither tag nor digest.
    pub image: String,
    /// Tag, else `@sha256:…`, else `latest`.
    pub version: String,
    /// The reference without port, tag and digest, e.g. `registry.example.com/team/app`; `None` for text that is no reference.
    pub path: Option<String>,
}

impl ServiceReference {
    /// Reads a service's `name`. Never fails.
    pub fn parse(text: &str) -> Self {
        let unreadable = || Self {
            image: text.to_owned(),
            version: "latest".to_owned(),
            path: None,
        };
        // The peer takes 64 hexadecimal digits for a name here, and an upper-case registry for a path.
        let Some((name, tag, digest)) = split(text) else {
            return unreadable();
        };
        let bare = tag.is_none() && digest.is_none();
        Self {
            image: if bare {
                format!("{text}:latest")
            } else {
                text.to_owned()
            },
            version: match (tag, digest) {
                (Some(tag), _) => tag.to_owned(),
                (None, Some(digest)) => format!("@{digest}"),
                (None, None) => "latest".to_owned(),
            },
            path: Some(without_port(name)),
        }
    }

    /// Names the service answers to before those of its own `alias`: slashes as `__`, and as `-` if that differs.
    pub fn aliases(&self) -> Vec<String> {
        let Some(path) = &self.path else {
            return Vec::new();
        };
        let (underscores, hyphens) = (path.replace('/', "__"), path.replace('/', "-"));
        if underscores == hyphens {
            vec![underscores]
        } else {
            vec![underscores, hyphens]
        }
    }

    /// The middle part of the container's name (docker-executor §2.1): slashes as `__`, port and tag removed.
    pub fn container_part(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.replace('/', "__"))
    }

    /// The image as a checked reference, for messages about what is wrong with it.
    pub fn reference(&self) -> Result<ImageReference, super::ImageError> {
        ImageReference::parse(&self.image)
    }
}

/// Name, tag and digest by the grammar alone, nothing completed.
fn split(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_start..].find(':') {
        Some(colon) => (
            &rest[..name_start + colon],
            Some(&rest[name_start + colon + 1..]),
        ),
        None => (rest, None),
    };
    let named = grammar::is_path(name)
        || name
            .split_once('/')
            .is_some_and(|(domain, path)| grammar::is_domain(domain) && grammar::is_path(path));
    let fits = named && tag.is_none_or(grammar::is_tag) && digest.is_none_or(grammar::is_digest);
    fits.then_some((name, tag, digest))
}

fn without_port(name: &str) -> String {
    let Some((domain, path)) = name.split_once('/') else {
        return name.to_owned();
    };
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => domain,
    };
    format!("{host}/{path}")
}
