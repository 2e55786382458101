//! Which folder holds the state of running jobs (design: "State folder").

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Name of the folder beside the config when nothing else is said.
const BESIDE_CONFIG: &str = ".gantry";

/// Where the state folder is, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    /// The folder. Relative only if the config's own path is.
    pub path: PathBuf,
    /// Who chose it.
    pub chosen_by: ChosenBy,
}

/// Who chose the state folder; `Display` completes "set by …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// `[gantry] state_dir`
    Setting,
    /// `$STATE_DIRECTORY`, as systemd sets it for `StateDirectory=`.
    ServiceManager,
    /// Nobody: `.gantry` beside the config.
    Default,
}

impl std::fmt::Display for ChosenBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Setting => "[gantry] state_dir",
            Self::ServiceManager => "$STATE_DIRECTORY",
            Self::Default => "default; [gantry] state_dir chooses another",
        })
    }
}

/// Chooses: setting, else the first folder of `$STATE_DIRECTORY`, else `.gantry` beside the config. A relative setting counts from
/// the config's folder, so that it does not depend on where the process was started. Empty values count as unset.
#[must_use]
pub fn resolve(
    setting: Option<&Path>,
    state_directory: Option<&OsStr>,
    config_file: &Path,
) -> StateDir {
    let beside = config_file.parent().unwrap_or(Path::new(""));
    if let Some(setting) = setting.filter(|path| !path.as_os_str().is_empty()) {
        return StateDir {
            path: beside.join(setting),
            chosen_by: ChosenBy::Setting,
        };
    }
    let first = state_directory
        .and_then(|list| std::env::split_paths(list).find(|path| !path.as_os_str().is_empty()));
    if let Some(path) = first {
        return StateDir {
            path,
            chosen_by: ChosenBy::ServiceManager,
        };
    }
    StateDir {
        path: beside.join(BESIDE_CONFIG),
        chosen_by: ChosenBy::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::{ChosenBy, resolve};
    use rstest::rstest;
    use std::ffi::OsStr;
    use std::path::Path;

    #[rstest]
    #[case::setting_wins(
        Some("/srv/state"),
        Some("/var/lib/gantry"),
        "/srv/state",
        ChosenBy::Setting
    )]
    #[case::relative_setting_counts_from_the_config(
        Some("state"),
        None,
        "/etc/gantry/state",
        ChosenBy::Setting
    )]
    #[case::empty_setting_is_none(Some(""), None, "/etc/gantry/.gantry", ChosenBy::Default)]
    #[case::service_manager(
        None,
        Some("/var/lib/gantry"),
        "/var/lib/gantry",
        ChosenBy::ServiceManager
    )]
    #[case::first_of_several(
        None,
        Some("/var/lib/a:/var/lib/b"),
        "/var/lib/a",
        ChosenBy::ServiceManager
    )]
    #[case::empty_variable_is_none(None, Some(""), "/etc/gantry/.gantry", ChosenBy::Default)]
    #[case::beside_the_config(None, None, "/etc/gantry/.gantry", ChosenBy::Default)]
    fn state_dir_is_chosen_in_order(
        #[case] setting: Option<&str>,
        #[case] variable: Option<&str>,
        #[case] path: &str,
        #[case] chosen_by: ChosenBy,
    ) {
        let chosen = resolve(
            setting.map(Path::new),
            variable.map(OsStr::new),
            Path::new("/etc/gantry/config.toml"),
        );
        assert_eq!(
            (chosen.path.to_str(), chosen.chosen_by),
            (Some(path), chosen_by)
        );
    }

    #[test]
    fn a_config_without_folder_keeps_its_state_in_the_working_directory() {
        assert_eq!(
            resolve(None, None, Path::new("config.toml")).path,
            Path::new(".gantry")
        );
    }
}
