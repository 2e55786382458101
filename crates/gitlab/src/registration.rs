//! Calls about runners themselves: register, verify, unregister, reset the token (coordinator-api §3). Made by an operator's
//! commands and by token rotation, never by a job.

use std::time::SystemTime;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::answer::{error_message, is_json};
use crate::client::{Request, Response, json_headers};
use crate::coordinator::{json, token_header};
use crate::retry::ATTEMPTS;
use crate::{CallFailure, Coordinator, Endpoint, RunnerInfo};

/// Whether a token was made in GitLab itself: settings of such a runner are the server's, and unregistering it removes this manager
/// alone (coordinator-api §2 "Token kinds").
#[must_use]
pub fn is_created_token(token: &str) -> bool {
    token.starts_with("glrt-")
}

/// What a legacy registration asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegistrationSettings {
    /// Shown in GitLab.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Shown in GitLab to administrators.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Tags between commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_list: String,
    /// Takes jobs without tags.
    pub run_untagged: bool,
    /// For its project alone.
    pub locked: bool,
    /// `not_protected`, `ref_protected` or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Longest time of a job in seconds; 0: no limit of its own.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: i64,
    /// Takes no jobs yet.
    pub paused: bool,
}

/// A runner as the server knows it.
#[derive(Debug, Clone)]
pub struct RegisteredRunner {
    /// Its number; 0 from servers that do not say.
    pub id: i64,
    /// Its authentication token; empty from servers that do not repeat it.
    pub token: SecretString,
    /// When the token ends; `None`: never.
    pub token_expires_at: Option<SystemTime>,
}

/// What the server says of a token.
#[derive(Debug, Clone)]
pub enum Verified {
    /// It is good.
    Valid(RegisteredRunner),
    /// It is not (403).
    Invalid,
    /// The server did not say: it may be good. Nothing may be deleted for this.
    Unknown(CallFailure),
}

impl Coordinator {
    /// `POST runners`: makes a runner, with the client's token as registration token.
    ///
    /// # Errors
    /// Refused, or no usable answer.
    pub async fn register_runner(
        &self,
        settings: &RegistrationSettings,
        info: &RunnerInfo,
    ) -> Result<RegisteredRunner, CallFailure> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            settings: &'a RegistrationSettings,
            info: &'a RunnerInfo,
            token: &'a str,
        }
        // As the peer: what is registered here has neither executor nor shell yet.
        let info = RunnerInfo {
            executor: String::new(),
            shell: String::new(),
            ..info.clone()
        };
        let body = Body {
            settings,
            info: &info,
            token: self.token(),
        };
        let request = self.runner_request(Endpoint::RegisterRunner, "runners".into(), &body, 201);
        let result = self.send(&request).await.and_then(|answer| match answer {
            response if response.status == 201 => runner(Endpoint::RegisterRunner, &response),
            response => Err(response.failure(Endpoint::RegisterRunner)),
        });
        match &result {
            Ok(_) => info!(
                runner = self.short_token(),
                "Registering runner... succeeded"
            ),
            Err(failure) if failure.status() == Some(403) => error!(
                runner = self.short_token(),
                error = %failure,
                "Registering runner... forbidden (check registration token)"
            ),
            Err(failure) => {
                error!(runner = self.short_token(), error = %failure, "Registering runner... failed");
            }
        }
        result
    }

    /// `POST runners/verify`. `info` must be complete: the server makes its record of this manager from it.
    pub async fn verify_runner(&self, info: &RunnerInfo, system_id: &str) -> Verified {
        const ENDPOINT: Endpoint = Endpoint::VerifyRunner;
        #[derive(Serialize)]
        struct Body<'a> {
            info: &'a RunnerInfo,
            token: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            system_id: &'a str,
        }
        let created = is_created_token(self.token());
        let body = Body {
            info,
            token: self.token(),
            system_id,
        };
        let request = self.runner_request(ENDPOINT, "runners/verify".into(), &body, 200);
        let short = self.short_token();
        match self.send(&request).await {
            Ok(response) if response.status == 200 => {
                // Old servers answer in plain text; what they mean is the status.
                let verified = if is_json(&response.headers) {
                    match runner(ENDPOINT, &response) {
                        Ok(runner) => runner,
                        Err(failure) => {
                            warn!(runner = short, error = %failure, "Verifying runner... failed");
                            return Verified::Unknown(failure);
                        }
                    }
                } else if looks_like_a_page(&response) {
                    let failure = response.wrong_type(ENDPOINT);
                    warn!(runner = short, error = %failure, "Verifying runner... failed");
                    return Verified::Unknown(failure);
                } else {
                    RegisteredRunner {
                        id: 0,
                        token: SecretString::default(),
                        token_expires_at: None,
                    }
                };
                if created {
                    info!(runner = short, "Verifying runner... is valid");
                } else {
                    info!(runner = short, "Verifying runner... is alive");
                }
                Verified::Valid(verified)
            }
            Ok(response) if response.status == 403 => {
                let message = error_message(&response.headers, &response.body);
                if created {
                    error!(
                        runner = short,
                        error = message,
                        "Verifying runner... is not valid"
                    );
                } else {
                    error!(
                        runner = short,
                        error = message,
                        "Verifying runner... is removed"
                    );
                }
                Verified::Invalid
            }
            Ok(response) => {
                let failure = response.failure(ENDPOINT);
                error!(runner = short, error = %failure, "Verifying runner... failed");
                Verified::Unknown(failure)
            }
            Err(failure) => {
                error!(runner = short, error = %failure, "Verifying runner... client error");
                Verified::Unknown(failure)
            }
        }
    }

    /// `DELETE runners`, or `DELETE runners/managers` for a token made in GitLab: then other managers of the runner stay.
    ///
    /// # Errors
    /// Refused, or no usable answer.
    pub async fn unregister_runner(&self, system_id: &str) -> Result<(), CallFailure> {
        #[derive(Serialize)]
        struct Body<'a> {
            token: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            system_id: &'a str,
        }
        let created = is_created_token(self.token());
        let (endpoint, path, what, system_id) = if created {
            let path = "runners/managers";
            (
                Endpoint::UnregisterManager,
                path,
                "Unregistering runner manager from GitLab...",
                system_id,
            )
        } else {
            let path = "runners";
            (
                Endpoint::UnregisterRunner,
                path,
                "Unregistering runner from GitLab...",
                "",
            )
        };
        let body = Body {
            token: self.token(),
            system_id,
        };
        let request = self.runner_request(endpoint, path.into(), &body, 0);
        let short = self.short_token();
        match self.send(&request).await {
            Ok(response) if response.status == 204 => {
                info!(runner = short, "{what} succeeded");
                Ok(())
            }
            Ok(response) => {
                let failure = response.failure(endpoint);
                let how = if response.status == 403 {
                    "forbidden"
                } else {
                    "failed"
                };
                error!(runner = short, error = %failure, "{what} {how}");
                Err(failure)
            }
            Err(failure) => {
                error!(runner = short, error = %failure, "{what} client error");
                Err(failure)
            }
        }
    }

    /// `POST runners/reset_authentication_token`: the client's token ends, the answer holds its successor.
    ///
    /// # Errors
    /// Refused, or no usable answer. If no answer came at all, the server may have changed the token all the same.
    pub async fn reset_token(&self) -> Result<RegisteredRunner, CallFailure> {
        #[derive(Serialize)]
        struct Body<'a> {
            token: &'a str,
        }
        let path = "runners/reset_authentication_token".to_owned();
        let body = Body {
            token: self.token(),
        };
        self.reset(self.runner_request(Endpoint::ResetToken, path, &body, 201))
            .await
    }

    /// The same by number, with a user's access token instead of the runner's own.
    ///
    /// # Errors
    /// As [`Coordinator::reset_token`].
    pub async fn reset_token_of(
        &self,
        id: i64,
        access_token: &SecretString,
    ) -> Result<RegisteredRunner, CallFailure> {
        let path = format!("runners/{id}/reset_authentication_token");
        let mut request = self.runner_request(Endpoint::ResetTokenOf, path, &(), 201);
        request.auth = ("private-token", token_header(access_token.expose_secret()));
        self.reset(request).await
    }

    async fn reset(&self, request: Request) -> Result<RegisteredRunner, CallFailure> {
        let endpoint = request.endpoint;
        let result = self.send(&request).await.and_then(|answer| match answer {
            response if response.status == 201 => {
                let runner = runner(endpoint, &response)?;
                if runner.token.expose_secret().is_empty() {
                    return Err(response.unreadable(endpoint, "no token in it"));
                }
                Ok(runner)
            }
            response => Err(response.failure(endpoint)),
        });
        let short = self.short_token();
        match &result {
            Ok(_) => info!(
                runner = short,
                "Resetting runner authentication token... succeeded"
            ),
            Err(failure) if failure.status() == Some(403) => error!(
                runner = short,
                error = %failure,
                "Resetting runner authentication token... failed (check used token)"
            ),
            Err(failure) => error!(
                runner = short,
                error = %failure,
                "Resetting runner authentication token... failed"
            ),
        }
        result
    }

    fn runner_request(
        &self,
        endpoint: Endpoint,
        path: String,
        body: &impl Serialize,
        body_on: u16,
    ) -> Request {
        Request {
            endpoint,
            path,
            auth: ("runner-token", token_header(self.token())),
            headers: json_headers(body_on != 0),
            body: json(body),
            body_on: (body_on != 0).then_some(body_on),
            attempts: ATTEMPTS,
        }
    }
}

/// The answer to a call that makes or names a runner.
fn runner(endpoint: Endpoint, response: &Response) -> Result<RegisteredRunner, CallFailure> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        id: i64,
        #[serde(default)]
        token: SecretString,
        #[serde(default)]
        token_expires_at: Option<String>,
    }
    if !is_json(&response.headers) {
        return Err(response.wrong_type(endpoint));
    }
    let body: Body = serde_json::from_slice(&response.body)
        // What serde quotes could be the token.
        .map_err(|_| response.unreadable(endpoint, "not the JSON of a runner"))?;
    let token_expires_at = match body.token_expires_at.as_deref() {
        None | Some("") => None,
        Some(text) => {
            let no_time = || response.unreadable(endpoint, "token_expires_at is no time");
            let time: Timestamp = text.parse().map_err(|_| no_time())?;
            Some(SystemTime::try_from(time).map_err(|_| no_time())?)
        }
    };
    Ok(RegisteredRunner {
        id: body.id,
        token: body.token,
        token_expires_at,
    })
}

/// A web page instead of an answer: a proxy, a login, a wrong address.
fn looks_like_a_page(response: &Response) -> bool {
    let body = response.body.trim_ascii_start();
    body.first() == Some(&b'<')
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_says_what_was_given_and_three_booleans() {
        let settings = RegistrationSettings {
            tag_list: "docker,linux".to_owned(),
            locked: true,
            ..RegistrationSettings::default()
        };
        assert_eq!(
            serde_json::to_value(&settings).unwrap(),
            serde_json::json!({"tag_list": "docker,linux", "run_untagged": false, "locked": true, "paused": false})
        );
    }

    #[test]
    fn only_one_prefix_makes_a_created_token() {
        assert!(is_created_token("glrt-abc"));
        assert!(is_created_token("glrt-t1_abc"));
        assert!(!is_created_token("glrtr-abc"));
        assert!(!is_created_token("GR1348941abc"));
    }
}
