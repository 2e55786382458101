use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[rstest]
#[case("ruby", "docker.io/library/ruby", "ruby", "ruby:latest")]
#[case("ruby:3.3", "docker.io/library/ruby:3.3", "ruby:3.3", "ruby:3.3")]
#[case("library/ruby", "docker.io/library/ruby", "ruby", "ruby:latest")]
#[case(
    "tutum/wordpress",
    "docker.io/tutum/wordpress",
    "tutum/wordpress",
    "tutum/wordpress:latest"
)]
#[case(
    "index.docker.io/ruby",
    "docker.io/library/ruby",
    "ruby",
    "ruby:latest"
)]
#[case("docker.io/a/b:1", "docker.io/a/b:1", "a/b:1", "a/b:1")]
#[case(
    "localhost/app",
    "localhost/app",
    "localhost/app",
    "localhost/app:latest"
)]
#[case(
    "host:5000/img",
    "host:5000/img",
    "host:5000/img",
    "host:5000/img:latest"
)]
#[case(
    "host:5000/img:5000",
    "host:5000/img:5000",
    "host:5000/img:5000",
    "host:5000/img:5000"
)]
#[case(
    "[::1]:5000/a__b/c-d.e_f",
    "[::1]:5000/a__b/c-d.e_f",
    "[::1]:5000/a__b/c-d.e_f",
    "[::1]:5000/a__b/c-d.e_f:latest"
)]
#[case(
    "Registry.Example/app",
    "Registry.Example/app",
    "Registry.Example/app",
    "Registry.Example/app:latest"
)]
#[case("UPPER/app", "UPPER/app", "UPPER/app", "UPPER/app:latest")]
#[case(
    "a---b:v1.0-rc_1",
    "docker.io/library/a---b:v1.0-rc_1",
    "a---b:v1.0-rc_1",
    "a---b:v1.0-rc_1"
)]
fn references_have_a_canonical_a_familiar_and_a_pull_form(
    #[case] text: &str,
    #[case] canonical: &str,
    #[case] familiar: &str,
    #[case] pull: &str,
) {
    let reference = ImageReference::parse(text).unwrap();
    assert_eq!(reference.canonical(), canonical);
    assert_eq!(reference.to_string(), familiar);
    assert_eq!(reference.pull_name(), pull);
}

#[test]
fn a_digest_takes_the_place_of_the_tag_in_a_pull() {
    let digest = ImageReference::parse(&format!("ruby@{DIGEST}")).unwrap();
    assert_eq!(
        (digest.tag(), digest.digest(), digest.pull_tag()),
        (None, Some(DIGEST), DIGEST)
    );
    assert_eq!(digest.pull_name(), format!("ruby@{DIGEST}"));
    let both = ImageReference::parse(&format!("r.io:1/a/b:2@{DIGEST}")).unwrap();
    assert_eq!(
        (both.domain(), both.path(), both.tag()),
        ("r.io:1", "a/b", Some("2"))
    );
    assert_eq!(
        (both.pull_tag(), both.familiar_name().as_str()),
        (DIGEST, "r.io:1/a/b")
    );
    assert_eq!(ImageReference::parse("ruby").unwrap().pull_tag(), "latest");
}

#[rstest]
#[case("", "image reference is empty")]
#[case("Ruby", "must be lower case")]
#[case("r.io/Team/app", "must be lower case")]
#[case("ruby:", "\"\" is not a valid tag")]
#[case("ruby:-x", "\"-x\" is not a valid tag")]
#[case("ruby:3 3", "\"3 3\" is not a valid tag")]
#[case("ruby@sha256:abc", "\"sha256:abc\" is not a valid digest")]
#[case("ruby@", "\"\" is not a valid digest")]
#[case("$IMAGE", "\"library/$IMAGE\" is not a valid repository name")]
#[case("a//b", "\"a//b\" is not a valid repository name")]
#[case("/a", "\"/a\" is not a valid repository name")]
#[case("a/", "\"a/\" is not a valid repository name")]
#[case("a_-b", "is not a valid repository name")]
#[case("a___b", "is not a valid repository name")]
#[case("-host.io/a", "\"-host.io\" is not a valid registry address")]
#[case("host:port/a", "\"host:port\" is not a valid registry address")]
#[case("https://r.io/a", "\"https:\" is not a valid registry address")]
#[case(HEX, "an image ID, not a name")]
fn a_bad_reference_is_named_with_the_bad_part(#[case] text: &str, #[case] message: &str) {
    let error = ImageReference::parse(text).unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
    assert!(error.contains(text), "{error}");
}

#[test]
fn a_path_over_255_characters_is_refused() {
    let long = format!("r.io/{}", "a".repeat(256));
    assert!(matches!(
        ImageReference::parse(&long),
        Err(ImageError::TooLong(_))
    ));
    let tag = format!("a:{}", "t".repeat(129));
    assert!(matches!(
        ImageReference::parse(&tag),
        Err(ImageError::Tag { .. })
    ));
}

#[rstest]
#[case(HEX, true)]
#[case(DIGEST, true)]
#[case("sha256:abc", false)]
#[case("ruby", false)]
fn image_ids_are_told_from_names(#[case] text: &str, #[case] id: bool) {
    assert_eq!(is_image_id(text), id);
}

// docker-executor §5.3
#[rstest]
#[case("mysql", &["mysql"], "mysql:latest", "latest")]
#[case("mysql:5.7", &["mysql"], "mysql:5.7", "5.7")]
#[case("tutum/wordpress:latest", &["tutum__wordpress", "tutum-wordpress"], "tutum/wordpress:latest", "latest")]
#[case(
    "registry.gitlab-wp.com:4999/tutum/wordpress",
    &["registry.gitlab-wp.com__tutum__wordpress", "registry.gitlab-wp.com-tutum-wordpress"],
    "registry.gitlab-wp.com:4999/tutum/wordpress:latest",
    "latest"
)]
#[case("", &[], "", "latest")]
#[case("not an image", &[], "not an image", "latest")]
#[case("Mysql", &[], "Mysql", "latest")]
#[case("host:5000/a:7", &["host__a", "host-a"], "host:5000/a:7", "7")]
fn service_names_follow_from_the_image(
    #[case] text: &str,
    #[case] aliases: &[&str],
    #[case] image: &str,
    #[case] version: &str,
) {
    let service = ServiceReference::parse(text);
    assert_eq!(service.aliases(), aliases);
    assert_eq!(
        (service.image.as_str(), service.version.as_str()),
        (image, version)
    );
}

#[test]
fn a_service_by_digest_shows_the_digest_as_version() {
    let service = ServiceReference::parse(&format!("domain.tld/ns/svc@{DIGEST}"));
    assert_eq!(
        service.aliases(),
        ["domain.tld__ns__svc", "domain.tld-ns-svc"]
    );
    assert_eq!(service.version, format!("@{DIGEST}"));
    assert_eq!(service.image, format!("domain.tld/ns/svc@{DIGEST}"));
    assert_eq!(service.container_part().unwrap(), "domain.tld__ns__svc");
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_but_never_panics(text in any::<String>()) {
        drop(ImageReference::parse(&text));
        drop(ServiceReference::parse(&text).aliases());
    }

    #[test]
    fn text_of_the_alphabet_is_parsed_to_a_form_that_parses_to_itself(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}") {
        if let Ok(reference) = ImageReference::parse(&text) {
            prop_assert_eq!(&ImageReference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&ImageReference::parse(&reference.canonical()).unwrap(), &reference);
            prop_assert!(ServiceReference::parse(&text).path.is_some());
        }
    }
}
