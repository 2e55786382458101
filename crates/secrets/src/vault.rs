//! HashiCorp Vault and OpenBao: log in with the job's JSON web token, read a field (job-lifecycle §7).

use std::time::Duration;

use gantry_job::{
    Secret, SecretRequest,
    payload::{Opaque, VaultSecret, VaultServer},
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use crate::{error::SecretError, request::Call};

/// The only way to log in.
const JWT: &str = "jwt";
/// A login that ends within this time is not used any more.
const MARGIN: Duration = Duration::from_secs(5);

/// Sessions of one job. One login serves all secrets of a server and role, as long as it may.
pub(crate) struct Sessions<'a> {
    http: &'a reqwest::Client,
    open: Vec<Session>,
}

struct Session {
    server: VaultServer,
    token: Secret,
    /// When it ends; `None`: not by time.
    ends: Option<Instant>,
    /// Requests it is good for; `None`: any number.
    uses: Option<u64>,
}

impl Session {
    fn may_be_used(&self) -> bool {
        self.uses != Some(0) && self.ends.is_none_or(|ends| Instant::now() + MARGIN < ends)
    }
}

impl<'a> Sessions<'a> {
    pub(crate) fn new(http: &'a reqwest::Client) -> Self {
        Self {
            http,
            open: Vec::new(),
        }
    }

    /// The value of a secret's field.
    pub(crate) async fn value(
        &mut self,
        request: &SecretRequest,
        secret: &VaultSecret,
    ) -> Result<String, SecretError> {
        let server = Server::of(&secret.server)?;
        let engine = Engine::of(secret)?;
        let field = secret.field.as_str();
        if field.is_empty() {
            return Err(mistake("`vault:field` is empty"));
        }
        let (token, held) = match self.held(&secret.server) {
            Some(token) => (token, true),
            None => (self.log_in(&server, &secret.server).await?, false),
        };
        let answer = match self.read(&server, &engine, &token).await {
            // It may have been revoked, or used up by somebody's count.
            Err(SecretError::Api { status: 403, .. }) if held => {
                self.open.retain(|session| session.server != secret.server);
                let token = self.log_in(&server, &secret.server).await?;
                self.read(&server, &engine, &token).await
            }
            other => other,
        };
        let not_found = |detail, refused| SecretError::NotFound {
            name: request.name.clone(),
            detail,
            refused,
        };
        let answer = match answer {
            Err(SecretError::Api {
                status: 404,
                what,
                message,
            }) => {
                let detail = format!("{what}: api error: status code 404: {message}");
                return Err(not_found(detail, true));
            }
            other => other?,
        };
        match engine.fields(&answer).and_then(|fields| fields.get(field)) {
            Some(Value::String(text)) => Ok(text.clone()),
            // As JSON: numbers and booleans look as in the peer, lists and maps can be read again.
            Some(other) => Ok(other.to_string()),
            None => {
                let place = format!("no field {field:?} in {}", engine.shown);
                Err(not_found(place, false))
            }
        }
    }

    fn held(&mut self, server: &VaultServer) -> Option<Secret> {
        self.open.retain(Session::may_be_used);
        let session = self.open.iter_mut().find(|one| one.server == *server)?;
        if let Some(uses) = &mut session.uses {
            *uses -= 1;
        }
        Some(session.token.clone())
    }

    async fn log_in(
        &mut self,
        server: &Server<'_>,
        description: &VaultServer,
    ) -> Result<Secret, SecretError> {
        let mount = trimmed(&description.auth.path);
        let what = format!(
            "logging in to Vault at {} (auth/{mount}/login)",
            server.shown
        );
        let url = server.url(&["auth", mount, "login"]);
        let headers = server.headers(None);
        let body = server.login_body();
        let call = |method| Call {
            http: self.http,
            what: &what,
            method,
            url: url.clone(),
            headers: &headers,
            body: Some(&body),
        };
        // Vault takes both, and its clients write by PUT; something in between may let only the other through.
        let answer = match call(Method::PUT).json().await {
            Err(SecretError::Api {
                status: 405 | 501, ..
            }) => call(Method::POST).json().await,
            other => other,
        };
        let answer = answer.map_err(|error| server.explain(error))?;
        let auth = &answer["auth"];
        let Some(token) = auth["client_token"].as_str().filter(|it| !it.is_empty()) else {
            return Err(SecretError::Answer {
                what,
                reason: "the answer holds no token".to_owned(),
            });
        };
        let token = Secret::from(token);
        let seconds = auth["lease_duration"].as_u64().unwrap_or(0);
        self.open.push(Session {
            server: description.clone(),
            token: token.clone(),
            ends: (seconds > 0)
                .then(|| Instant::now().checked_add(Duration::from_secs(seconds)))
                .flatten(),
            uses: match auth["num_uses"].as_u64().unwrap_or(0) {
                0 => None,
                uses => Some(uses.saturating_sub(1)),
            },
        });
        Ok(token)
    }

    async fn read(
        &self,
        server: &Server<'_>,
        engine: &Engine<'_>,
        token: &Secret,
    ) -> Result<Value, SecretError> {
        let what = format!(
            "reading secret {} from Vault at {}",
            engine.shown, server.shown
        );
        let headers = server.headers(Some(token));
        let call = Call {
            http: self.http,
            what: &what,
            method: Method::GET,
            url: server.url(&engine.path),
            headers: &headers,
            body: None,
        };
        call.json().await
    }
}

/// A server's description, checked.
struct Server<'a> {
    base: Url,
    /// Without credentials.
    shown: String,
    namespace: &'a str,
    jwt: &'a str,
    role: Option<&'a Value>,
}

impl<'a> Server<'a> {
    fn of(description: &'a VaultServer) -> Result<Self, SecretError> {
        let url = description.url.trim();
        if url.is_empty() {
            return Err(mistake(
                "`vault:server:url` is empty: set the variable VAULT_SERVER_URL of the project",
            ));
        }
        let base = Url::parse(url)
            .ok()
            .filter(|base| ["http", "https"].contains(&base.scheme()) && base.has_host())
            .ok_or_else(|| mistake("`vault:server:url` is no http or https URL"))?;
        let auth = &description.auth;
        if auth.name != JWT {
            return Err(mistake(format!(
                "the auth method {:?} of Vault is not known, only {JWT:?} is",
                auth.name
            )));
        }
        if trimmed(&auth.path).is_empty() {
            return Err(mistake("`vault:server:auth:path` is empty"));
        }
        let jwt = match auth.data.get(JWT) {
            Some(Opaque(Value::String(jwt))) => jwt.as_str(),
            None | Some(Opaque(Value::Null)) => {
                return Err(mistake(
                    "the auth method of Vault has no `jwt`: missing required key \"jwt\" in `auth:data`",
                ));
            }
            Some(_) => return Err(mistake("`jwt` in the `auth:data` of Vault is no text")),
        };
        if jwt.is_empty() {
            return Err(SecretError::NoToken(
                "the JSON web token for Vault is empty: its variable does not exist in this job; declare it in `id_tokens` and name it in `secrets:token`"
                    .to_owned(),
            ));
        }
        let mut clean = base.clone();
        // Of a URL that can be a base these cannot fail.
        clean.set_username("").ok();
        clean.set_password(None).ok();
        clean.set_query(None);
        clean.set_fragment(None);
        Ok(Self {
            shown: clean.as_str().trim_end_matches('/').to_owned(),
            base,
            namespace: description.namespace.trim(),
            jwt,
            role: auth
                .data
                .get("role")
                .map(|role| &role.0)
                .filter(|role| !role.is_null()),
        })
    }

    /// Below `/v1`, each part cut at its slashes.
    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(
                parts
                    .iter()
                    .flat_map(|part| part.split('/'))
                    .filter(|segment| !segment.is_empty()),
            );
        }
        url
    }

    fn headers<'b>(&'b self, token: Option<&'b Secret>) -> Vec<(&'static str, &'b str)> {
        let mut headers = vec![("x-vault-request", "true")];
        if !self.namespace.is_empty() {
            headers.push(("x-vault-namespace", self.namespace));
        }
        headers.extend(token.map(|token| ("x-vault-token", token.expose())));
        headers
    }

    /// `jwt` and `role`; the peer drops all else, too.
    fn login_body(&self) -> Value {
        let mut body = Map::new();
        body.insert(JWT.to_owned(), json!(self.jwt));
        if let Some(role) = self.role {
            body.insert("role".to_owned(), role.clone());
        }
        Value::Object(body)
    }

    /// Adds to a refused login what is probably wrong with it.
    fn explain(&self, error: SecretError) -> SecretError {
        match error {
            SecretError::Api {
                what,
                status: status @ 400..500,
                message,
            } if self.jwt.starts_with('/') && self.jwt.matches('.').count() != 2 => {
                SecretError::Api {
                    what,
                    status,
                    message: format!(
                        "{message} (what the job logs in with is a path, not a JSON web token: the variable must not be of type file)"
                    ),
                }
            }
            other => other,
        }
    }
}

/// A secrets engine and the secret in it.
struct Engine<'a> {
    /// Parts of the path below `/v1`.
    path: Vec<&'a str>,
    /// For messages.
    shown: String,
    /// The fields are inside of `data`, beside metadata.
    versions: bool,
}

impl<'a> Engine<'a> {
    fn of(secret: &'a VaultSecret) -> Result<Self, SecretError> {
        let mount = trimmed(&secret.engine.path);
        let path = trimmed(&secret.path);
        if mount.is_empty() {
            return Err(mistake("`vault:engine:path` is empty"));
        }
        if path.is_empty() {
            return Err(mistake("`vault:path` is empty"));
        }
        let versions = match secret.engine.name.as_str() {
            "kv-v2" => true,
            "kv-v1" | "generic" => false,
            other => {
                return Err(mistake(format!(
                    "the secrets engine {other:?} of Vault is not known, only \"kv-v2\", \"kv-v1\" and \"generic\" are"
                )));
            }
        };
        let path = match versions {
            true => vec![mount, "data", path],
            false => vec![mount, path],
        };
        Ok(Self {
            shown: format!("{:?}", path.join("/")),
            path,
            versions,
        })
    }

    /// The fields in an answer; `None` where it holds none, as of a version that was deleted.
    fn fields<'b>(&self, answer: &'b Value) -> Option<&'b Map<String, Value>> {
        let data = &answer["data"];
        let data = if self.versions { &data["data"] } else { data };
        data.as_object()
    }
}

fn trimmed(path: &str) -> &str {
    path.trim().trim_matches('/')
}

fn mistake(text: impl Into<String>) -> SecretError {
    SecretError::Mistake(text.into())
}
