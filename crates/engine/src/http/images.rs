use base64::Engine as _;
use gantry_container::{ImageInfo, ImageReference};
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::Serialize;

use super::{
    HttpEngine,
    answer::failure,
    lines::JsonLines,
    models::{Image, ProgressLine},
};
use crate::{Archive, EngineError, PullProgress, RegistryAuth};

const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");
/// User name by which credential helpers mark a token.
const TOKEN_USER: &str = "<token>";

/// The JSON of `X-Registry-Auth`.
#[derive(Serialize)]
struct AuthHeader<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    identitytoken: &'a str,
    serveraddress: &'a str,
}

impl HttpEngine {
    pub(super) async fn inspect_image(
        &self,
        reference: &str,
    ) -> Result<Option<ImageInfo>, EngineError> {
        let what = format!("inspect image {reference}");
        // The reference is part of the path: one that would change the path cannot be a reference.
        let segments = || reference.split('/');
        if segments().any(|part| matches!(part, "" | "." | "..")) {
            let message = "invalid reference format".to_owned();
            return Err(EngineError::BadRequest { what, message });
        }
        let call = self.call(what.clone(), Method::GET, |session| {
            session.path("/images").reference(reference).then("/json")
        });
        let image: Option<Image> = self.ask(call.await?).await?.found(&what)?;
        Ok(image.map(Into::into))
    }

    pub(super) async fn pull_image(
        &self,
        reference: &str,
        platform: Option<&str>,
        auth: Option<&RegistryAuth>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        let what = format!("pull image {reference}");
        let failed = |message| EngineError::Pull {
            image: reference.to_owned(),
            message,
        };
        // What is no reference goes to the engine as it is: its answer is the message.
        let (name, tag) = match ImageReference::parse(reference) {
            Ok(parsed) => (parsed.familiar_name(), parsed.pull_tag().to_owned()),
            Err(_) => (reference.to_owned(), String::new()),
        };
        let call = self.call(what.clone(), Method::POST, |session| {
            let mut path = session.path("/images/create").query("fromImage", &name);
            if !tag.is_empty() {
                path = path.query("tag", &tag);
            }
            match platform {
                Some(platform) => path.query("platform", platform),
                None => path,
            }
        });
        let mut call = call.await?;
        if let Some(auth) = auth {
            call = call.header(REGISTRY_AUTH, auth_header(auth, &what)?);
        }
        let response = match self.note(self.client().stream(call, None).await) {
            Ok(response) => response,
            Err(
                EngineError::NotFound { message, .. }
                | EngineError::BadRequest { message, .. }
                | EngineError::Conflict { message, .. }
                | EngineError::Failed { message, .. },
            ) => return Err(failed(message)),
            Err(error) => return Err(error),
        };
        let mut lines = JsonLines::new(response.into_body());
        // The pull is over only at the end of the stream; an error may come at any line.
        while let Some(mut line) =
            self.note(lines.next::<ProgressLine>(self.client(), &what).await)?
        {
            if let Some(message) = line.failure() {
                return Err(failed(message));
            }
            progress(line.into_progress());
        }
        Ok(())
    }

    pub(super) async fn load_image(&self, archive: Archive) -> Result<Vec<String>, EngineError> {
        let what = "load image".to_owned();
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/images/load").query("quiet", "1")
        });
        let call = call.await?.tar(archive);
        let limit = self.client().timeouts.upload;
        let response = self.note(self.client().stream(call, Some(limit)).await)?;
        let mut lines = JsonLines::new(response.into_body());
        let mut loaded = Vec::new();
        while let Some(mut line) =
            self.note(lines.next::<ProgressLine>(self.client(), &what).await)?
        {
            if let Some(message) = line.failure() {
                return Err(EngineError::Failed {
                    what,
                    status: 200,
                    message,
                });
            }
            loaded.extend(line.stream.lines().filter_map(loaded_name));
        }
        Ok(loaded)
    }

    pub(super) async fn tag_image(
        &self,
        image: &str,
        repo: &str,
        tag: &str,
    ) -> Result<(), EngineError> {
        let what = format!("tag image {image} as {repo}:{tag}");
        let call = self.call(what.clone(), Method::POST, |session| {
            let path = session.path("/images").reference(image).then("/tag");
            path.query("repo", repo).query("tag", tag)
        });
        let answer = self.ask(call.await?).await?;
        if answer.status == StatusCode::CREATED {
            return Ok(());
        }
        Err(failure(&what, answer.status, &answer.body))
    }
}

/// What a line of a load says was loaded; Podman lists several names in one line.
fn loaded_name(line: &str) -> Option<String> {
    let name = line
        .strip_prefix("Loaded image ID:")
        .or_else(|| line.strip_prefix("Loaded image:"))?;
    Some(name.trim().to_owned())
}

fn auth_header(auth: &RegistryAuth, what: &str) -> Result<HeaderValue, EngineError> {
    let token = auth.username == TOKEN_USER;
    let header = AuthHeader {
        username: if token { "" } else { &auth.username },
        password: if token { "" } else { &auth.password },
        identitytoken: if token { &auth.password } else { "" },
        serveraddress: &auth.server_address,
    };
    let unusable = || EngineError::Setup(format!("{what}: the credentials cannot be sent"));
    let json = serde_json::to_vec(&header).map_err(|_| unusable())?;
    let text = base64::engine::general_purpose::URL_SAFE.encode(json);
    let mut value = HeaderValue::from_str(&text).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(username: &str, password: &str) -> String {
        let auth = RegistryAuth {
            username: username.to_owned(),
            password: password.to_owned(),
            server_address: "r.io".to_owned(),
        };
        let value = auth_header(&auth, "pull").unwrap();
        let json = base64::engine::general_purpose::URL_SAFE
            .decode(value.as_bytes())
            .unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn credentials_are_sent_as_url_safe_base64() {
        assert_eq!(
            decoded("u", "p?>~"),
            r#"{"username":"u","password":"p?>~","serveraddress":"r.io"}"#
        );
    }

    #[test]
    fn a_token_of_a_credential_helper_is_sent_as_identity_token() {
        assert_eq!(
            decoded("<token>", "t"),
            r#"{"identitytoken":"t","serveraddress":"r.io"}"#
        );
    }

    #[test]
    fn names_and_ids_of_loaded_images_are_found() {
        assert_eq!(loaded_name("Loaded image: a/b:1").as_deref(), Some("a/b:1"));
        assert_eq!(
            loaded_name("Loaded image ID: sha256:0").as_deref(),
            Some("sha256:0")
        );
        assert_eq!(loaded_name("Loading layer"), None);
    }
}
