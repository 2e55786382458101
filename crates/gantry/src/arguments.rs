//! Argument forms of the peer's parser that clap does not take: `-config x` for `--config x`, and a boolean with its value apart.
//!
//! Values are left alone: what follows a flag that takes one is its value, whatever it looks like.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Arguments in the form clap takes, and what is to be said about them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Normalised {
    pub(crate) arguments: Vec<OsString>,
    /// Flags whose value stood apart.
    pub(crate) boolean_apart: Vec<String>,
}

/// Brings `arguments` (the program's name first) into the form that `program` takes.
pub(crate) fn normalise(
    program: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Normalised {
    let mut done = Normalised::default();
    let mut arguments = arguments.into_iter().peekable();
    done.arguments.extend(arguments.next());
    let mut command = program;
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else {
            done.arguments.push(argument);
            continue;
        };
        if text == "--" {
            done.arguments.push(argument);
            done.arguments.extend(arguments);
            break;
        }
        let Some(name) = text.strip_prefix('-') else {
            if let Some(inner) = command.find_subcommand(text) {
                command = inner;
            }
            done.arguments.push(argument);
            continue;
        };
        let (dashes, name) = match name.strip_prefix('-') {
            Some(name) => ("--", name),
            None => ("-", name),
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(form) = form(program, command, dashes, name) else {
            done.arguments.push(argument);
            continue;
        };
        let long = dashes == "-" && name.len() > 1;
        let mut flag = if long {
            OsString::from(format!("-{text}"))
        } else {
            argument.clone()
        };
        if value.is_none() {
            match form {
                Form::Bool => {
                    let apart = arguments.next_if(|next| next == "true" || next == "false");
                    if let Some(apart) = apart {
                        done.boolean_apart.push(name.to_owned());
                        flag.push("=");
                        flag.push(apart);
                    }
                }
                Form::Value => {
                    done.arguments.push(flag);
                    done.arguments.extend(arguments.next());
                    continue;
                }
                Form::Nothing => {}
            }
        }
        done.arguments.push(flag);
    }
    done
}

/// What may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `=true` or `=false`
    Bool,
    /// A value, behind `=` or as the next argument.
    Value,
    /// Nothing.
    Nothing,
}

/// The form of a flag of the command at hand, else of the program.
fn form(program: &Command, command: &Command, dashes: &str, name: &str) -> Option<Form> {
    if matches!(name, "help" | "h") {
        return Some(Form::Nothing);
    }
    let globals = program
        .get_arguments()
        .filter(|arg| arg.is_global_set() || std::ptr::eq(program, command));
    let found = command.get_arguments().chain(globals).find(|arg| {
        let mut longs = arg
            .get_long()
            .into_iter()
            .chain(arg.get_all_aliases().unwrap_or_default());
        let mut letters = name.chars();
        let letter = letters.next().filter(|_| letters.next().is_none());
        let is_short = dashes == "-" && letter.is_some() && arg.get_short() == letter;
        is_short || longs.any(|long| long == name)
    })?;
    Some(match found.get_action() {
        ArgAction::Set | ArgAction::Append if found.is_require_equals_set() => Form::Bool,
        ArgAction::Set | ArgAction::Append => Form::Value,
        _ => Form::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;
    use crate::cli::Cli;

    #[rstest]
    #[case("run -config x", "run --config x")]
    #[case("run -config=x", "run --config=x")]
    #[case("run -c x", "run -c x")]
    #[case("-debug run --config x", "--debug run --config x")]
    #[case("run -debug", "run --debug")]
    #[case("-version", "--version")]
    #[case("register -docker-image ruby -n", "register --docker-image ruby -n")]
    #[case("register --name -url -url x", "register --name -url --url x")]
    #[case("register --locked false", "register --locked=false")]
    #[case("register --locked=false", "register --locked=false")]
    #[case(
        "register --docker-privileged true -n",
        "register --docker-privileged=true -n"
    )]
    #[case("register --docker-privileged -n", "register --docker-privileged -n")]
    #[case("register -- -config", "register -- -config")]
    #[case("exec -ef x", "exec -ef x")]
    #[case("run -nonsense x", "run -nonsense x")]
    fn the_peers_forms_become_claps(#[case] given: &str, #[case] expected: &str) {
        let words = |text: &str| -> Vec<OsString> {
            std::iter::once("gantry")
                .chain(text.split(' '))
                .map(OsString::from)
                .collect()
        };
        let normalised = normalise(&Cli::command(), words(given));
        assert_eq!(normalised.arguments, words(expected));
        assert_eq!(
            normalised.boolean_apart.len(),
            usize::from(given.ends_with(" false") || given.contains(" true"))
        );
    }
}
