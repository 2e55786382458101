use rstest::rstest;

fn job(secrets: &str) -> String {
    format!("unit:\n  script: make\n  secrets:\n{secrets}")
}

#[test]
fn a_secret_is_a_file_unless_it_says_otherwise() {
    let text = job(
        "    A: {vault: production/db/password@ops}\n    B: {vault: {path: x}, file: false, token: $T}\n    C: {azure_key_vault: {name: n}, file: null}\n",
    );
    let pipeline = crate::parse("f", &text).unwrap();
    let secrets: Vec<_> = pipeline.jobs[0]
        .secrets
        .iter()
        .map(|secret| (secret.name.as_str(), secret.file))
        .collect();
    assert_eq!(secrets, [("A", true), ("B", false), ("C", true)]);
}

#[rstest]
#[case::no_map(
    "    A: text\n",
    "`jobs:unit:secrets:A` should be a map with a provider, not text"
)]
#[case::no_provider("    A: {file: true}\n", "the secret `A` has no provider")]
#[case::other_provider("    A: {valt: x}\n", "valt")]
#[case::no_boolean(
    "    A: {vault: x, file: 5}\n",
    "`jobs:unit:secrets:A:file` should be a boolean"
)]
fn what_is_no_secret_is_told_with_its_place(#[case] secrets: &str, #[case] words: &str) {
    let error = crate::parse("f", &job(secrets)).unwrap_err();
    let text = format!("{:?}", error.problems());
    assert!(text.contains(words), "{text}");
}
