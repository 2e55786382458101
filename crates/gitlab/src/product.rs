//! Which runner GitLab is told it speaks to.
//!
//! Configs and servers decide by the peer's version (image tags, feature gates), so Gantry answers with the release it is
//! compatible with; its own version is shown elsewhere (`gantry --version`).

use std::env::consts;

/// Name, version and build facts sent in the `User-Agent` header and in `info` (coordinator-api §1, §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `gitlab-runner`: servers match on it.
    pub name: String,
    /// The compatible peer release, e.g. `19.4.0`.
    pub version: String,
    /// Its revision; `HEAD` (what a peer built without one says) when unknown.
    pub revision: String,
    /// Its branch, e.g. `19-4-stable`.
    pub branch: String,
    /// Compiler of this program, e.g. `rust1.95`.
    pub compiler: String,
    /// Operating system in the peer's words: `linux`, `darwin`, `windows`.
    pub platform: String,
    /// Architecture in the peer's words: `amd64`, `arm64`, `386`, `arm`, …
    pub architecture: String,
}

impl Product {
    /// The given peer release on the machine this program was built for.
    ///
    /// The branch follows from the version (`19.4.0` → `19-4-stable`).
    #[must_use]
    pub fn compatible_with(version: &str, revision: &str) -> Self {
        let mut numbers = version.split('.');
        let branch = match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => format!("{major}-{minor}-stable"),
            _ => "HEAD".to_owned(),
        };
        Self {
            name: "gitlab-runner".to_owned(),
            version: version.to_owned(),
            revision: revision.to_owned(),
            branch,
            compiler: format!("rust{}", env!("CARGO_PKG_RUST_VERSION")),
            platform: platform(consts::OS).to_owned(),
            architecture: architecture(consts::ARCH).to_owned(),
        }
    }

    /// `<name> <version> (<branch>; <compiler>; <os>/<arch>)`, sent with every request.
    #[must_use]
    pub fn user_agent(&self) -> String {
        format!(
            "{} {} ({}; {}; {}/{})",
            self.name, self.version, self.branch, self.compiler, self.platform, self.architecture
        )
    }
}

impl Default for Product {
    /// GitLab Runner 19.4.0.
    fn default() -> Self {
        Self::compatible_with("19.4.0", "HEAD")
    }
}

fn platform(os: &str) -> &str {
    match os {
        "macos" => "darwin",
        other => other,
    }
}

fn architecture(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agent_has_the_form_servers_parse() {
        let product = Product {
            compiler: "rust1.95".into(),
            platform: "linux".into(),
            architecture: "amd64".into(),
            ..Product::default()
        };
        assert_eq!(
            product.user_agent(),
            "gitlab-runner 19.4.0 (19-4-stable; rust1.95; linux/amd64)"
        );
    }

    #[test]
    fn a_version_without_a_minor_part_has_no_stable_branch() {
        assert_eq!(Product::compatible_with("dev", "abc").branch, "HEAD");
    }
}
