//! From a runner's `url` to the address of the API (coordinator-api §1).

use url::Url;

use crate::ClientError;

/// The `url` of a `[[runners]]` entry as base of the API: trailing `/` trimmed, one trailing `/ci` removed, `/api/v4/` appended.
pub(crate) fn api_base(configured: &str) -> Result<Url, ClientError> {
    let trimmed = configured.trim().trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/ci").unwrap_or(trimmed);
    let unreadable = |reason: &dyn ToString| ClientError::Url {
        url: without_credentials(configured),
        reason: reason.to_string(),
    };
    let base = Url::parse(&format!("{trimmed}/api/v4/")).map_err(|error| unreadable(&error))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(ClientError::Scheme {
            scheme: base.scheme().to_owned(),
        });
    }
    if base.host_str().is_none_or(str::is_empty) {
        return Err(unreadable(&"no host"));
    }
    Ok(base)
}

/// A URL fit for logs: no user info, query or fragment.
pub(crate) fn clean(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for URLs that cannot have a user, which then have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// As [`clean`] for text that may not be a URL.
fn without_credentials(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", &text[..scheme + 3], &text[at + 1..])
        }
        (None, Some(at)) => text[at + 1..].to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://gitlab.example.com", "https://gitlab.example.com/api/v4/")]
    #[case("https://gitlab.example.com///", "https://gitlab.example.com/api/v4/")]
    #[case("https://gitlab.example.com/ci", "https://gitlab.example.com/api/v4/")]
    #[case("https://gitlab.example.com/ci/", "https://gitlab.example.com/api/v4/")]
    #[case("http://host:8080/gitlab", "http://host:8080/gitlab/api/v4/")]
    #[case("http://[::1]:80/ci/ci", "http://[::1]/ci/api/v4/")]
    fn the_api_lies_below_the_configured_url(#[case] configured: &str, #[case] base: &str) {
        assert_eq!(api_base(configured).unwrap().as_str(), base);
    }

    #[rstest]
    #[case(
        "ftp://gitlab.example.com",
        "only http or https scheme supported, not \"ftp\""
    )]
    #[case(
        "gitlab.example.com",
        "url \"gitlab.example.com\" of the runner cannot be read: relative URL without a base"
    )]
    #[case(
        "",
        "url \"\" of the runner cannot be read: relative URL without a base"
    )]
    #[case(
        "http://me:secret@:80",
        "url \"http://:80\" of the runner cannot be read: empty host"
    )]
    fn other_urls_are_refused_by_name_and_without_credentials(
        #[case] configured: &str,
        #[case] message: &str,
    ) {
        assert_eq!(api_base(configured).unwrap_err().to_string(), message);
    }

    #[test]
    fn a_url_in_a_log_has_no_secrets() {
        let url = Url::parse("https://u:p@h/api/v4/jobs?private_token=x#f").unwrap();
        assert_eq!(clean(&url), "https://h/api/v4/jobs");
    }
}
