//! Runners come and go: registration, verification, new tokens.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::RecordedRequest;
use super::book::{Book, Reply};

/// The registration token of legacy registrations.
pub(super) const TOKEN: &str = "GR1348941testkitRegistration";
/// The access token of a user who may reset runners' tokens.
pub(super) const ACCESS_TOKEN: &str = "glpat-testkitAccess";

/// What the server knows of runners besides their tokens.
#[derive(Default)]
pub(super) struct Registrations {
    ids: BTreeMap<String, i64>,
    given: i64,
    pub(super) lifetime: Option<Duration>,
}

impl Registrations {
    fn id_of(&mut self, token: &str) -> i64 {
        let next = 42 + self.ids.len() as i64;
        *self.ids.entry(token.to_owned()).or_insert(next)
    }

    /// `token_expires_at`, whole seconds in UTC.
    fn expires_at(&self) -> Value {
        let Some(lifetime) = self.lifetime else {
            return Value::Null;
        };
        let at = SystemTime::now() + lifetime;
        let at = Timestamp::try_from(at).expect("a date of this era");
        format!("{at:.0}").into()
    }
}

impl Book {
    /// `POST runners`.
    pub(super) fn register_runner(&mut self, body: &Bytes) -> Reply {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        if asked["token"] != TOKEN {
            return Reply::message(403, "403 Forbidden - invalid token supplied");
        }
        if !(asked["run_untagged"].is_boolean() && asked["locked"].is_boolean()) {
            return Reply::message(400, "400 Bad request - run_untagged and locked are missing");
        }
        if asked["run_untagged"] == false && asked["tag_list"].as_str().unwrap_or_default() == "" {
            let body = json!({"message": {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}});
            return with(400, &body);
        }
        self.give("glrtr-testkitRegistered")
    }

    /// `POST runners/verify`.
    pub(super) fn verify_runner(&mut self, request: &RecordedRequest) -> Reply {
        let asked = request.json();
        let Some(token) = self.known(request, &asked) else {
            return Reply::message(403, "403 Forbidden");
        };
        if !asked["info"]["features"].is_object() {
            return Reply::message(400, "400 Bad request - info is not complete");
        }
        let id = self.registrations.id_of(&token);
        let expires = self.registrations.expires_at();
        with(
            200,
            &json!({"id": id, "token": token, "token_expires_at": expires}),
        )
    }

    /// `DELETE runners`.
    pub(super) fn unregister_runner(&mut self, request: &RecordedRequest) -> Reply {
        let Some(token) = self.known(request, &request.json()) else {
            return Reply::message(403, "403 Forbidden");
        };
        self.runner_tokens.remove(&token);
        Reply::new(204)
    }

    /// `DELETE runners/managers`: the runner itself stays.
    pub(super) fn unregister_manager(&mut self, request: &RecordedRequest) -> Reply {
        let asked = request.json();
        if self.known(request, &asked).is_none() {
            return Reply::message(403, "403 Forbidden");
        }
        if asked["system_id"].as_str().unwrap_or_default().is_empty() {
            return Reply::message(400, "400 Bad request - system_id is missing");
        }
        Reply::new(204)
    }

    /// `POST runners/reset_authentication_token` and `POST runners/:id/reset_authentication_token`.
    pub(super) fn reset_token(&mut self, request: &RecordedRequest) -> Reply {
        let asked = request.json();
        let id = request.path.rsplit('/').nth(1);
        let old = match id.and_then(|id| id.parse::<i64>().ok()) {
            Some(id) => {
                if request.header("private-token") != Some(ACCESS_TOKEN) || !asked.is_null() {
                    return Reply::message(403, "403 Forbidden");
                }
                let ids = self.registrations.ids.iter();
                let mut found = ids.filter(|(_, of)| **of == id).map(|(token, _)| token);
                found
                    .rfind(|token| self.runner_tokens.contains(*token))
                    .cloned()
            }
            None => self.known(request, &asked),
        };
        let Some(old) = old else {
            return Reply::message(403, "403 Forbidden");
        };
        self.runner_tokens.remove(&old);
        let id = self.registrations.id_of(&old);
        let kind = if old.starts_with("glrt-") {
            "glrt-testkitReset"
        } else {
            "glrtr-testkitReset"
        };
        let token = self.new_token(kind);
        self.registrations.ids.insert(token.clone(), id);
        let expires = self.registrations.expires_at();
        with(201, &json!({"token": token, "token_expires_at": expires}))
    }

    fn give(&mut self, kind: &str) -> Reply {
        let token = self.new_token(kind);
        let id = self.registrations.id_of(&token);
        let expires = self.registrations.expires_at();
        with(
            201,
            &json!({"id": id, "token": token, "token_expires_at": expires}),
        )
    }

    /// Short tokens differ, as real ones do.
    fn new_token(&mut self, kind: &str) -> String {
        self.registrations.given += 1;
        let (prefix, name) = kind.split_once('-').unwrap_or(("glrt", kind));
        let token = format!("{prefix}-{}{name}", self.registrations.given);
        self.runner_tokens.insert(token.clone());
        token
    }

    /// The accepted token of a request; header and body must agree.
    fn known(&self, request: &RecordedRequest, asked: &Value) -> Option<String> {
        let token = asked["token"].as_str()?;
        let header = request.header("runner-token");
        (header == Some(token) && self.runner_tokens.contains(token)).then(|| token.to_owned())
    }
}

fn with(status: u16, body: &Value) -> Reply {
    let mut reply = Reply::new(status);
    reply.body = Some(body.to_string().into());
    reply
}
