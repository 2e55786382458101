//! The parts of a repository URL that directories, labels and requests are made of.

/// `scheme://[user[:password]@]host[:port][/path][?query][#fragment]`, split by its text alone.
#[derive(Clone, Copy)]
pub(crate) struct RepositoryUrl<'a> {
    pub(crate) scheme: &'a str,
    /// User and, behind a colon, password; not decoded.
    user_info: &'a str,
    /// Host and port; never empty.
    pub(crate) host: &'a str,
    /// Empty, or with its leading slash; neither query nor fragment; not decoded.
    pub(crate) path: &'a str,
}

impl<'a> RepositoryUrl<'a> {
    /// `None` for text without scheme or host, such as `git@host:path` or a directory.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user_info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let path = &tail[..tail.find(['?', '#']).unwrap_or(tail.len())];
        (!scheme.is_empty() && !host.is_empty()).then_some(Self {
            scheme,
            user_info,
            host,
            path,
        })
    }

    /// Scheme and host, e.g. `https://gitlab.example.com:8443`.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// The URL without credentials, query and fragment.
    pub(crate) fn clean(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    /// Path without `.git` at its end.
    pub(crate) fn bare_path(&self) -> &'a str {
        self.path.strip_suffix(".git").unwrap_or(self.path)
    }

    /// Whether requests go over HTTP, where a token is a password.
    pub(crate) fn is_http(&self) -> bool {
        ["http", "https"]
            .iter()
            .any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
    }

    /// Decoded user name, if there is one.
    pub(crate) fn user(&self) -> Option<String> {
        let user = self.user_info.split(':').next().unwrap_or_default();
        (!user.is_empty()).then(|| decoded(user))
    }

    /// Decoded password, if there is one.
    pub(crate) fn password(&self) -> Option<String> {
        let (_, password) = self.user_info.split_once(':')?;
        (!password.is_empty()).then(|| decoded(password))
    }
}

/// Text with its `%xx` decoded as git decodes credentials; as written if that gives no text.
fn decoded(text: &str) -> String {
    percent_decode(text).unwrap_or_else(|| text.to_owned())
}

/// Replaces every `%xx`; `None` when one is malformed or the bytes are not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://h/g/p.git", "https://h", "/g/p", None, None)]
    #[case(
        "https://u:p@h:8443/g/p.git?x=@#y",
        "https://h:8443",
        "/g/p",
        Some("u"),
        Some("p")
    )]
    #[case("https://u:a:b@h", "https://h", "", Some("u"), Some("a:b"))]
    #[case("https://u%40x:p%2Fq@h/x", "https://h", "/x", Some("u@x"), Some("p/q"))]
    #[case("https://u:100%@h/x", "https://h", "/x", Some("u"), Some("100%"))]
    #[case("https://u:@h/x", "https://h", "/x", Some("u"), None)]
    #[case("https://h?a@b/c", "https://h", "", None, None)]
    #[case("ssh://git@h:22/g/p.git", "ssh://h:22", "/g/p", Some("git"), None)]
    #[case("https://h/x.git.git", "https://h", "/x.git", None, None)]
    fn a_url_is_split(
        #[case] text: &str,
        #[case] origin: &str,
        #[case] path: &str,
        #[case] user: Option<&str>,
        #[case] password: Option<&str>,
    ) {
        let url = RepositoryUrl::parse(text).unwrap();
        assert_eq!(url.origin(), origin);
        assert_eq!(url.bare_path(), path);
        assert_eq!(url.user().as_deref(), user);
        assert_eq!(url.password().as_deref(), password);
    }

    #[rstest]
    #[case("")]
    #[case("git@host:group/project.git")]
    #[case("/srv/git/project")]
    #[case("://host/path")]
    #[case("https:///path")]
    #[case("https://user@/path")]
    fn text_without_scheme_or_host_is_no_url(#[case] text: &str) {
        assert!(RepositoryUrl::parse(text).is_none());
    }

    #[rstest]
    #[case("a%20b", Some("a b"))]
    #[case("%C3%A9", Some("é"))]
    #[case("%", None)]
    #[case("%4", None)]
    #[case("%zz", None)]
    #[case("%ff", None)]
    fn percent_signs_are_decoded(#[case] text: &str, #[case] decoded: Option<&str>) {
        assert_eq!(percent_decode(text).as_deref(), decoded);
    }
}
