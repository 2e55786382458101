//! Whether a kept repository is one that can be initialised again for the job at hand.

use std::{fs, io, path::Path};

use gantry_agent::ObjectFormat;

use crate::files;

/// Makes a repository fit to be initialised again. One whose hash is not the wanted one goes: fetching into it can never work, and its
/// configuration, which would say so, is not to be believed. The names of its objects tell, or a detached `HEAD`. A `HEAD` that says
/// nothing (cut short by a crash) goes, and `git init` writes another.
pub(crate) fn check_head(project_dir: &Path, wanted: ObjectFormat) -> io::Result<()> {
    let git = project_dir.join(".git");
    let head = git.join("HEAD");
    let content = read_head(&head)?;
    let hash = of_objects(&git)?.or_else(|| content.as_deref().and_then(of_hash));
    if hash.is_some_and(|hash| hash != wanted) {
        return files::remove(&git);
    }
    match content {
        Some(content) if content.starts_with(b"ref: refs/") || of_hash(&content).is_some() => {
            Ok(())
        }
        _ => files::remove(&head),
    }
}

/// `None` if there is none; of what is no file of a fitting size, nothing.
fn read_head(head: &Path) -> io::Result<Option<Vec<u8>>> {
    let Ok(found) = fs::symlink_metadata(head) else {
        return Ok(None);
    };
    if !found.is_file() || found.len() >= 1024 {
        return Ok(Some(Vec::new()));
    }
    let content = fs::read(head).map_err(|error| files::at("cannot read", head, &error))?;
    Ok(Some(content.trim_ascii_end().to_owned()))
}

fn of_hash(text: &[u8]) -> Option<ObjectFormat> {
    let hash = text.iter().all(u8::is_ascii_hexdigit);
    match text.len() {
        40 if hash => Some(ObjectFormat::Sha1),
        64 if hash => Some(ObjectFormat::Sha256),
        _ => None,
    }
}

/// Whether anything has ever been fetched.
pub(crate) fn has_objects(git: &Path) -> io::Result<bool> {
    Ok(of_objects(git)?.is_some())
}

/// The first object or pack of objects whose name is a hash.
fn of_objects(git: &Path) -> io::Result<Option<ObjectFormat>> {
    let objects = git.join("objects");
    for dir in files::entries(&objects)? {
        let (dir, path) = (dir.file_name(), dir.path());
        let dir = dir.as_encoded_bytes();
        for entry in files::entries(&path)? {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let hash = if dir == b"pack" {
                name.strip_prefix(b"pack-")
                    .and_then(|name| of_hash(name.split(|&byte| byte == b'.').next()?))
            } else if dir.len() == 2 {
                of_hash(&[dir, name].concat())
            } else {
                None
            };
            if hash.is_some() {
                return Ok(hash);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_of_another_hash_goes_and_a_head_without_sense_goes() {
        let dir = tempfile::tempdir().unwrap();
        let git = dir.path().join(".git");
        let head = git.join("HEAD");
        check_head(dir.path(), ObjectFormat::Sha1).unwrap();
        for (content, wanted, git_stays, head_stays) in [
            (
                "ref: refs/heads/none\n".to_owned(),
                ObjectFormat::Sha256,
                true,
                true,
            ),
            ("a".repeat(40) + "\n", ObjectFormat::Sha1, true, true),
            ("a".repeat(64) + "\n", ObjectFormat::Sha256, true, true),
            ("a".repeat(40) + "\n", ObjectFormat::Sha256, false, false),
            ("a".repeat(64) + "\n", ObjectFormat::Sha1, false, false),
            (String::new(), ObjectFormat::Sha1, true, false),
            ("a".repeat(39), ObjectFormat::Sha1, true, false),
            ("x".repeat(2000), ObjectFormat::Sha1, true, false),
        ] {
            fs::create_dir_all(&git).unwrap();
            fs::write(&head, &content).unwrap();
            check_head(dir.path(), wanted).unwrap();
            assert_eq!(
                (files::exists(&git), files::exists(&head)),
                (git_stays, head_stays),
                "{content} {wanted:?}"
            );
        }
    }

    /// `HEAD` says nothing of the hash where a script has checked out a branch.
    #[test]
    fn objects_tell_the_hash_where_the_head_is_a_branch() {
        let loose = |length: usize| format!("ab/{}", "c".repeat(length - 2));
        let pack = |length: usize| format!("pack/pack-{}.idx", "c".repeat(length));
        for (object, found) in [
            (loose(40), Some(ObjectFormat::Sha1)),
            (loose(64), Some(ObjectFormat::Sha256)),
            (pack(40), Some(ObjectFormat::Sha1)),
            (pack(64), Some(ObjectFormat::Sha256)),
            ("info/packs".into(), None),
            ("pack/tmp_pack_x".into(), None),
            ("ab/tmp_obj_x".into(), None),
        ] {
            for wanted in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
                let dir = tempfile::tempdir().unwrap();
                let git = dir.path().join(".git");
                let path = git.join("objects").join(&object);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
                fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
                check_head(dir.path(), wanted).unwrap();
                let stays = found.is_none_or(|found| found == wanted);
                assert_eq!(git.exists(), stays, "{object} {wanted:?}");
            }
        }
    }
}
