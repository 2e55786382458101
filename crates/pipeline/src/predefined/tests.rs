use rstest::rstest;

use super::*;
use crate::parse;

// local-pipelines C4.
#[rstest]
#[case("feature/X_1", "feature-x-1")]
#[case("a//b", "a--b")]
#[case("-x-", "x")]
#[case("Ünï", "n")]
#[case("", "")]
#[case("---", "")]
#[case("a.b c", "a-b-c")]
fn slugs_follow_gitlab(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(slug(text), expected);
}

#[test]
fn a_slug_is_cut_first_and_stripped_then() {
    assert_eq!(slug(&("a".repeat(62) + "/bcd")), "a".repeat(62));
    assert_eq!(slug(&"ab".repeat(50)).len(), 63);
}

#[rstest]
#[case(
    "git@git.example.com:acme/tools/shop.git",
    "https://git.example.com acme/tools/shop 443 22"
)]
#[case(
    "ssh://git@git.example.com:2222/acme/shop.git",
    "https://git.example.com acme/shop 443 2222"
)]
#[case(
    "https://git.example.com/acme/shop",
    "https://git.example.com acme/shop 443 22"
)]
#[case(
    "https://me:pass@git.example.com:8443/acme/shop.git/",
    "https://git.example.com:8443 acme/shop 8443 22"
)]
#[case("http://10.0.0.1/acme/shop.git", "http://10.0.0.1 acme/shop 80 22")]
#[case("http://[::1]/acme/shop.git", "http://[::1] acme/shop 80 22")]
#[case("git.example.com:shop.git", "https://git.example.com shop 443 22")]
fn a_remote_names_server_and_project(#[case] url: &str, #[case] expected: &str) {
    let remote = RemoteUrl::parse(url).unwrap();
    let shown = format!(
        "{remote} {} {} {}",
        remote.path,
        remote.web_port(),
        remote.ssh_port()
    );
    assert_eq!(shown, expected);
}

#[rstest]
#[case("/srv/git/shop.git")]
#[case("../shop")]
#[case("file:///srv/git/shop.git")]
#[case("C:/src/shop")]
#[case("https://git.example.com/")]
#[case("https://git.example.com/a/../b")]
#[case("ssh://git.example.com:port/a")]
#[case("")]
#[case("://")]
#[case(":")]
fn what_names_no_server_is_no_remote(#[case] url: &str) {
    assert_eq!(RemoteUrl::parse(url), None);
}

fn git() -> GitFacts {
    GitFacts {
        commit: Some(Commit {
            sha: "265c14cf140a66cfc61e40e4ab45c95ba8df5ed1".to_owned(),
            message: "Fix $HOME\n\nLonger text.\n".to_owned(),
            author: "Ada <ada@example.com>".to_owned(),
            timestamp: "2026-01-02T03:04:05+00:00".to_owned(),
        }),
        branch: Some("feature/X_1".to_owned()),
        default_branch: Some("main".to_owned()),
        remote_url: Some("https://me:secret@git.example.com:8443/Acme/tools/shop.git".to_owned()),
        ..GitFacts::default()
    }
}

fn all(git: &GitFacts, name: &str) -> Vec<Variable> {
    let pipeline = parse("f", &format!("{name:?}: {{script: x}}")).unwrap();
    let project = ProjectFacts {
        folder: "My Shop!".to_owned(),
        config_path: ".gitlab-ci.yml".to_owned(),
        user: UserFacts {
            id: 1000,
            name: "Ada L.".to_owned(),
            email: "ada@example.com".to_owned(),
        },
    };
    let facts = JobFacts {
        job_id: 7,
        pipeline_id: 5,
        pipeline_iid: 3,
        started_at: "2026-02-03T04:05:06Z".to_owned(),
        ..JobFacts::default()
    };
    let mut all = predefined(&pipeline.jobs[0], git, &project, &facts);
    all.extend(user_variables(&project.user));
    all
}

fn value(variables: &[Variable], key: &str) -> Option<String> {
    variables
        .iter()
        .rfind(|variable| variable.key == key)
        .map(|variable| variable.value.clone())
}

#[test]
fn all_predefined_variables_of_a_branch() {
    let variables = all(&git(), "unit 1/2");
    let lines: Vec<String> = variables
        .iter()
        .map(|variable| format!("{}={}", variable.key, variable.value.escape_debug()))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn predefined_variables_are_public_and_nobody_expands_them() {
    assert!(
        all(&git(), "a")
            .iter()
            .all(|variable| variable.public && variable.raw)
    );
}

#[test]
fn no_credential_of_the_remote_gets_into_a_variable() {
    assert!(
        !all(&git(), "a")
            .iter()
            .any(|variable| variable.value.contains("secret"))
    );
}

#[test]
fn keys_are_set_once() {
    let variables = all(&git(), "a");
    let mut keys: Vec<&str> = variables
        .iter()
        .map(|variable| variable.key.as_str())
        .collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[rstest]
#[case(Some("main"), Some("v1"), "main", Some("main"), None)]
#[case(None, Some("v1"), "v1", None, Some("v1"))]
#[case(None, None, "265c14cf", None, None)]
fn branch_then_tag_then_commit_names_the_ref(
    #[case] branch: Option<&str>,
    #[case] tag: Option<&str>,
    #[case] ref_name: &str,
    #[case] commit_branch: Option<&str>,
    #[case] commit_tag: Option<&str>,
) {
    let git = GitFacts {
        branch: branch.map(str::to_owned),
        tag: tag.map(str::to_owned),
        ..git()
    };
    let variables = all(&git, "a");
    assert_eq!(
        value(&variables, "CI_COMMIT_REF_NAME").as_deref(),
        Some(ref_name)
    );
    assert_eq!(
        value(&variables, "CI_COMMIT_BRANCH").as_deref(),
        commit_branch
    );
    assert_eq!(value(&variables, "CI_COMMIT_TAG").as_deref(), commit_tag);
}

#[rstest]
#[case("Ada L.", "ada@example.com", "ada", "Ada L.")]
#[case("", "ada@example.com", "ada", "ada")]
#[case("Ada L.", "", "Ada L.", "Ada L.")]
#[case("", "", "local", "local")]
fn a_user_has_a_name_in_any_case(
    #[case] name: &str,
    #[case] email: &str,
    #[case] login: &str,
    #[case] shown: &str,
) {
    let user = UserFacts {
        id: 1,
        name: name.to_owned(),
        email: email.to_owned(),
    };
    let variables = user_variables(&user);
    assert_eq!(
        value(&variables, "GITLAB_USER_LOGIN").as_deref(),
        Some(login)
    );
    assert_eq!(
        value(&variables, "GITLAB_USER_NAME").as_deref(),
        Some(shown)
    );
}

#[test]
fn a_folder_without_git_still_has_a_project() {
    let variables = all(&GitFacts::default(), "a");
    assert_eq!(
        value(&variables, "CI_PROJECT_PATH").as_deref(),
        Some("local/My-Shop")
    );
    assert_eq!(value(&variables, "CI_COMMIT_SHA"), Some("0".repeat(40)));
    assert_eq!(
        value(&variables, "CI_COMMIT_REF_NAME").as_deref(),
        Some("main")
    );
    assert_eq!(
        value(&variables, "CI_SERVER_URL").as_deref(),
        Some("https://localhost")
    );
}

#[rstest]
#[case("", "project")]
#[case("..", "project")]
#[case("a b", "a-b")]
#[case("日本", "project")]
fn a_folder_name_becomes_a_project_name(#[case] folder: &str, #[case] expected: &str) {
    let project = ProjectFacts {
        folder: folder.to_owned(),
        ..ProjectFacts::default()
    };
    assert_eq!(
        ProjectNames::new(&GitFacts::default(), &project).name(),
        expected
    );
}

#[test]
fn project_ids_are_stable_and_positive() {
    let names = ProjectNames::new(&git(), &ProjectFacts::default());
    assert_eq!(names, ProjectNames::new(&git(), &ProjectFacts::default()));
    assert!((1..=1 << 31).contains(&names.id));
    assert_ne!(names.id, names.namespace_id);
}

#[rstest]
#[case("Title\n\nBody\nmore\n", "Title", "Body\nmore\n")]
#[case("Title", "Title", "")]
#[case("Title\r\n\r\nBody", "Title", "Body")]
#[case("", "", "")]
fn a_message_has_a_title_and_a_description(
    #[case] message: &str,
    #[case] title: &str,
    #[case] description: &str,
) {
    let commit = Commit {
        message: message.to_owned(),
        ..Commit::default()
    };
    assert_eq!((commit.title(), commit.description()), (title, description));
}

#[test]
fn a_long_title_stays_in_the_description() {
    let message = format!("{}\n\nBody", "x".repeat(100));
    let commit = Commit {
        message: message.clone(),
        ..Commit::default()
    };
    assert_eq!(commit.description(), message);
}

#[rstest]
#[case("unit 1/2", "unit")]
#[case("a: [lin, 1]", "a")]
#[case("a", "a")]
#[case("a 1/x", "a 1/x")]
#[case("a b", "a b")]
fn a_group_is_the_name_without_its_cell(#[case] name: &str, #[case] expected: &str) {
    assert_eq!(group_name(name), expected);
}
