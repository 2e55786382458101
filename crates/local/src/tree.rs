//! The working copy as a tar stream, as it is: changed and untracked files too, ignored ones not,
//! and a `.git` so that git works in the job. Outside of git: all files. Of submodules what a job
//! asks for ([`Submodules`]).
//!
//! Files come out as from a checkout with umask 0000 and belong to root: any user of any image
//! may change them, and nothing else of the owner's machine shows. Only regular files, folders and
//! symbolic links are sent. The working copy is read and never written; what vanishes or shrinks
//! meanwhile does not break the stream.
//!
//! Memory does not depend on the size of files: the list of names, the folders already sent, and a
//! few buffers.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tar::{Builder, EntryType, Header};
use tokio::process::Command;

use crate::facts::{Checkout, FactsError, git_command};

mod git_config;
mod git_dir;
mod stream;
mod submodules;
mod walk;

#[cfg(test)]
mod tests;

pub use git_dir::GitSnapshot;
pub use stream::TreeArchive;
use submodules::Submodule;
pub use submodules::Submodules;

/// What git is asked for the files of a working copy.
const LIST: [&str; 5] = [
    "ls-files",
    "--cached",
    "--others",
    "--exclude-standard",
    "-z",
];

/// Why the working copy cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Git cannot list the files, or describe its own directory.
    #[error(transparent)]
    Git(#[from] FactsError),
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever takes the stream does not want more, or its transport failed.
    #[error("cannot write the archive of the working tree: {0}")]
    Write(#[source] io::Error),
}

/// What to send of a working copy: its file names as they were when it was listed. Cloning shares
/// them.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Arc<Path>,
    files: Files,
    git: Option<Arc<GitSnapshot>>,
    submodules: Arc<[Submodule]>,
    wanted: Submodules,
    /// When it was listed, in seconds since 1970: the time of folders and of files of our own.
    listed_at: u64,
}

#[derive(Debug, Clone)]
enum Files {
    /// Paths from the root, each ended by a NUL: what `git ls-files -z` says.
    Listed(Arc<[u8]>),
    /// Whatever the root holds.
    All,
}

impl Tree {
    /// Lists the files of a working copy.
    ///
    /// # Errors
    /// When git cannot.
    pub async fn list(checkout: &Checkout) -> Result<Self, TreeError> {
        let root: Arc<Path> = Arc::from(checkout.root.as_path());
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let listed_at = since_1970.map_or(0, |time| time.as_secs());
        let Some(dirs) = &checkout.git_dirs else {
            return Ok(Self {
                root,
                files: Files::All,
                git: None,
                submodules: Arc::default(),
                wanted: Submodules::None,
                listed_at,
            });
        };
        let mut command = Command::from(git_command(&root));
        command.args(LIST);
        let output = command
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| FactsError::NoGit { source })?;
        if !output.status.success() {
            return Err(TreeError::Git(FactsError::Git {
                command: "ls-files".to_owned(),
                path: checkout.root.clone(),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }));
        }
        let git = GitSnapshot::new(&root, dirs).await?;
        let submodules = submodules::list(&root).await;
        let files = Files::Listed(Arc::from(output.stdout));
        Ok(Self {
            root,
            files,
            git: Some(Arc::new(git)),
            submodules,
            wanted: Submodules::None,
            listed_at,
        })
    }

    /// The same with these submodules.
    #[must_use]
    pub fn with_submodules(self, wanted: Submodules) -> Self {
        Self { wanted, ..self }
    }

    /// Submodules that are wanted and not in the working copy, by their paths from its root.
    pub fn missing_submodules(&self) -> impl Iterator<Item = &Path> {
        let wanted = self.wanted_submodules();
        wanted
            .filter(|submodule| submodule.files.is_none())
            .map(|submodule| submodule.path.as_path())
    }

    fn wanted_submodules(&self) -> impl Iterator<Item = &Submodule> {
        let all = self.submodules.iter();
        all.filter(|submodule| submodule.wanted_by <= self.wanted)
    }

    /// The same without `.git`.
    #[must_use]
    pub fn without_git(self) -> Self {
        Self { git: None, ..self }
    }

    /// Writes the archive, paths relative to the root. Blocks; for a blocking thread.
    ///
    /// # Errors
    /// When a file cannot be read or `out` fails.
    pub fn write<W: Write>(&self, out: W) -> Result<W, TreeError> {
        let mut archive = Archive::new(out, self.listed_at);
        match &self.files {
            Files::Listed(names) => {
                let mut folders = RealFolders::default();
                self.listed(Path::new(""), names, &mut folders, &mut archive)?;
                for Submodule { path, files, .. } in self.wanted_submodules() {
                    let names = files.as_deref().unwrap_or_default();
                    self.listed(path, names, &mut folders, &mut archive)?;
                }
            }
            Files::All => {
                walk::walk(&self.root, &|_, _| true, &mut |path, name| {
                    archive.add(path, name, Modes::Tree)
                })?;
            }
        }
        if let Some(git) = &self.git {
            git.write(&mut archive)?;
        }
        archive.finish()
    }

    /// Sends files below a folder of the working copy.
    fn listed<W: Write>(
        &self,
        above: &Path,
        names: &[u8],
        folders: &mut RealFolders,
        archive: &mut Archive<W>,
    ) -> Result<(), TreeError> {
        let mut last: &[u8] = b"";
        for name in names.split(|byte| *byte == 0) {
            // An unmerged file is listed once per side. A name that ends in a slash is another
            // repository inside this one, which git would not add either.
            if name.is_empty() || name == last || name.ends_with(b"/") {
                continue;
            }
            last = name;
            let name = &above.join(OsStr::from_bytes(name));
            // The parent may be a symbolic link by now: what is behind it is not in this tree.
            if folders.holds(&self.root, name) {
                archive.add(&self.root.join(name), name, Modes::Tree)?;
            }
        }
        Ok(())
    }
}

/// Folders below the root that are no symbolic links.
#[derive(Default)]
struct RealFolders {
    known: HashSet<PathBuf>,
}

impl RealFolders {
    fn holds(&mut self, root: &Path, name: &Path) -> bool {
        let Some(parent) = name.parent().filter(|parent| *parent != Path::new("")) else {
            return true;
        };
        if self.known.contains(parent) {
            return true;
        }
        let real = self.holds(root, parent)
            && root
                .join(parent)
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_dir());
        if real {
            self.known.insert(parent.to_owned());
        }
        real
    }
}

/// Which permissions an entry gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modes {
    /// Of a file of the tree: 0666, or 0777 if its owner may execute it.
    Tree,
    /// Of a file of git: as it is, so that objects stay read-only, and writable by all if it is by
    /// its owner.
    Git,
}

impl Modes {
    fn of_file(self, metadata: &Metadata) -> u32 {
        let mode = metadata.mode();
        match self {
            Self::Tree if mode & 0o100 != 0 => 0o777,
            Self::Tree => 0o666,
            Self::Git if mode & 0o200 != 0 => 0o666,
            Self::Git => 0o444,
        }
    }
}

/// A tar archive in the making.
struct Archive<W: Write> {
    tar: Builder<W>,
    /// Folders already in it.
    folders: HashSet<PathBuf>,
    /// Time of what has none of its own.
    now: u64,
}

impl<W: Write> Archive<W> {
    fn new(out: W, now: u64) -> Self {
        let mut tar = Builder::new(out);
        tar.follow_symlinks(false);
        Self {
            tar,
            folders: HashSet::new(),
            now,
        }
    }

    /// Adds what is at `path` under `name`. What is not there any more, and what is neither file
    /// nor folder nor symbolic link, is left out.
    fn add(&mut self, path: &Path, name: &Path, modes: Modes) -> Result<(), TreeError> {
        let failed = |source| TreeError::Read {
            path: path.to_owned(),
            source,
        };
        let Some(metadata) = present(path.symlink_metadata()).map_err(failed)? else {
            return Ok(());
        };
        if metadata.is_dir() {
            return self.folder(name);
        }
        if metadata.is_symlink() {
            let Some(target) = present(path.read_link()).map_err(failed)? else {
                return Ok(());
            };
            self.parents(name)?;
            let mut header = header(EntryType::Symlink, 0o777, mtime(&metadata));
            // Taken literally: `./a` is another content than `a` to git. Only a short target has
            // room in the header.
            let written = match header.set_link_name_literal(target.as_os_str().as_bytes()) {
                Ok(()) => self.tar.append_data(&mut header, name, io::empty()),
                Err(_) => self.tar.append_link(&mut header, name, &target),
            };
            return written.map_err(TreeError::Write);
        }
        if !metadata.is_file() {
            return Ok(());
        }
        let Some(file) = present(File::open(path)).map_err(failed)? else {
            return Ok(());
        };
        self.parents(name)?;
        let mut header = header(
            EntryType::Regular,
            modes.of_file(&metadata),
            mtime(&metadata),
        );
        header.set_size(metadata.len());
        let mut content = Exactly {
            file,
            left: metadata.len(),
            failed: None,
        };
        let written = self.tar.append_data(&mut header, name, &mut content);
        if let Some(source) = content.failed {
            return Err(failed(source));
        }
        written.map_err(TreeError::Write)
    }

    /// Adds a file of our own making.
    fn text(&mut self, name: &Path, text: &str) -> Result<(), TreeError> {
        self.parents(name)?;
        let mut header = header(EntryType::Regular, 0o666, self.now);
        header.set_size(text.len() as u64);
        self.tar
            .append_data(&mut header, name, text.as_bytes())
            .map_err(TreeError::Write)
    }

    /// Adds a folder and those above it, each once.
    fn folder(&mut self, name: &Path) -> Result<(), TreeError> {
        if name == Path::new("") || self.folders.contains(name) {
            return Ok(());
        }
        self.parents(name)?;
        self.folders.insert(name.to_owned());
        let mut header = header(EntryType::Directory, 0o777, self.now);
        header.set_size(0);
        self.tar
            .append_data(&mut header, name, io::empty())
            .map_err(TreeError::Write)
    }

    fn parents(&mut self, name: &Path) -> Result<(), TreeError> {
        match name.parent() {
            Some(parent) => self.folder(parent),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<W, TreeError> {
        let mut out = self.tar.into_inner().map_err(TreeError::Write)?;
        out.flush().map_err(TreeError::Write)?;
        Ok(out)
    }
}

fn header(kind: EntryType, mode: u32, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_size(0);
    header
}

/// Whole seconds; what lies before 1970 counts as 1970.
fn mtime(metadata: &Metadata) -> u64 {
    u64::try_from(metadata.mtime()).unwrap_or_default()
}

/// `Ok(None)` if there is no such file any more.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A file in the length that its header promised: cut if it grew, filled with zeros if it shrank.
/// A read error is kept apart, for the archive writer mixes it with its own.
struct Exactly<R> {
    file: R,
    left: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = &mut buffer[..most];
        let mut count = match self.file.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.failed = Some(error);
                return Err(io::Error::other("the file cannot be read"));
            }
        };
        if count == 0 {
            buffer.fill(0);
            count = buffer.len();
        }
        self.left -= count as u64;
        Ok(count)
    }
}
