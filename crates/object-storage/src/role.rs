//! The role of S3 transfers: `sts:AssumeRole`, asked with the credentials of the configuration.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use object_store::{
    CredentialProvider,
    aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider},
    client::{ClientOptions, HttpClient, HttpConnector, HttpRequest, HttpRequestBody},
};
use tokio::sync::{Mutex, Semaphore};
use url::form_urlencoded;

/// How long the credentials of a role are asked for: the longest that every role allows.
const LIFE: Duration = Duration::from_secs(3600);
/// A transfer begins soon after its address was signed, and may take this long.
const LEFT: Duration = Duration::from_secs(20 * 60);
/// Answers are short.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const SESSION_NAME: &str = "gantry-cache";

/// Gives the client of the process to the library.
#[derive(Debug)]
pub(crate) struct Connector(pub(crate) reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// Which role, and how it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Sts {
    pub(crate) role: String,
    pub(crate) region: String,
    pub(crate) endpoint: String,
    pub(crate) max_concurrency: i64,
    pub(crate) caching: bool,
}

/// Credentials of a role.
pub(crate) struct AssumeRole {
    sts: Sts,
    base: AwsCredentialProvider,
    client: reqwest::Client,
    permits: Semaphore,
    kept: Mutex<Option<(Arc<AwsCredential>, Instant)>>,
}

impl fmt::Debug for AssumeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssumeRole")
            .field("role", &self.sts.role)
            .finish_non_exhaustive()
    }
}

impl AssumeRole {
    pub(crate) fn new(sts: Sts, base: AwsCredentialProvider, client: reqwest::Client) -> Self {
        let permits = usize::try_from(sts.max_concurrency)
            .unwrap_or(Semaphore::MAX_PERMITS)
            .clamp(1, Semaphore::MAX_PERMITS);
        Self {
            sts,
            base,
            client,
            permits: Semaphore::new(permits),
            kept: Mutex::default(),
        }
    }

    async fn ask(&self) -> Result<Arc<AwsCredential>, String> {
        let _permit = self.permits.acquire().await.map_err(|e| e.to_string())?;
        let credential = self
            .base
            .get_credential()
            .await
            .map_err(|error| crate::storage::reason(&error))?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &self.sts.role)
            .append_pair("RoleSessionName", SESSION_NAME)
            .append_pair("DurationSeconds", &LIFE.as_secs().to_string())
            .finish();
        let mut request = HttpRequest::new(HttpRequestBody::from(form.clone()));
        *request.method_mut() = reqwest::Method::POST;
        *request.uri_mut() = self
            .sts
            .endpoint
            .parse()
            .map_err(|_| format!("{:?} is no address", self.sts.endpoint))?;
        let content_type = reqwest::header::HeaderValue::from_static(
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        request
            .headers_mut()
            .insert(reqwest::header::CONTENT_TYPE, content_type);
        AwsAuthorizer::new(&credential, "sts", &self.sts.region)
            .try_authorize(&mut request, None)
            .map_err(|error| crate::storage::reason(&error))?;
        let answer = self
            .client
            .post(&self.sts.endpoint)
            .headers(request.headers().clone())
            .timeout(TIME_LIMIT)
            .body(form)
            .send()
            .await
            .map_err(|error| crate::storage::reason(&error.without_url()))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|error| crate::storage::reason(&error.without_url()))?;
        if !status.is_success() {
            let code = element(&text, "Code").unwrap_or_default();
            let message = element(&text, "Message").unwrap_or_default();
            return Err(format!("{status} {code} {message}"));
        }
        read(&text).ok_or_else(|| "the answer holds no credentials".to_owned())
    }
}

#[async_trait]
impl CredentialProvider for AssumeRole {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let failed = |message: String| object_store::Error::Generic {
            store: "S3",
            source: format!("assuming role {}: {message}", self.sts.role).into(),
        };
        if !self.sts.caching {
            return self.ask().await.map_err(failed);
        }
        // Held while asking, so that many jobs at once ask once.
        let mut kept = self.kept.lock().await;
        if let Some((credential, until)) = kept.as_ref()
            && Instant::now() < *until
        {
            return Ok(Arc::clone(credential));
        }
        let credential = self.ask().await.map_err(failed)?;
        *kept = Some((Arc::clone(&credential), Instant::now() + (LIFE - LEFT)));
        Ok(credential)
    }
}

fn read(answer: &str) -> Option<Arc<AwsCredential>> {
    Some(Arc::new(AwsCredential {
        key_id: element(answer, "AccessKeyId")?.to_owned(),
        secret_key: element(answer, "SecretAccessKey")?.to_owned(),
        token: Some(element(answer, "SessionToken")?.to_owned()),
    }))
}

/// Text of the first element of a name. None of those that are asked for has attributes or characters that XML escapes.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests;
