//! The helper program `gantry-helper`, ready to be put into a container.
//!
//! `gantry` carries the helper for the architecture it was built on, compressed, so that a plain
//! `cargo build --release` gives one file that is complete. An engine of another architecture (an arm64 machine
//! reached over TCP, say) needs a helper of its own: `helper_dir` under `[gantry]` names a folder with files
//! `gantry-helper-<arch>`, which also win over the one carried.
//!
//! The program is chosen by the *engine's* architecture, never by this machine's. Its content hash names the tools
//! volume it is put into (engine-mechanics §b), so two versions never share a volume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

mod elf;

/// The name of the program, in the tools volume too.
pub const PROGRAM: &str = "gantry-helper";

/// Why there is no helper for an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolsError {
    /// Neither this build nor the folder has one for the architecture.
    #[error(
        "no gantry-helper for the engine's architecture {arch:?}: this gantry carries {}{}; put a static \
         gantry-helper-{arch} into a folder and name the folder by helper_dir under [gantry]",
        carried(),
        looked_in(.dir.as_deref())
    )]
    Missing {
        /// The architecture, by the name that the file would have.
        arch: String,
        /// The folder that was looked into, if one is set.
        dir: Option<PathBuf>,
    },
    /// A file of `helper_dir` cannot be read.
    #[error("cannot read {} (helper_dir under [gantry])", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of `helper_dir` is not a static program of the architecture in its name.
    #[error("{} (helper_dir under [gantry]) is unfit for {arch} containers: {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The architecture in its name.
        arch: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of `helper_dir` is no longer the one that was chosen.
    #[error("{} changed while it was in use; start the job again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The helper carried in this program does not unpack.
    #[error("the gantry-helper carried in this program is damaged; install gantry again")]
    Damaged {
        /// What the decompressor said.
        source: io::Error,
    },
}

/// Where helpers are taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Helpers {
    dir: Option<PathBuf>,
}

/// A helper that was found. Holds no program bytes until they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperBinary {
    arch: String,
    sha256: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Carried(&'static Embedded),
    File(PathBuf),
}

/// One program of the table that the build script writes.
#[derive(Debug, PartialEq, Eq)]
struct Embedded {
    arch: &'static str,
    sha256: &'static str,
    /// Bytes of the program when unpacked.
    size: usize,
    packed: &'static [u8],
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The helper carried in this program for an engine's architecture, as the engine reports it (`amd64`, `x86_64`,
/// `aarch64` …).
pub fn helper_for(engine_arch: &str) -> Result<HelperBinary, ToolsError> {
    Helpers::carried().helper_for(engine_arch)
}

impl Helpers {
    /// Only what is carried in this program.
    pub fn carried() -> Self {
        Self { dir: None }
    }

    /// A folder (`helper_dir` under `[gantry]`) before what is carried.
    pub fn with_dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: Some(dir.into()),
        }
    }

    /// The helper for an engine's architecture, as the engine reports it. Reads and hashes a file of the folder, so
    /// it blocks for some milliseconds then; what is carried costs nothing here.
    pub fn helper_for(&self, engine_arch: &str) -> Result<HelperBinary, ToolsError> {
        let arch = canonical_arch(engine_arch);
        if let Some(found) = self.in_dir(arch)? {
            return Ok(found);
        }
        let carried = EMBEDDED.iter().find(|embedded| embedded.arch == arch);
        let carried = carried.ok_or_else(|| ToolsError::Missing {
            arch: arch.to_owned(),
            dir: self.dir.clone(),
        })?;
        Ok(HelperBinary {
            arch: carried.arch.to_owned(),
            sha256: carried.sha256.to_owned(),
            place: Place::Carried(carried),
        })
    }

    fn in_dir(&self, arch: &str) -> Result<Option<HelperBinary>, ToolsError> {
        // The name comes from an engine: it must not lead out of the folder.
        let plain = arch
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let Some(dir) = self.dir.as_deref().filter(|_| plain && !arch.is_empty()) else {
            return Ok(None);
        };
        let path = dir.join(format!("{PROGRAM}-{arch}"));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ToolsError::Read { path, source }),
        };
        let unfit = |reason: String| ToolsError::Unfit {
            path: path.clone(),
            arch: arch.to_owned(),
            reason,
        };
        match elf::static_program(&bytes) {
            Ok(found) if found == arch => {}
            Ok(found) => return Err(unfit(format!("it is a program for {found}"))),
            Err(error) => return Err(unfit(error.to_string())),
        }
        Ok(Some(HelperBinary {
            arch: arch.to_owned(),
            sha256: sha256_hex(&bytes),
            place: Place::File(path),
        }))
    }
}

impl HelperBinary {
    /// The architecture, by the engine's usual name (`amd64`, `arm64` …).
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The content hash of the program (SHA-256, 64 hex digits, lower case).
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The program itself. Unpacks or reads it anew at each call (some megabytes, tens of milliseconds, blocking):
    /// it is needed once per engine and version, and is not to stay in memory.
    pub fn bytes(&self) -> Result<Vec<u8>, ToolsError> {
        match &self.place {
            Place::Carried(carried) => zstd::bulk::decompress(carried.packed, carried.size)
                .map_err(|source| ToolsError::Damaged { source }),
            Place::File(path) => {
                let bytes = fs::read(path).map_err(|source| ToolsError::Read {
                    path: path.clone(),
                    source,
                })?;
                if sha256_hex(&bytes) == self.sha256 {
                    Ok(bytes)
                } else {
                    Err(ToolsError::Changed { path: path.clone() })
                }
            }
        }
    }
}

/// Engines report an architecture by the kernel's name or by the image format's; files and the embedded table go by
/// the latter. A name that is not known stays as it is.
pub fn canonical_arch(engine_arch: &str) -> &str {
    match engine_arch {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armv5l" | "armv6l" | "armv7l" | "armhf" | "armel" => "arm",
        "i386" | "i586" | "i686" => "386",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn carried() -> String {
    match EMBEDDED {
        [] => "none".to_owned(),
        some => some
            .iter()
            .map(|embedded| embedded.arch)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn looked_in(dir: Option<&Path>) -> String {
    dir.map(|dir| format!(", and {} has none", dir.display()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
