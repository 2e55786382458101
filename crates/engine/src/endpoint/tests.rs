use rstest::rstest;

use super::*;

fn resolve(
    host: &str,
    verify: bool,
    certs: &str,
    env: &[(&str, &str)],
) -> Result<Endpoint, EngineError> {
    Endpoint::resolve(host, verify, certs, |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn tcp(host: &str, port: u16, tls: Tls) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
        tls,
    }
}

#[rstest]
#[case("", false, "", &[], Address::Unix("/var/run/docker.sock".into()))]
#[case("unix:///run/user/1/podman.sock", true, "", &[], Address::Unix("/run/user/1/podman.sock".into()))]
#[case("tcp://h:1", false, "/c", &[], tcp("h", 1, Tls::Off))]
#[case("tcp://h", false, "", &[], tcp("h", 2375, Tls::Off))]
#[case("tcp://h", true, "/c", &[], tcp("h", 2376, Tls::Directory("/c".into())))]
#[case("http://h", false, "", &[], tcp("h", 80, Tls::Off))]
#[case("https://h", false, "", &[], tcp("h", 443, Tls::SystemRoots))]
#[case("https://h:8443/engine/", true, "/c", &[], tcp("h", 8443, Tls::Directory("/c".into())))]
#[case("tcp://[::1]:99", false, "", &[], tcp("::1", 99, Tls::Off))]
#[case("tcp://[fe80::1]", false, "", &[], tcp("fe80::1", 2375, Tls::Off))]
// The environment counts only when the setting is empty.
#[case("", false, "", &[("DOCKER_HOST", "tcp://e:1")], tcp("e", 1, Tls::Off))]
#[case("tcp://h:1", false, "", &[("DOCKER_HOST", "tcp://e:1"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/e")], tcp("h", 1, Tls::Off))]
#[case("", false, "", &[("DOCKER_HOST", "tcp://e"), ("DOCKER_TLS_VERIFY", "true"), ("DOCKER_CERT_PATH", "/e")], tcp("e", 2376, Tls::Directory("/e".into())))]
#[case("", false, "", &[("DOCKER_HOST", "tcp://e"), ("DOCKER_TLS_VERIFY", "yes")], tcp("e", 2375, Tls::Off))]
#[case("", false, "", &[("DOCKER_HOST", "")], Address::Unix("/var/run/docker.sock".into()))]
// Settings of the file hold also when the host comes from the environment.
#[case("", true, "/c", &[("DOCKER_HOST", "tcp://e")], tcp("e", 2376, Tls::Directory("/c".into())))]
#[case("", true, "/c", &[("DOCKER_HOST", "tcp://e"), ("DOCKER_CERT_PATH", "/e")], tcp("e", 2376, Tls::Directory("/c".into())))]
fn settings_and_environment_give_an_address(
    #[case] host: &str,
    #[case] verify: bool,
    #[case] certs: &str,
    #[case] env: &[(&str, &str)],
    #[case] address: Address,
) {
    assert_eq!(resolve(host, verify, certs, env).unwrap().address, address);
}

#[test]
fn base_path_pin_and_display_are_kept() {
    let env = [("DOCKER_API_VERSION", "1.41")];
    let endpoint = resolve("tcp://h:1/engine/", false, "", &env).unwrap();
    assert_eq!(endpoint.base_path, "/engine");
    assert_eq!(endpoint.pinned.as_deref(), Some("1.41"));
    assert_eq!(endpoint.display(), "tcp://h:1/engine/");
    assert_eq!(resolve("tcp://h:1/", false, "", &[]).unwrap().base_path, "");
}

#[rstest]
#[case("/var/run/docker.sock", false, "a scheme is missing")]
#[case(
    "npipe:////./pipe/docker_engine",
    false,
    "named pipes exist on Windows only"
)]
#[case("ssh://h", false, "scheme \"ssh\" is not supported")]
#[case("fd://", false, "scheme \"fd\" is not supported")]
#[case("unix://", false, "path of the socket is missing")]
#[case("tcp://", false, "\"\" is not a host")]
#[case("tcp://h:port", false, "\"h:port\" is not a host")]
#[case("tcp://h:99999", false, "\"h:99999\" is not a host")]
#[case("tcp://::1:5", false, "\"::1:5\" is not a host")]
#[case("tcp://[::1]x", false, "\"[::1]x\" is not a host")]
#[case("tcp://h", true, "tls_cert_path is empty")]
fn a_host_that_cannot_be_used_is_named(
    #[case] host: &str,
    #[case] verify: bool,
    #[case] message: &str,
) {
    let error = resolve(host, verify, "", &[]).unwrap_err();
    assert!(matches!(error, EngineError::Setup(_)));
    assert!(error.to_string().contains(message), "{error}");
    assert!(error.to_string().contains(host), "{error}");
}
