//! One call to a server of secrets.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::{Method, StatusCode, header::LOCATION};
use serde_json::Value;
use url::Url;

use crate::error::SecretError;

/// As long as Vault's own client waits.
const CALL: Duration = Duration::from_secs(60);
/// Most that is read of an answer. Vault takes secrets of 1 MiB.
const LONGEST: usize = 8 * 1024 * 1024;
/// A standby node sends its callers to the active one.
const MOST_REDIRECTS: u32 = 3;
/// Pauses before the 2nd and 3rd try of a call, as in Vault's own client.
const PAUSES: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(1500)];

/// A call.
pub(crate) struct Call<'a> {
    pub(crate) http: &'a reqwest::Client,
    /// What it is for, on what; begins the sentence of an error.
    pub(crate) what: &'a str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Name and value.
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a Value>,
}

impl Call<'_> {
    /// Makes the call, again after a pause where it failed in a way that may pass.
    pub(crate) async fn json(&self) -> Result<Value, SecretError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.once().await {
                Err(error) if error.may_pass() => match pauses.next() {
                    Some(pause) => {
                        tracing::debug!(%error, "calling a server of secrets again");
                        tokio::time::sleep(pause).await;
                    }
                    None => return Err(error),
                },
                other => return other,
            }
        }
    }

    async fn once(&self) -> Result<Value, SecretError> {
        let failed = |reason| SecretError::Transport {
            what: self.what.to_owned(),
            reason,
        };
        let mut url = self.url.clone();
        let mut redirects = 0;
        let (status, bytes) = loop {
            let mut request = self
                .http
                .request(self.method.clone(), url.clone())
                .timeout(CALL);
            for (name, value) in self.headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = self.body {
                request = request.json(body);
            }
            let response = request
                .send()
                .await
                .map_err(|error| failed(causes(error)))?;
            let status = response.status();
            let target = response
                .headers()
                .get(LOCATION)
                .filter(|_| is_redirect(status))
                .and_then(|target| target.to_str().ok())
                .and_then(|target| url.join(target).ok());
            let Some(target) = target else {
                break (status, read(response).await.map_err(failed)?);
            };
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                return Err(failed(format!("stopped after {MOST_REDIRECTS} redirects")));
            }
            if url.scheme() == "https" && target.scheme() != "https" {
                return Err(failed(
                    "redirect from https to http refused, it would send the token in the clear"
                        .to_owned(),
                ));
            }
            url = target;
        };
        let value = serde_json::from_slice::<Value>(&bytes);
        if !status.is_success() {
            return Err(SecretError::Api {
                what: self.what.to_owned(),
                status: status.as_u16(),
                message: words(value.ok().as_ref(), status),
            });
        }
        value.map_err(|_| SecretError::Answer {
            what: self.what.to_owned(),
            reason: format!(
                "the answer ({}) is no JSON; is the URL that of a Vault server?",
                status.as_u16()
            ),
        })
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 307 | 308)
}

/// The server's words: `errors` of Vault, else the name of the status.
fn words(body: Option<&Value>, status: StatusCode) -> String {
    let errors: Vec<_> = body
        .and_then(|body| body["errors"].as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::trim)
        .filter(|error| !error.is_empty())
        .collect();
    if errors.is_empty() {
        return status
            .canonical_reason()
            .unwrap_or("no reason given")
            .to_lowercase();
    }
    errors.join(", ")
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(causes)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(format!("the answer is longer than {LONGEST} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error with its causes, without the URL, which is named already and might hold a password.
fn causes(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", CALL.as_secs());
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        write!(text, ": {error}").ok();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(Some(json!({"errors": ["permission denied"]})), 403, "permission denied")]
    #[case(Some(json!({"errors": ["1 error occurred:\n", " ", "b"]})), 400, "1 error occurred:, b")]
    #[case(Some(json!({"errors": []})), 404, "not found")]
    #[case(Some(json!({"errors": "x"})), 500, "internal server error")]
    #[case(Some(json!([])), 418, "i'm a teapot")]
    #[case(None, 503, "service unavailable")]
    #[case(None, 599, "no reason given")]
    fn the_words_of_a_refusal(
        #[case] body: Option<Value>,
        #[case] status: u16,
        #[case] expected: &str,
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(words(body.as_ref(), status), expected);
    }
}
