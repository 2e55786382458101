use std::{path::Path, sync::Arc};

use gantry_engine::{Endpoint, Engine, EngineError, HttpEngine};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use crate::support::{assert_same, hostile_bytes, lab_on, skip, socket};

/// A certificate authority with one server and one client certificate, as files of `tls_cert_path`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Certificate and key.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    fn client_files(&self, directory: &Path) {
        let (cert, key) = self.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(directory.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(directory.join("cert.pem"), cert).unwrap();
        std::fs::write(directory.join("key.pem"), key).unwrap();
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let (cert, key) = authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A listener that speaks TLS, or plain TCP without an acceptor, before the engine's socket; returns its port.
async fn serve(engine: &Path, acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let engine = engine.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (engine, acceptor) = (engine.clone(), acceptor.clone());
            tokio::spawn(async move {
                let mut engine = UnixStream::connect(engine).await.unwrap();
                match acceptor {
                    None => {
                        let mut client = client;
                        drop(tokio::io::copy_bidirectional(&mut client, &mut engine).await);
                    }
                    Some(acceptor) => {
                        let Ok(mut client) = acceptor.accept(client).await else {
                            return;
                        };
                        drop(tokio::io::copy_bidirectional(&mut client, &mut engine).await);
                    }
                }
            });
        }
    });
    port
}

fn engine(host: &str, certs: &Path) -> Result<HttpEngine, EngineError> {
    HttpEngine::new(Endpoint::resolve(
        host,
        true,
        certs.to_str().unwrap(),
        |_| None,
    )?)
}

/// Streams with half-close over this transport.
async fn exercise(engine: HttpEngine, test: &str) {
    lab_on(engine, test, async |lab| {
        let bytes = hostile_bytes(5, 20);
        let id = lab.create("c", &["sh", "-c", "cat; exit 8"]).await;
        let ran = lab.run(&id, &bytes).await;
        assert_same(&ran.stdout, &bytes);
        assert_eq!(ran.exit_code, 8);
        lab.engine.container_remove(&id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_engine_behind_tls_works_with_its_own_authority() {
    let Some(socket) = socket() else {
        return skip("tls", "no unix socket to test");
    };
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    authority.client_files(files.path());
    let port = serve(&socket, Some(acceptor(&authority))).await;
    exercise(
        engine(&format!("tcp://127.0.0.1:{port}"), files.path()).unwrap(),
        "tls",
    )
    .await;
}

#[tokio::test]
async fn an_engine_behind_plain_tcp_works() {
    let Some(socket) = socket() else {
        return skip("tcp", "no unix socket to test");
    };
    let port = serve(&socket, None).await;
    let endpoint =
        Endpoint::resolve(&format!("tcp://127.0.0.1:{port}"), false, "", |_| None).unwrap();
    exercise(HttpEngine::new(endpoint).unwrap(), "tcp").await;
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_refused() {
    let Some(socket) = socket() else {
        return skip("tls-wrong", "no unix socket to test");
    };
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    ours.client_files(files.path());
    let port = serve(&socket, Some(acceptor(&theirs))).await;
    let wrong = engine(&format!("tcp://127.0.0.1:{port}"), files.path()).unwrap();
    let error = wrong.ping().await.unwrap_err();
    assert!(
        error.is_unreachable() && error.to_string().contains("certificate"),
        "{error}"
    );
    let port = serve(&socket, Some(acceptor(&ours))).await;
    let wrong = engine(&format!("tcp://localhost:{port}"), files.path()).unwrap();
    let error = wrong.ping().await.unwrap_err();
    assert!(
        error.is_unreachable() && error.to_string().contains("certificate"),
        "{error}"
    );
}

#[test]
fn a_tls_file_that_is_missing_or_broken_is_named() {
    let authority = Authority::new();
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        for broken in [
            None,
            Some("no pem"),
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ] {
            let files = tempfile::tempdir().unwrap();
            authority.client_files(files.path());
            let path = files.path().join(file);
            match broken {
                None => std::fs::remove_file(&path).unwrap(),
                Some(text) => std::fs::write(&path, text).unwrap(),
            }
            let error = engine("tcp://127.0.0.1:1", files.path()).unwrap_err();
            assert!(matches!(error, EngineError::Setup(_)));
            assert!(error.to_string().contains(file), "{broken:?}: {error}");
        }
    }
}
