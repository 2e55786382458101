//! All files below a folder, in the order of their names.

use std::path::{Path, PathBuf};

use super::{TreeError, present};

/// Calls `visit` with the path of each entry below `root` and its path from there, folders before
/// what they hold. Symbolic links are not followed. `wanted` is asked with an entry's path from
/// the root and whether it is a folder; what it does not want is not entered.
pub(super) fn walk(
    root: &Path,
    wanted: &dyn Fn(&Path, bool) -> bool,
    visit: &mut dyn FnMut(&Path, &Path) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    // Names to visit, the next one last. Folders are opened when their turn comes.
    let mut open: Vec<PathBuf> = children(root, Path::new(""), wanted)?;
    while let Some(name) = open.pop() {
        let path = root.join(&name);
        visit(&path, &name)?;
        if path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
        {
            open.extend(children(root, &name, wanted)?);
        }
    }
    Ok(())
}

/// Entries of a folder in reverse order.
fn children(
    root: &Path,
    folder: &Path,
    wanted: &dyn Fn(&Path, bool) -> bool,
) -> Result<Vec<PathBuf>, TreeError> {
    let path = root.join(folder);
    let failed = |source| TreeError::Read {
        path: path.clone(),
        source,
    };
    let Some(entries) = present(path.read_dir()).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = folder.join(entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if wanted(&name, is_folder) {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
