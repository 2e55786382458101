//! What is known of the engine: the API version in every path, Docker or Podman, its facts.

use std::sync::{Arc, Mutex, PoisonError};

use gantry_container::{EngineFacts, EngineFlavor};
use hyper::{HeaderMap, Method, header::DATE};
use jiff::fmt::rfc2822;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::{
    HttpEngine,
    client::Call,
    models::{Info, Version},
    path::Path,
};
use crate::EngineError;

/// Oldest API version supported, as in the peer (docker-executor §1.1).
const OLDEST: ApiVersion = ApiVersion(1, 40);
/// Newest API version whose answers are known.
const NEWEST: ApiVersion = ApiVersion(1, 51);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion(u32, u32);

/// The outcome of a negotiation.
pub(super) struct Session {
    api: ApiVersion,
    prefix: String,
    pub(super) flavor: EngineFlavor,
    facts: OnceCell<EngineFacts>,
}

/// The current session, negotiated by whoever needs it first.
pub(super) struct Sessions {
    pinned: Option<ApiVersion>,
    current: Mutex<Option<Arc<Session>>>,
    negotiating: AsyncMutex<()>,
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    fn supported(self) -> Result<Self, EngineError> {
        if self >= OLDEST {
            return Ok(self);
        }
        Err(EngineError::Setup(format!(
            "API version {self} is not supported by this client: the minimum supported API version is {OLDEST}"
        )))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Session {
    /// Starts a request path.
    pub(super) fn path(&self, fixed: &str) -> Path {
        Path::new(&self.prefix, fixed)
    }

    /// Whether the content type of a hijacked stream tells raw from framed output.
    pub(super) fn types_streams(&self) -> bool {
        self.api >= ApiVersion(1, 42)
    }
}

impl Sessions {
    pub(super) fn new(pinned: Option<String>) -> Result<Self, EngineError> {
        let pinned = match pinned {
            None => None,
            Some(text) => Some(
                ApiVersion::parse(&text)
                    .ok_or_else(|| {
                        EngineError::Setup(format!(
                            "DOCKER_API_VERSION {text:?} is not a version like 1.41"
                        ))
                    })?
                    .supported()?,
            ),
        };
        Ok(Self {
            pinned,
            current: Mutex::default(),
            negotiating: AsyncMutex::default(),
        })
    }

    fn get(&self) -> Option<Arc<Session>> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn forget(&self) {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl HttpEngine {
    /// The session; negotiates if there is none.
    pub(super) async fn session(&self) -> Result<Arc<Session>, EngineError> {
        let sessions = &self.inner.sessions;
        if let Some(session) = sessions.get() {
            return Ok(session);
        }
        let _one = sessions.negotiating.lock().await;
        if let Some(session) = sessions.get() {
            return Ok(session);
        }
        let session = Arc::new(self.negotiate().await?);
        let mut current = sessions
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn negotiate(&self) -> Result<Session, EngineError> {
        let headers = self.ask_ping().await?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let podman = headers.contains_key("Libpod-API-Version")
            || text("Server").is_some_and(|server| server.starts_with("Libpod/"));
        let api = match self.inner.sessions.pinned {
            Some(pinned) => pinned,
            None => {
                let offered = match text("Api-Version") {
                    Some(version) => version.to_owned(),
                    None => {
                        self.unversioned::<Version>("version", "/version")
                            .await?
                            .api_version
                    }
                };
                let offered = ApiVersion::parse(&offered).ok_or_else(|| EngineError::Garbled {
                    what: "negotiate the API version".to_owned(),
                    message: format!("API version {offered:?}"),
                })?;
                offered.supported()?.min(NEWEST)
            }
        };
        Ok(Session {
            api,
            prefix: format!("/v{api}"),
            flavor: if podman {
                EngineFlavor::Podman
            } else {
                EngineFlavor::Docker
            },
            facts: OnceCell::new(),
        })
    }

    async fn ask_ping(&self) -> Result<HeaderMap, EngineError> {
        let call = Call::new("ping".to_owned(), Method::GET, "/_ping".to_owned());
        let answer = self.ask(call).await?;
        let headers = answer.headers.clone();
        answer.good("ping")?;
        Ok(headers)
    }

    pub(super) async fn ping_engine(&self) -> Result<(), EngineError> {
        self.ask_ping().await.map(drop)
    }

    /// Every answer is dated by the engine's clock.
    pub(super) async fn ask_time(&self) -> Result<i64, EngineError> {
        let headers = self.ask_ping().await?;
        let date = headers.get(DATE).and_then(|value| value.to_str().ok());
        let parsed = date.and_then(|date| rfc2822::parse(date).ok());
        parsed
            .map(|date| date.timestamp().as_second())
            .ok_or_else(|| EngineError::Garbled {
                what: "ask for the time".to_owned(),
                message: format!("date {:?}", date.unwrap_or_default()),
            })
    }

    async fn unversioned<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<T, EngineError> {
        let call = Call::new(what.to_owned(), Method::GET, path.to_owned());
        self.ask(call).await?.model(what)
    }

    pub(super) async fn ask_facts(&self) -> Result<EngineFacts, EngineError> {
        let session = self.session().await?;
        let facts = session.facts.get_or_try_init(|| async {
            let version = self
                .call("version".to_owned(), Method::GET, |s| s.path("/version"))
                .await?;
            let info = self
                .call("info".to_owned(), Method::GET, |s| s.path("/info"))
                .await?;
            let (version, info) = tokio::try_join!(self.ask(version), self.ask(info))?;
            let (version, info): (Version, Info) = (version.model("version")?, info.model("info")?);
            let podman = version
                .components
                .into_iter()
                .find(|part| part.name == "Podman Engine");
            Ok(EngineFacts {
                flavor: session.flavor,
                version: podman.map_or(version.version, |podman| podman.version),
                api_version: session.api.to_string(),
                os: info.os_type,
                architecture: info.architecture,
                host_name: info.name,
            })
        });
        facts.await.cloned()
    }
}
