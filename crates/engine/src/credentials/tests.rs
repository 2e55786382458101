use async_trait::async_trait;
use base64::Engine as _;
use rstest::rstest;

use super::*;

/// A helper program as a table: (program, registry, user, password); `!` as user fails, as program of a list fails it.
struct Table(Vec<(&'static str, &'static str, &'static str, &'static str)>);

#[async_trait]
impl CredentialHelper for Table {
    async fn list(&self, program: &str) -> Result<Vec<String>, HelperError> {
        if program == "broken" {
            let (program, message) = (program.to_owned(), "no keyring".to_owned());
            return Err(HelperError::Failed {
                program,
                action: "list",
                message,
            });
        }
        let rows = self.0.iter().filter(|row| row.0 == program);
        Ok(rows.map(|row| row.1.to_owned()).collect())
    }

    async fn get(
        &self,
        program: &str,
        registry: &str,
    ) -> Result<(String, SecretString), HelperError> {
        let row = self
            .0
            .iter()
            .find(|row| row.0 == program && row.1 == registry);
        match row {
            Some(row) if row.2 != "!" => Ok((row.2.to_owned(), row.3.into())),
            _ => Err(HelperError::Failed {
                program: program.to_owned(),
                action: "get",
                message: "credentials not found in native keychain".to_owned(),
            }),
        }
    }
}

fn no_helper() -> Table {
    Table(Vec::new())
}

fn auths(entries: &[(&str, &str)]) -> SecretString {
    let encode = |login: &str| base64::engine::general_purpose::STANDARD.encode(login);
    let entries: Vec<String> = entries
        .iter()
        .map(|(registry, login)| format!(r#""{registry}":{{"auth":"{}"}}"#, encode(login)))
        .collect();
    format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")).into()
}

async fn user(image: &str, sources: &[Source]) -> Option<String> {
    let resolution = resolve(image, sources, &no_helper()).await.unwrap();
    assert!(resolution.warnings.is_empty(), "{:?}", resolution.warnings);
    resolution.auth.map(|auth| auth.username)
}

#[rstest]
#[case("ruby", "docker.io/ruby")]
#[case("ruby:3.3", "docker.io/ruby")]
#[case("library/ruby", "docker.io/library/ruby")]
#[case("index.docker.io/x", "docker.io/x")]
#[case("localhost/x:1", "localhost/x")]
#[case("REG.io:5000/Ns/img:1", "reg.io:5000/Ns/img")]
#[case("reg.io/ns/img@sha256:abc", "reg.io/ns/img")]
#[case("reg.io/ns/img:1@sha256:abc", "reg.io/ns/img")]
fn images_have_a_registry_path(#[case] image: &str, #[case] path: &str) {
    assert_eq!(image_path(image), path);
}

#[rstest]
#[case("https://index.docker.io/v1/", "docker.io")]
#[case("http://Reg.io:5000/v2/x", "reg.io:5000")]
#[case("reg.io", "reg.io")]
#[case("reg.io:5000", "reg.io:5000")]
#[case("Reg.io/ns/", "reg.io/ns")]
#[case("reg.io/ns/img:latest", "reg.io/ns/img")]
#[case("index.docker.io", "docker.io")]
fn credentials_have_a_registry_path(#[case] registry: &str, #[case] path: &str) {
    assert_eq!(credential_path(registry), path);
}

#[rstest]
#[case("reg.io/ns/some/image:1", Some("image"))]
#[case("reg.io/ns/some/image@sha256:0", Some("image"))]
#[case("reg.io/ns/some/other", Some("some"))]
#[case("reg.io/ns/else/image", Some("ns"))]
#[case("reg.io/nsx/image", Some("host"))]
#[case("other.io/ns/image", None)]
#[case("ruby", Some("hub"))]
#[tokio::test]
async fn the_longest_path_prefix_wins(#[case] image: &str, #[case] expected: Option<&str>) {
    let text = auths(&[
        ("https://index.docker.io/v1/", "hub:p"),
        ("reg.io", "host:p"),
        ("reg.io/ns", "ns:p"),
        ("reg.io/ns/some", "some:p"),
        ("reg.io/ns/some/image", "image:p"),
    ]);
    let sources = [Source::auth_config_variable(text)];
    assert_eq!(user(image, &sources).await.as_deref(), expected);
}

#[tokio::test]
async fn earlier_sources_keep_a_path_and_later_ones_may_be_more_specific() {
    let sources = [
        Source::auth_config_variable(auths(&[("reg.io", "variable:p")])),
        Source::file(
            "/home/u/.docker/config.json",
            auths(&[("reg.io", "file:p"), ("x.io", "x:p")]),
        ),
        Source::payload("reg.io/team", "payload", "p".into()),
    ];
    let resolution = resolve("reg.io/app", &sources, &no_helper()).await.unwrap();
    assert_eq!(resolution.auth.unwrap().username, "variable");
    assert_eq!(resolution.source.as_deref(), Some("$DOCKER_AUTH_CONFIG"));
    assert_eq!(
        resolution.notes,
        [
            "Not adding Docker credentials: credentials for \"reg.io\" already set from \"$DOCKER_AUTH_CONFIG\", ignoring credentials from \"/home/u/.docker/config.json\""
        ]
    );
    let resolution = resolve("reg.io/team/app", &sources, &no_helper())
        .await
        .unwrap();
    assert_eq!(
        resolution.source.as_deref(),
        Some("job payload (GitLab Registry)")
    );
    assert_eq!(user("x.io/app", &sources).await.as_deref(), Some("x"));
    let none = resolve("y.io/app", &sources, &no_helper()).await.unwrap();
    assert!(none.auth.is_none());
    assert_eq!(
        none.notes.last().unwrap(),
        "No credentials found for y.io/app"
    );
}

#[tokio::test]
async fn all_forms_of_a_login_are_read() {
    let forms = [
        (
            r#"{"auths":{"r.io":{"username":"u","password":"p:q"}}}"#,
            "u",
            "p:q",
        ),
        (r#"{"auths":{"r.io":{"auth":"dTpwOnE="}}}"#, "u", "p:q"),
        (r#"{"auths":{"r.io":{"auth":"dTpwOnE"}}}"#, "u", "p:q"),
        (
            r#"{"auths":{"r.io":{"auth":"eDp5","identitytoken":"t"}}}"#,
            "<token>",
            "t",
        ),
        (r#"{"r.io":{"auth":"dTpwOnE=","email":"e"}}"#, "u", "p:q"),
    ];
    for (text, username, password) in forms {
        let sources = [Source::auth_config_variable(text.into())];
        let auth = resolve("r.io/x", &sources, &no_helper())
            .await
            .unwrap()
            .auth
            .unwrap();
        assert_eq!(
            (auth.username.as_str(), auth.password.as_str()),
            (username, password)
        );
        assert_eq!(auth.server_address, "r.io");
        assert!(!format!("{sources:?} {auth:?}").contains("p:q"));
    }
    for empty in [
        r#"{"auths":{"r.io":{}}}"#,
        r#"{"auths":{"r.io":null}}"#,
        "{}",
        r#"{"auths":null}"#,
    ] {
        assert_eq!(
            user("r.io/x", &[Source::auth_config_variable(empty.into())]).await,
            None
        );
    }
}

#[tokio::test]
async fn helpers_override_the_store_and_the_store_overrides_auths() {
    let table = Table(vec![
        ("store", "a.io", "store-a", "p"),
        ("store", "https://b.io/v2/", "store-b", "p"),
        ("special", "b.io", "special-b", "p"),
    ]);
    let text = r#"{"auths":{"a.io":{"auth":"eDp5"},"c.io":{"auth":"eDp5"}},"credsStore":"store","credHelpers":{"b.io":"special"}}"#;
    let sources = [Source::auth_config_variable(text.into())];
    for (image, expected) in [
        ("a.io/x", "store-a"),
        ("b.io/x", "special-b"),
        ("c.io/x", "x"),
    ] {
        let resolution = resolve(image, &sources, &table).await.unwrap();
        assert_eq!(resolution.auth.unwrap().username, expected);
    }
}

#[tokio::test]
async fn a_broken_source_is_named_and_the_next_one_used() {
    let fallback = || Source::payload("r.io", "payload", "p".into());
    let cases = [
        ("{not json", "invalid JSON at line 1, column 2"),
        (
            r#"{"auths":{"r.io":{"auth":"!!"}}}"#,
            "the auth entry for \"r.io\" is not base64 of user:password",
        ),
        (
            r#"{"auths":{"r.io":{"auth":"bm9jb2xvbg=="}}}"#,
            "the auth entry for \"r.io\" is not base64 of user:password",
        ),
        (
            r#"{"credsStore":"broken"}"#,
            "docker-credential-broken list failed: no keyring",
        ),
        (
            r#"{"credHelpers":{"r.io":"none"}}"#,
            "docker-credential-none get failed: credentials not found in native keychain",
        ),
    ];
    for (text, message) in cases {
        let sources = [Source::auth_config_variable(text.into()), fallback()];
        let resolution = resolve("r.io/x", &sources, &no_helper()).await.unwrap();
        assert_eq!(resolution.auth.unwrap().username, "payload");
        assert_eq!(
            resolution.warnings,
            [format!(
                "Failed to resolve credentials from $DOCKER_AUTH_CONFIG: {message}. Credentials from this source will not be used."
            )]
        );
    }
    // A malformed file of the home directory is passed over; a helper it names is not.
    let sources = [Source::file("/h/config.json", "{".into()), fallback()];
    assert_eq!(user("r.io/x", &sources).await.as_deref(), Some("payload"));
    let store = r#"{"credsStore":"broken"}"#;
    let sources = [Source::file("/h/config.json", store.into()), fallback()];
    let resolution = resolve("r.io/x", &sources, &no_helper()).await.unwrap();
    assert_eq!(resolution.warnings.len(), 1);
}

#[tokio::test]
async fn a_helper_name_with_a_path_fails_the_pull() {
    for text in [
        r#"{"credsStore":"../evil"}"#,
        r#"{"credHelpers":{"r.io":"a/b"}}"#,
    ] {
        let sources = [Source::auth_config_variable(text.into())];
        let error = resolve("r.io/x", &sources, &no_helper()).await.unwrap_err();
        assert!(error.to_string().contains("path traversal is not allowed"));
    }
}

#[tokio::test]
async fn a_helper_that_is_not_installed_is_named() {
    let programs = HelperPrograms::default();
    let error = programs.list("gantry-test-none").await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("docker-credential-gantry-test-none cannot be run: ")
    );
}

#[tokio::test]
async fn the_first_file_of_the_home_directory_is_the_source() {
    let home = tempfile::tempdir().unwrap();
    assert!(home_source(home.path()).await.is_none());
    std::fs::write(
        home.path().join(".dockercfg"),
        r#"{"r.io":{"auth":"b2xkOnA="}}"#,
    )
    .unwrap();
    let old = home_source(home.path()).await.unwrap();
    assert_eq!(user("r.io/x", &[old]).await.as_deref(), Some("old"));
    std::fs::create_dir(home.path().join(".docker")).unwrap();
    let text = r#"{"auths":{"r.io":{"auth":"bmV3OnA="}}}"#;
    std::fs::write(home.path().join(".docker/config.json"), text).unwrap();
    let new = home_source(home.path()).await.unwrap();
    assert!(new.label.ends_with("/.docker/config.json"));
    assert_eq!(user("r.io/x", &[new]).await.as_deref(), Some("new"));
}
