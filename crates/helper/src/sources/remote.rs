//! Where sources come from.

/// A remote without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// URL for git.
    pub(crate) url: String,
    /// `https://host:port`, the part that credentials and TLS files are for. `None`: not by HTTP.
    pub(crate) http_host: Option<String>,
}

impl Remote {
    /// Cuts credentials off: all of them for HTTP; for others the password, because the user is part of an ssh address.
    pub(crate) fn parse(url: &str) -> Self {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Self {
                url: url.to_owned(),
                http_host: None,
            };
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(user, host)| (Some(user), host));
        let scheme_is = |name: &str| scheme.eq_ignore_ascii_case(name);
        if scheme_is("http") || scheme_is("https") {
            let base = format!("{scheme}://{host}");
            return Self {
                url: format!("{base}{path}"),
                http_host: (!host.is_empty()).then_some(base),
            };
        }
        let user = user
            .and_then(|user| user.split(':').next())
            .filter(|user| !user.is_empty());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        Self {
            url: format!("{scheme}://{user}{host}{path}"),
            http_host: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_cut_off() {
        for (given, url, host) in [
            (
                "https://gitlab.example.com/a/b.git",
                "https://gitlab.example.com/a/b.git",
                Some("https://gitlab.example.com"),
            ),
            (
                "https://u:p@h:8443/a.git",
                "https://h:8443/a.git",
                Some("https://h:8443"),
            ),
            ("http://u:p@ss@h", "http://h", Some("http://h")),
            (
                "https://h/a@b/c.git",
                "https://h/a@b/c.git",
                Some("https://h"),
            ),
            ("ssh://git:pw@h:22/a.git", "ssh://git@h:22/a.git", None),
            ("ssh://h/a.git", "ssh://h/a.git", None),
            ("git@h:a/b.git", "git@h:a/b.git", None),
            ("file:///srv/a.git", "file:///srv/a.git", None),
            ("/srv/a.git", "/srv/a.git", None),
        ] {
            let expected = Remote {
                url: url.into(),
                http_host: host.map(Into::into),
            };
            assert_eq!(Remote::parse(given), expected, "{given}");
        }
    }
}
