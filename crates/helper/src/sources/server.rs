//! Git commands that talk to a server, and what to do when its certificate is not trusted: git says which one, but not how a runner
//! comes to trust it.

use std::{ffi::OsStr, path::Path};

use crate::stage::{Stage, StageError};

/// What is said of a certificate that has no known issuer: by curl with GnuTLS and with OpenSSL, by newer ones of both, by LFS.
const UNTRUSTED: [&str; 6] = [
    "server certificate verification failed",
    "server verification failed",
    "unable to get local issuer certificate",
    "self-signed certificate",
    "self signed certificate",
    "certificate signed by unknown authority",
];

/// Runs git and gives its status; explains it where that is for want of an authority.
///
/// # Errors
/// If there is no git or the stage is canceled.
pub(super) fn status<A: AsRef<OsStr>>(
    stage: &Stage,
    dir: Option<&Path>,
    args: impl IntoIterator<Item = A>,
) -> Result<i32, StageError> {
    let (status, said) = stage.git_heard(dir, args)?;
    if status != 0
        && let Some(advice) = advice(&said)
    {
        stage.warning(&advice);
    }
    Ok(status)
}

/// The same; a command that fails is an error.
pub(super) fn run<A: AsRef<OsStr>>(
    stage: &Stage,
    dir: Option<&Path>,
    args: impl IntoIterator<Item = A>,
    name: &str,
) -> Result<(), StageError> {
    match status(stage, dir, args)? {
        0 => Ok(()),
        status => Err(StageError::command(&format!("git {name}"), status)),
    }
}

fn advice(said: &str) -> Option<String> {
    let line = said
        .lines()
        .find(|line| UNTRUSTED.iter().any(|words| line.contains(words)))?;
    let server = line
        .split(['\'', '"', ' '])
        .find(|word| word.starts_with("https://"))
        .and_then(|url| url.split('/').nth(2))
        // No user has a part in it.
        .and_then(|authority| authority.rsplit('@').next())
        .unwrap_or("the server");
    Some(format!(
        "The helper container does not trust the certificate of {server}. If GitLab is there, name a file with its authority as \
         tls-ca-file in [[runners]]; else add the authority to the helper image."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_comes_with_advice() {
        for (said, server) in [
            (
                "fatal: unable to access 'https://172.17.0.1:8443/a/b.git/': server certificate verification failed. CAfile: none CRLfile: none",
                Some("172.17.0.1:8443"),
            ),
            (
                "x\nfatal: unable to access 'https://me@h/a.git/': SSL certificate problem: self-signed certificate in certificate chain\ny",
                Some("h"),
            ),
            (
                "batch request: Post \"https://h:1/a.git/info/lfs/objects/batch\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                Some("h:1"),
            ),
            (
                "server verification failed: certificate signer not trusted",
                Some("the server"),
            ),
            (
                "fatal: unable to access 'https://h/a.git/': Could not resolve host: h",
                None,
            ),
            ("", None),
        ] {
            let advice = advice(said);
            assert_eq!(advice.is_some(), server.is_some(), "{said}");
            if let (Some(advice), Some(server)) = (advice, server) {
                assert!(
                    advice.contains(&format!(" certificate of {server}. ")),
                    "{advice}"
                );
            }
        }
    }
}
