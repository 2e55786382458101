use super::*;

const ANSWER: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult><Credentials>
    <AccessKeyId>ASIAEXAMPLE</AccessKeyId>
    <SecretAccessKey>abc/def+</SecretAccessKey>
    <SessionToken>FQoGZXIvYXdzE==</SessionToken>
    <Expiration>2026-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleResult>
</AssumeRoleResponse>"#;

#[test]
fn credentials_are_read_from_the_answer() {
    let credential = read(ANSWER).unwrap();
    assert_eq!(credential.key_id, "ASIAEXAMPLE");
    assert_eq!(credential.secret_key, "abc/def+");
    assert_eq!(credential.token.as_deref(), Some("FQoGZXIvYXdzE=="));
    assert!(read("<AccessKeyId>a</AccessKeyId>").is_none());
    assert!(read("").is_none());
}
