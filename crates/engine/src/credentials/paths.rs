/// Registry path of an image: tag and digest cut, short names completed with `docker.io/`, host in lower case.
pub fn image_path(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = cut_tag(name);
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    let registry = rest_exists(name) && (first.contains(['.', ':']) || first == "localhost");
    if registry {
        format!("{}/{rest}", host(first))
    } else {
        format!("docker.io/{name}")
    }
}

/// Registry path of a credential: with a scheme the host alone; without, the path is kept, a tag and slashes at the end are cut.
pub fn credential_path(registry: &str) -> String {
    for scheme in ["https://", "http://"] {
        if let Some(rest) = registry.strip_prefix(scheme) {
            return host(rest.split('/').next().unwrap_or_default());
        }
    }
    let path = cut_tag(registry.trim_end_matches('/'));
    match path.split_once('/') {
        Some((first, rest)) => format!("{}/{rest}", host(first)),
        None => host(path),
    }
}

/// The path itself, then without its last segment, down to the registry.
pub(super) fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        path.rsplit_once('/').map(|(parent, _)| parent)
    })
}

fn rest_exists(name: &str) -> bool {
    name.contains('/')
}

/// Cuts what follows a colon in the last segment; the port of a registry is in the first of several.
fn cut_tag(name: &str) -> &str {
    match name.rfind('/') {
        Some(slash) => match name[slash..].find(':') {
            Some(colon) => &name[..slash + colon],
            None => name,
        },
        // One segment alone may be `host:port`: a port is digits only, but so may a tag be. It names a registry.
        None => match name.split_once(':') {
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some((name, _)) => name,
            None => name,
        },
    }
}

fn host(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower == "index.docker.io" {
        "docker.io".to_owned()
    } else {
        lower
    }
}
