//! Entries of `volumes`: reading them (docker-executor §4.1, Linux form), their destinations (§4.2).

use std::collections::BTreeSet;

#[cfg(test)]
mod tests;

/// Characters that neither a path segment nor a volume name may hold.
const FORBIDDEN: [char; 11] = ['\\', '/', ':', '*', '?', '"', '<', '>', '|', '\r', '\n'];
const PROPAGATIONS: [&str; 6] = [
    "shared", "slave", "private", "rshared", "rslave", "rprivate",
];

/// One entry of `volumes`, read but not expanded: `$VAR` may still stand in the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDefinition {
    /// Host directory or volume name; `None` for an entry of one path, which becomes a cache volume.
    pub source: Option<VolumeSource>,
    /// Path in the container as written. Only this part is expanded with variables.
    pub destination: String,
    /// `ro`, `rw` or `O` (Podman overlay) as written.
    pub mode: Option<String>,
    /// SELinux label `z` or `Z`.
    pub label: Option<String>,
    /// Bind propagation, e.g. `rslave`, as written.
    pub propagation: Option<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// Directory of the engine's host.
    Host(String),
    /// Named volume; the engine makes it when absent.
    Named(String),
}

/// What is wrong with a volume entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The entry does not fit `[source:]destination[:mode][:label][:propagation]`.
    #[error("invalid volume specification: {0:?}")]
    Invalid(String),
    /// The destination is the root directory.
    #[error("{prefix}build directory needs to be a non-root path")]
    Root {
        /// Where the peer met it, e.g. `adding host volume: defining absolute path: `.
        prefix: &'static str,
    },
    /// A second entry has the same destination.
    #[error("volume for container path {0:?} is already defined")]
    Duplicate(String),
}

impl VolumeDefinition {
    /// Reads an entry; the whole text must fit.
    pub fn parse(text: &str) -> Result<Self, VolumeError> {
        read(text).ok_or_else(|| VolumeError::Invalid(text.to_owned()))
    }

    /// Options of the bind, joined with commas; empty if there are none.
    pub fn options(&self) -> String {
        let options = [&self.mode, &self.label, &self.propagation];
        options
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The `Binds` entry for this source and an already expanded and absolute destination; `None` without a source. The
    /// options are those of the entry.
    pub fn bind(&self, destination: &str) -> Option<String> {
        let (VolumeSource::Host(source) | VolumeSource::Named(source)) = self.source.as_ref()?;
        let options = self.options();
        let separator = if options.is_empty() { "" } else { ":" };
        Some(format!("{source}:{destination}{separator}{options}"))
    }

    /// The destination after expansion made absolute: a relative one is joined to `base` (the job's project directory), an
    /// absolute one stays as written. The root directory is refused.
    pub fn absolute_destination(&self, expanded: &str, base: &str) -> Result<String, VolumeError> {
        let absolute = if expanded.starts_with('/') {
            expanded.to_owned()
        } else {
            clean_path(&format!("{base}/{expanded}"))
        };
        if clean_path(&absolute) == "/" {
            let prefix = match self.source {
                Some(_) => "adding host volume: defining absolute path: ",
                None => "adding cache volume: defining absolute path: ",
            };
            return Err(VolumeError::Root { prefix });
        }
        Ok(absolute)
    }
}

/// Destinations taken so far; each may be defined once, compared after [`clean_path`].
#[derive(Debug, Clone, Default)]
pub struct Destinations(BTreeSet<String>);

impl Destinations {
    /// Takes a destination.
    pub fn claim(&mut self, destination: &str) -> Result<(), VolumeError> {
        if self.0.insert(clean_path(destination)) {
            Ok(())
        } else {
            Err(VolumeError::Duplicate(destination.to_owned()))
        }
    }

    /// Whether this destination is taken.
    pub fn contains(&self, destination: &str) -> bool {
        self.0.contains(&clean_path(destination))
    }

    /// Whether this path or one of its parents is taken.
    pub fn covers(&self, path: &str) -> bool {
        let path = clean_path(path);
        self.0.iter().any(|taken| is_below(&path, taken))
    }
}

/// A path shortened by its text alone: `.`, `..`, empty segments and slashes at the end go (Go's `path.Clean`). Links are not
/// followed; the empty path is `.`.
pub fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Whether a cleaned path equals the cleaned directory or lies in it.
pub fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || directory.ends_with('/'))
}

fn read(text: &str) -> Option<VolumeDefinition> {
    let parts: Vec<&str> = text.split(':').collect();
    // Two paths are a source and a destination; else the first part must be the destination.
    let named = parts.len() > 1 && is_directory(parts[1]);
    let (source, rest) = if named {
        (Some(parts[0]), &parts[1..])
    } else {
        (None, &parts[..])
    };
    let source = match source {
        Some(source) if is_directory(source) => Some(VolumeSource::Host(source.to_owned())),
        Some(source) if is_name(source) => Some(VolumeSource::Named(source.to_owned())),
        Some(_) => return None,
        None => None,
    };
    let (destination, options) = rest.split_first()?;
    if !is_directory(destination) {
        return None;
    }
    let mut definition = VolumeDefinition {
        source,
        destination: (*destination).to_owned(),
        mode: None,
        label: None,
        propagation: None,
    };
    // Colons and commas separate options alike, each kind at most once and in this order.
    let mut stage = 0;
    for option in options.iter().flat_map(|part| part.split(',')) {
        let lower = option.to_ascii_lowercase();
        let (this, field) = match lower.as_str() {
            "ro" | "rw" | "o" => (1, &mut definition.mode),
            "z" => (2, &mut definition.label),
            word if PROPAGATIONS.contains(&word) => (3, &mut definition.propagation),
            _ => return None,
        };
        if this <= stage {
            return None;
        }
        stage = this;
        *field = Some(option.to_owned());
    }
    Some(definition)
}

/// Absolute, no empty segment inside.
fn is_directory(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/') else {
        return false;
    };
    rest.is_empty()
        || rest
            .strip_suffix('/')
            .unwrap_or(rest)
            .split('/')
            .all(is_name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(FORBIDDEN)
}
