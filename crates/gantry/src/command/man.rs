use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::CommandFactory as _;

use crate::{cli::Cli, error::CliError};

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder to write one page a command into; the program's own page goes to stdout if there is none
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode, CliError> {
    // Pages are about the program, whatever name it was called by.
    let program = Cli::command().name("gantry");
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        std::io::stdout().write_all(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program, folder).map_err(|error| {
        CliError::new(format!(
            "write man pages into {}: {error}",
            folder.display()
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}
