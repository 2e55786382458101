//! The helper program `gantry-helper`, ready to be put into a container.
//!
//! `gantry` carries the helper for the architecture it was built on, compressed, so that a plain
//! `cargo build --release` gives one file that is complete. An engine of another architecture (an arm64 machine
//! reached over TCP, say) needs a helper of its own: `[gantry.helper_binary]` names a file for an architecture, which
//! also wins over the one carried.
//!
//! The program is chosen by the *engine's* architecture, never by this machine's. Its content hash names the tools
//! volume it is put into (engine-mechanics §b), so two versions never share a volume.

use std::collections::BTreeMap;
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
    /// Neither this build nor the configuration has one for the architecture.
    #[error(
        "no gantry-helper for the engine's architecture {arch:?}: this gantry carries {}; name a static gantry-helper \
         for it in the config: [gantry.helper_binary] {arch} = \"/path/to/gantry-helper\"",
        carried()
    )]
    Missing {
        /// The architecture.
        arch: String,
    },
    /// The file named for the architecture cannot be read.
    #[error("cannot read {} (helper_binary.{arch} under [gantry])", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The architecture it was named for.
        arch: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file named for the architecture is not a static program for it.
    #[error("{} (helper_binary.{arch} under [gantry]) does not run in {arch} containers: {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The architecture it was named for.
        arch: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is no longer the one that was chosen.
    #[error("{} (helper_binary under [gantry]) changed while it was in use", path.display())]
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
    /// By canonical architecture.
    files: BTreeMap<String, PathBuf>,
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
        Self::default()
    }

    /// Files by architecture (`[gantry.helper_binary]`) before what is carried. Nothing is read yet.
    pub fn with_files(files: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let files = files
            .into_iter()
            .map(|(arch, path)| (canonical_arch(&arch).to_owned(), path))
            .collect();
        Self { files }
    }

    /// The helper for an engine's architecture, as the engine reports it. Reads and hashes a named file, so it
    /// blocks for some milliseconds then; what is carried costs nothing here.
    pub fn helper_for(&self, engine_arch: &str) -> Result<HelperBinary, ToolsError> {
        let arch = canonical_arch(engine_arch);
        if let Some(path) = self.files.get(arch) {
            return from_file(arch, path);
        }
        let carried = EMBEDDED.iter().find(|embedded| embedded.arch == arch);
        let carried = carried.ok_or_else(|| ToolsError::Missing {
            arch: arch.to_owned(),
        })?;
        Ok(HelperBinary {
            arch: carried.arch.to_owned(),
            sha256: carried.sha256.to_owned(),
            place: Place::Carried(carried),
        })
    }
}

fn from_file(arch: &str, path: &Path) -> Result<HelperBinary, ToolsError> {
    let bytes = read(arch, path)?;
    let reason = match elf::static_program(&bytes) {
        Ok(found) if found == arch => {
            return Ok(HelperBinary {
                arch: arch.to_owned(),
                sha256: sha256_hex(&bytes),
                place: Place::File(path.to_owned()),
            });
        }
        Ok(found) => format!("it is a program for {found}"),
        Err(error) => error.to_string(),
    };
    Err(ToolsError::Unfit {
        path: path.to_owned(),
        arch: arch.to_owned(),
        reason,
    })
}

fn read(arch: &str, path: &Path) -> Result<Vec<u8>, ToolsError> {
    fs::read(path).map_err(|source| ToolsError::Read {
        path: path.to_owned(),
        arch: arch.to_owned(),
        source,
    })
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
                let bytes = read(&self.arch, path)?;
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

#[cfg(test)]
mod tests;
