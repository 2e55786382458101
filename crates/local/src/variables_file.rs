//! Variables of a local run in a file of their own: what a server would keep in its settings.

use std::path::{Path, PathBuf};

use gantry_job::Variable;
use gantry_pipeline::Problem;

/// Read where no other file is named: GitLab CI Local has its variables there.
pub const USUAL_FILE: &str = ".gitlab-ci-local-variables.yml";
/// Larger ones are no files of variables.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Why the variables cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VariablesFileError {
    /// The file cannot be read.
    #[error("the file of variables {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("the file of variables {} is longer than {LARGEST} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else than names and values. Without an excerpt of the file, which might show a secret.
    #[error("{}", problems.join("\n"))]
    Content {
        /// `file:line:column: message`, each.
        problems: Vec<String>,
    },
}

/// The variables of the file that is named, else of the usual one at the root of the working copy, if it is there. A map of names
/// and values in YAML; the values are taken as they stand, without references.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_variables(
    named: Option<&Path>,
    root: &Path,
) -> Result<Vec<Variable>, VariablesFileError> {
    let path = named.map_or_else(|| root.join(USUAL_FILE), Path::to_owned);
    let unreadable = |source| VariablesFileError::Unreadable {
        path: path.clone(),
        source,
    };
    let bytes = match std::fs::metadata(&path) {
        Ok(found) if found.len() > LARGEST => return Err(VariablesFileError::TooLong { path }),
        Ok(_) => std::fs::read(&path).map_err(unreadable)?,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let variables =
        gantry_pipeline::parse_variables(&path.display().to_string(), &bytes).map_err(|error| {
            VariablesFileError::Content {
                problems: error.problems().iter().map(Problem::line).collect(),
            }
        })?;
    Ok(variables
        .into_iter()
        .map(|variable| Variable {
            raw: true,
            ..Variable::new(variable.key, variable.value)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(variables: &[Variable]) -> Vec<(&str, &str)> {
        variables
            .iter()
            .map(|variable| (variable.key.as_str(), variable.value.as_str()))
            .collect()
    }

    #[test]
    fn the_usual_file_is_read_if_it_is_there_and_a_named_one_must_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_variables(None, dir.path()).unwrap(), []);
        let usual = dir.path().join(USUAL_FILE);
        std::fs::write(&usual, "---\nA: $x y\nB: 5\nC: |\n  two\n  lines\n").unwrap();
        let found = read_variables(None, dir.path()).unwrap();
        assert_eq!(
            values(&found),
            [("A", "$x y"), ("B", "5"), ("C", "two\nlines\n")]
        );
        assert!(
            found
                .iter()
                .all(|variable| variable.raw && !variable.public)
        );
        let other = dir.path().join("other.yml");
        let error = read_variables(Some(&other), dir.path()).unwrap_err();
        assert!(error.to_string().contains("other.yml"), "{error}");
        std::fs::write(&other, "").unwrap();
        assert_eq!(read_variables(Some(&other), dir.path()).unwrap(), []);
    }

    #[test]
    fn what_is_no_map_of_values_is_told_and_no_value_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(USUAL_FILE);
        for text in [
            "- hush\n",
            "A: [hush]\n",
            "A: {values: {\"*\": hush}}\n",
            "A: 'hush\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_variables(None, dir.path()).unwrap_err();
            assert!(
                matches!(error, VariablesFileError::Content { .. }),
                "{error}"
            );
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
