//! Which repository and which pipeline file a run is about.

use std::path::{Path, PathBuf};

/// Name of the file at the root of a repository.
pub const FILE_NAME: &str = ".gitlab-ci.yml";
/// No pipeline is so large; a file that is something else is not to fill the memory.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// A pipeline file and the repository around the current folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Root of the working copy.
    pub root: PathBuf,
    /// Path of the file from the root if it lies in the repository, else as it was found. This is
    /// what messages call it, and `CI_CONFIG_PATH`.
    pub name: String,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// No folder from here upwards holds `.git`.
    #[error("{} is not in a git repository", folder.display())]
    NoRepository {
        /// Where it was begun to look.
        folder: PathBuf,
    },
    /// The repository has no pipeline file.
    #[error("there is no {FILE_NAME} at the root of the repository, {}", root.display())]
    NoFile {
        /// The root.
        root: PathBuf,
    },
    /// The file that was named cannot be found.
    #[error("there is no file {}, neither here nor at the root of the repository, {}", file.display(), root.display())]
    NoSuchFile {
        /// As named.
        file: PathBuf,
        /// The root.
        root: PathBuf,
    },
    /// A folder or file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no pipeline.
    #[error("{} has {size} bytes, more than a pipeline may have ({LARGEST_FILE})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
}

impl Project {
    /// Finds the repository from `folder` upwards, and the pipeline file at its root, or `file`,
    /// which is relative to `folder`, else to the root.
    ///
    /// # Errors
    /// When one of them is not there or cannot be read.
    pub fn find(folder: &Path, file: Option<&Path>) -> Result<Self, ProjectError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| ProjectError::Unreadable { path, source }
        };
        let folder = std::fs::canonicalize(folder).map_err(unreadable(folder))?;
        let root = folder
            .ancestors()
            .find(|folder| folder.join(".git").symlink_metadata().is_ok())
            .ok_or_else(|| ProjectError::NoRepository {
                folder: folder.clone(),
            })?
            .to_owned();
        let path = match file {
            None => {
                let path = root.join(FILE_NAME);
                path.exists()
                    .then_some(path)
                    .ok_or_else(|| ProjectError::NoFile { root: root.clone() })?
            }
            Some(file) => [&folder, &root]
                .map(|base| base.join(file))
                .into_iter()
                .find(|path| path.exists())
                .ok_or_else(|| ProjectError::NoSuchFile {
                    file: file.to_owned(),
                    root: root.clone(),
                })?,
        };
        let metadata = std::fs::metadata(&path).map_err(unreadable(&path))?;
        if metadata.len() > LARGEST_FILE {
            return Err(ProjectError::TooLarge {
                size: metadata.len(),
                path,
            });
        }
        let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
        let name = std::fs::canonicalize(&path)
            .ok()
            .and_then(|path| Some(path.strip_prefix(&root).ok()?.to_owned()));
        let name = name.as_deref().or(file).unwrap_or(&path);
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            root,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A repository with a pipeline at its root, another one and a folder.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join(FILE_NAME), "root").unwrap();
        fs::write(dir.path().join("a/other.yml"), "other").unwrap();
        dir
    }

    #[test]
    fn the_file_at_the_root_is_found_from_any_folder_below() {
        let dir = repository();
        let project = Project::find(&dir.path().join("a/b"), None).unwrap();
        assert_eq!(project.bytes, b"root");
        assert_eq!(project.name, FILE_NAME);
        assert_eq!(project.root, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn a_named_file_is_looked_for_here_and_then_at_the_root() {
        let dir = repository();
        let here = Project::find(&dir.path().join("a"), Some(Path::new("other.yml"))).unwrap();
        assert_eq!(
            (here.name.as_str(), here.bytes),
            ("a/other.yml", b"other".to_vec())
        );
        let root = Project::find(&dir.path().join("a/b"), Some(Path::new("a/other.yml"))).unwrap();
        assert_eq!(root.name, "a/other.yml");
    }

    #[test]
    fn a_file_outside_of_the_repository_keeps_the_name_it_was_given() {
        let dir = repository();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("ci.yml");
        fs::write(&file, "x").unwrap();
        let project = Project::find(dir.path(), Some(&file)).unwrap();
        assert_eq!(project.name, file.to_str().unwrap());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Project::find(dir.path(), None).unwrap_err();
        assert!(
            matches!(error, ProjectError::NoRepository { .. }),
            "{error}"
        );
        fs::create_dir(dir.path().join(".git")).unwrap();
        let error = Project::find(dir.path(), None).unwrap_err();
        assert!(matches!(error, ProjectError::NoFile { .. }), "{error}");
        let error = Project::find(dir.path(), Some(Path::new("x.yml"))).unwrap_err();
        assert!(
            error.to_string().starts_with("there is no file x.yml,"),
            "{error}"
        );
        let error = Project::find(&dir.path().join("nowhere"), None).unwrap_err();
        assert!(matches!(error, ProjectError::Unreadable { .. }), "{error}");
        let error = Project::find(dir.path(), Some(Path::new("."))).unwrap_err();
        assert!(matches!(error, ProjectError::Unreadable { .. }), "{error}");
    }
}
