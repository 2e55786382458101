//! `secrets` of a local run: nobody is asked, the values come from the command line or a file of variables (local-pipelines A5).

use crate::harness::{Repository, engine};

const SECRETS: &str = r#"
image: gantry.test/busybox:1
unit:
  variables:
    URL: https://u:$PLAIN@db
  secrets:
    PASSWORD:
      vault: production/db/password@ops
    PLAIN:
      vault:
        engine: {name: kv-v2, path: ops}
        path: production/db
        field: password
      file: false
      token: $VAULT_ID_TOKEN
  script:
    - test "$(cat "$PASSWORD")" = 'pass$word' && echo a file
    - test "$PLAIN" = 'from the command line' && echo plain
    - echo "shown $PLAIN $(cat "$PASSWORD") $URL"
"#;

#[test]
fn values_of_secrets_come_from_the_file_of_variables_and_the_command_line_and_are_masked() {
    let Some(engine) = engine() else { return };
    let repository = Repository::new(SECRETS, Some(&engine));
    repository.write(
        ".gitlab-ci-local-variables.yml",
        "PASSWORD: pass$word\nPLAIN: of the file\n",
    );
    let done = repository.exec(&["-e", "PLAIN=from the command line"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for line in [
        "a file",
        "plain",
        "shown [MASKED] [MASKED] https://u:[MASKED]@db",
    ] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    assert!(!done.stdout.contains("pass$word"), "{}", done.stdout);
    repository.assert_nothing_left();
}

#[test]
fn a_secret_without_a_value_is_named_before_anything_is_made() {
    let Some(engine) = engine() else { return };
    let repository = Repository::new(SECRETS, Some(&engine));
    let done = repository.exec(&["-e", "PLAIN=x"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("`PASSWORD` has no value here"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("`PLAIN`"), "{}", done.stderr);
    let done = repository.exec(&["--variables-file", "nowhere.yml"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("nowhere.yml cannot be read"),
        "{}",
        done.stderr
    );
    repository.write("broken.yml", "PASSWORD: [hush]\n");
    let done = repository.exec(&["--variables-file", "broken.yml"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("broken.yml") && !done.stderr.contains("hush"),
        "{}",
        done.stderr
    );
}
