//! The session server: GitLab connects to it for a job's interactive web terminal (cli §9).
//!
//! Each job request carries a session of its own, an address nobody can guess and a token; a job that is taken opens it
//! ([`Sessions::open`]), its end closes it. Sessions are of this process: a job that the next one takes up has none.
//!
//! | Module | Owns |
//! |---|---|
//! | `certificate` | the certificate of this start |
//! | `request` | pure: whose session a request is for, and whether it opens a WebSocket |
//! | `wire` | pure: what goes through a terminal as WebSocket messages |
//! | `serve` | listening, within bounds; the answer to a request |
//! | `terminal` | an open terminal: from the WebSocket to a shell in the build container and back |

mod certificate;
mod request;
mod serve;
mod terminal;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_config::{HostPort, SessionServerConfig};
use gantry_executor::{TerminalPort, TerminalSettings};
use gantry_gitlab::SessionInfo;
use gantry_job::Secret;
use rand::{TryRngCore as _, rngs::OsRng};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;

use crate::observe::{Happened, ObservedJob};

pub(crate) use serve::serve;

/// Bytes of the random parts: address and token.
const RANDOM_BYTES: usize = 32;

/// A session server that listens, and does not answer yet.
pub struct SessionServer {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    /// PEM.
    certificate: String,
    /// `https://host:port`
    url: String,
}

/// Why there is no session server.
#[derive(Debug, thiserror::Error)]
pub enum SessionServerError {
    /// The address is in use, is none of this machine, or its name is unknown.
    #[error("listen on {address} for terminals: {source}")]
    Bind {
        /// `[session_server] listen_address`.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The host cannot stand in a certificate.
    #[error("no certificate for terminals can be made for {host:?}: {why}")]
    Certificate {
        /// Host that GitLab connects to.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for terminals: {0}")]
    Random(String),
}

impl SessionServer {
    /// Listens, with a certificate for the host that GitLab connects to; `None` where the configuration wants no terminals.
    ///
    /// # Errors
    /// The address cannot be had, or there can be no certificate for the host.
    pub async fn bind(config: &SessionServerConfig) -> Result<Option<Self>, SessionServerError> {
        let Some(address) = &config.listen_address else {
            return Ok(None);
        };
        let bind = |source| SessionServerError::Bind {
            address: address.to_string(),
            source,
        };
        let listener = crate::observe::bind(address).await.map_err(bind)?;
        let mut advertised = config.advertise_address.as_ref().unwrap_or(address).clone();
        if advertised.port == Some(0) {
            advertised.port = Some(listener.local_addr().map_err(bind)?.port());
        }
        let (tls, certificate) =
            certificate::make(&advertised.host).map_err(|why| SessionServerError::Certificate {
                host: advertised.host.clone(),
                why,
            })?;
        // Asked here, where the answer can end the start: later there is no way back.
        random_word().map_err(SessionServerError::Random)?;
        Ok(Some(Self {
            listener,
            tls,
            certificate,
            url: format!("https://{advertised}"),
        }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// What GitLab connects to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether only this machine, or none, can connect to what GitLab is told.
    #[must_use]
    pub fn advertises_no_host(&self) -> bool {
        let host = self.url.strip_prefix("https://").unwrap_or_default();
        let host = host.parse::<HostPort>().map(|address| address.host);
        matches!(host.as_deref(), Ok("0.0.0.0" | "::"))
    }
}

impl fmt::Debug for SessionServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionServer")
            .field("listener", &self.listener)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Sessions of this process.
pub(crate) struct Sessions {
    certificate: String,
    url: String,
    open: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// What a server is offered with a job request.
pub(crate) struct Offer {
    id: String,
    token: Secret,
}

/// A job's session.
pub(crate) struct Session {
    job: i64,
    token: Secret,
    port: Arc<TerminalPort>,
    observed: ObservedJob,
}

/// A session that can be connected to until this is dropped.
pub(crate) struct OpenSession {
    sessions: Arc<Sessions>,
    id: String,
    session: Arc<Session>,
}

impl Sessions {
    pub(crate) fn of(server: &SessionServer) -> Arc<Self> {
        Arc::new(Self {
            certificate: server.certificate.clone(),
            url: server.url.clone(),
            open: Mutex::default(),
        })
    }

    /// What GitLab connects to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A session for a job request; `None` if the system gives no random bytes.
    pub(crate) fn offer(&self) -> Option<Offer> {
        let made = random_word().and_then(|id| Ok((id, random_word()?)));
        match made {
            Ok((id, token)) => Some(Offer {
                id,
                token: Secret::new(token),
            }),
            Err(error) => {
                tracing::error!(%error, "no random bytes: the next job has no terminal");
                None
            }
        }
    }

    /// The offer as a server is told.
    pub(crate) fn info(&self, offer: &Offer) -> SessionInfo {
        SessionInfo {
            url: format!("{}/session/{}", self.url, offer.id),
            certificate: self.certificate.clone(),
            authorization: offer.token.clone(),
        }
    }

    /// A job came with the offer.
    pub(crate) fn open(
        self: &Arc<Self>,
        offer: Offer,
        job: i64,
        observed: ObservedJob,
        settings: impl Fn() -> TerminalSettings + Send + Sync + 'static,
    ) -> OpenSession {
        let session = Arc::new(Session {
            job,
            token: offer.token,
            port: TerminalPort::new(settings),
            observed,
        });
        self.lock().insert(offer.id.clone(), Arc::clone(&session));
        OpenSession {
            sessions: Arc::clone(self),
            id: offer.id,
            session,
        }
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether the bytes are the token, in a time that does not tell how much of it they are.
    fn admits(&self, token: Option<&[u8]>) -> bool {
        token.is_some_and(|token| self.token.expose().as_bytes().ct_eq(token).into())
    }

    fn tell(&self, connected: bool) {
        self.observed.tell(Happened::Terminal { connected });
    }
}

impl OpenSession {
    /// Where the executor tells of the build container.
    pub(crate) fn port(&self) -> Arc<TerminalPort> {
        Arc::clone(&self.session.port)
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
        self.session
            .port
            .let_go("this process of the runner lets go of the job");
    }
}

/// 64 hexadecimal digits that nobody can guess.
fn random_word() -> Result<String, String> {
    let mut bytes = [0; RANDOM_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| error.to_string())?;
    let mut word = String::with_capacity(2 * RANDOM_BYTES);
    for byte in bytes {
        // Writing to a string cannot fail.
        write!(word, "{byte:02x}").ok();
    }
    Ok(word)
}
