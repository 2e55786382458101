use std::collections::BTreeMap;

use gantry_container::{ImageInfo, Labels};

/// An image of the fake engine or of its registry.
#[derive(Debug, Clone)]
pub struct FakeImage {
    /// Names it answers to, e.g. `alpine:3.20`.
    pub names: Vec<String>,
    /// What inspect says.
    pub info: ImageInfo,
    /// Registry only: user name and password that a pull must bring.
    pub auth: Option<(String, String)>,
}

impl FakeImage {
    /// A linux/amd64 image of this name (`:latest` is implied) with an ID that depends on nothing else.
    pub fn new(name: &str) -> Self {
        let name = with_tag(name);
        // FNV-1a spread over 32 bytes: stable, readable in failures, no hash crate.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let hex = format!("{hash:016x}").repeat(4);
        let repo = name
            .rsplit_once(':')
            .map_or(name.as_str(), |(repo, _)| repo);
        let info = ImageInfo {
            id: format!("sha256:{hex}"),
            repo_digests: vec![format!("{repo}@sha256:{hex}")],
            entrypoint: Vec::new(),
            cmd: vec!["sh".to_owned()],
            user: String::new(),
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ],
            labels: Labels::new(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            variant: String::new(),
        };
        Self {
            names: vec![name],
            info,
            auth: None,
        }
    }

    /// Changes what inspect says.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ImageInfo)) -> Self {
        change(&mut self.info);
        self
    }

    /// Adds a name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.names.push(with_tag(name));
        self
    }

    /// Registry only: a pull must bring these credentials.
    #[must_use]
    pub fn requiring(mut self, username: &str, password: &str) -> Self {
        self.auth = Some((username.to_owned(), password.to_owned()));
        self
    }

    pub(super) fn answers_to(&self, reference: &str) -> bool {
        let id = self.info.id.as_str();
        let short = id.strip_prefix("sha256:").unwrap_or(id);
        reference == id
            || (reference.len() >= 12 && short.starts_with(reference))
            || self.names.contains(&with_tag(reference))
            || self
                .info
                .repo_digests
                .iter()
                .any(|digest| digest == reference)
    }
}

/// Images the fake knows, and what its registry offers.
#[derive(Default)]
pub(super) struct Images {
    pub(super) local: Vec<FakeImage>,
    pub(super) registry: Vec<FakeImage>,
    pub(super) loadable: Vec<FakeImage>,
    /// Reference → message of the failing pull.
    pub(super) refused: BTreeMap<String, String>,
}

impl Images {
    pub(super) fn find(&self, reference: &str) -> Option<&FakeImage> {
        self.local
            .iter()
            .rev()
            .find(|image| image.answers_to(reference))
    }

    pub(super) fn add(&mut self, image: FakeImage) {
        // A name moves to the newest image, as in an engine.
        for older in &mut self.local {
            older.names.retain(|name| !image.names.contains(name));
        }
        self.local.push(image);
    }
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}
