//! Credentials of the files that AWS' own programs keep below the home directory, which the library does not read.
//!
//! A profile that `AWS_PROFILE` names goes before keys of the environment, the default profile after them, and both before the identity
//! of a container or machine; so do AWS' own clients.

use std::{collections::BTreeMap, fs, path::Path};

use object_store::aws::AmazonS3Builder;
use secrecy::{ExposeSecret as _, SecretString};

/// Keys of one profile.
pub(super) struct Profile {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
}

impl Profile {
    pub(super) fn give_to(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        let builder = builder
            .with_access_key_id(&self.id)
            .with_secret_access_key(self.secret.expose_secret());
        match &self.token {
            Some(token) => builder.with_token(token.expose_secret()),
            None => builder,
        }
    }
}

/// The keys of the profile that counts on a machine with these environment variables, if a file has them.
pub(super) fn credentials(environment: &dyn Fn(&str) -> Option<String>) -> Option<Profile> {
    let value = |name: &str| environment(name).filter(|value| !value.is_empty());
    let named = value("AWS_PROFILE");
    let has_others = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"]
        .into_iter()
        .any(|name| value(name).is_some());
    if named.is_none() && has_others {
        return None;
    }
    let profile = named.unwrap_or_else(|| "default".to_owned());
    let file = |variable: &str, name: &str| {
        value(variable).or_else(|| Some(format!("{}/.aws/{name}", value("HOME")?)))
    };
    let shared = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let config = file("AWS_CONFIG_FILE", "config");
    [
        (shared, profile.clone()),
        (config.clone(), format!("profile {profile}")),
        (config.filter(|_| profile == "default"), profile),
    ]
    .into_iter()
    .find_map(|(file, section)| keys(Path::new(&file?), &section))
}

fn keys(file: &Path, section: &str) -> Option<Profile> {
    let text = fs::read_to_string(file).ok()?;
    let mut keys = items(&text, section);
    let mut key = |name: &str| keys.remove(name).filter(|value| !value.is_empty());
    Some(Profile {
        id: key("aws_access_key_id")?.to_owned(),
        secret: key("aws_secret_access_key")?.into(),
        token: key("aws_session_token").map(Into::into),
    })
}

/// The items of one section; the last of a name counts.
fn items<'a>(text: &'a str, section: &str) -> BTreeMap<String, &'a str> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            inside = name.split_whitespace().eq(section.split_whitespace());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            found.insert(name.trim().to_ascii_lowercase(), value.trim());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SHARED: &str = "# mine\n[default]\naws_access_key_id = of-default\naws_secret_access_key=a=b+/\n\n[ci]\n\
        AWS_ACCESS_KEY_ID = of-ci\naws_secret_access_key = x\naws_session_token = t\n[half]\naws_access_key_id = y\n";
    const CONFIG: &str = "[profile work]\nregion = eu-west-1\naws_access_key_id = of-work\naws_secret_access_key = z\n";

    #[rstest]
    #[case::the_default_profile(&[], Some("of-default"))]
    #[case::a_named_one(&[("AWS_PROFILE", "ci")], Some("of-ci"))]
    #[case::one_of_the_other_file(&[("AWS_PROFILE", "work")], Some("of-work"))]
    #[case::one_without_its_secret(&[("AWS_PROFILE", "half")], None)]
    #[case::one_that_is_not_there(&[("AWS_PROFILE", "nobody")], None)]
    #[case::keys_of_the_environment_go_first(&[("AWS_ACCESS_KEY_ID", "e")], None)]
    #[case::so_does_a_web_identity(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], None)]
    #[case::but_not_before_a_named_profile(&[("AWS_ACCESS_KEY_ID", "e"), ("AWS_PROFILE", "ci")], Some("of-ci"))]
    #[case::no_home(&[("HOME", "")], None)]
    fn a_profile_is_found_as_awss_own_clients_find_it(
        #[case] variables: &[(&str, &str)],
        #[case] id: Option<&str>,
    ) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".aws");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("credentials"), SHARED).unwrap();
        fs::write(folder.join("config"), CONFIG).unwrap();
        let environment = |name: &str| {
            let set = variables.iter().find(|(one, _)| *one == name);
            let home = || (name == "HOME").then(|| home.path().to_str().unwrap().to_owned());
            set.map(|(_, value)| (*value).to_owned()).or_else(home)
        };
        let found = credentials(&environment);
        assert_eq!(found.as_ref().map(|it| it.id.as_str()), id);
        if id == Some("of-default") {
            assert_eq!(found.unwrap().secret.expose_secret(), "a=b+/");
        }
    }
}
