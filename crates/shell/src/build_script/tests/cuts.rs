//! The nonce, and scripts that do not arrive whole.

use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[test]
fn nonce_is_the_first_line() {
    let stage = Stage {
        start_nonce: Some(NONCE),
        ..Stage::new()
    };
    in_every_shell(|shell| {
        let run = stage.output(shell, &["echo user"]);
        assert_eq!(run.stdout, format!("{NONCE}\nuser\n"), "{shell}");
    });
}

/// Feeds the prefix of `script` of each length in `cuts` to `shell` and checks that it neither
/// prints the nonce nor runs a user command.
fn assert_cuts_run_nothing(
    shell: &TestShell,
    script: &str,
    marker: &Path,
    cuts: impl Iterator<Item = usize>,
) {
    for cut in cuts {
        let run = Run::stdin_bytes(shell, &script.as_bytes()[..cut]);
        // On stderr the shells may quote a piece of the script in their complaint.
        let mut printed = run.stdout.lines().chain(run.stderr.lines());
        assert!(
            !printed.any(|line| line == NONCE),
            "{shell}: nonce at cut {cut} of {}",
            script.len()
        );
        assert_eq!(run.stdout, "", "{shell}: output at cut {cut}");
        assert!(
            !marker.exists(),
            "{shell}: user code ran at cut {cut} of {}",
            script.len()
        );
    }
}

/// The whole script and the one without its final newline run; every shorter one does not.
fn complete_length(script: &str) -> usize {
    assert!(script.ends_with("}\n"));
    script.len() - 1
}

#[rstest]
#[case::eval(false)]
#[case::legacy_eval(true)]
fn small_script_cut_at_any_byte_runs_nothing(#[case] legacy: bool) {
    in_every_shell(|shell| {
        let mut stage = Stage {
            start_nonce: Some(NONCE),
            ..Stage::new()
        };
        stage.flags.set(FeatureFlag::UseLegacyBashEval, legacy);
        let marker = stage.root.path().join("ran");
        let script = stage
            .render(STEP, &[&format!("touch '{}'", marker.display())])
            .script;
        let complete = complete_length(&script);
        assert_cuts_run_nothing(shell, &script, &marker, 0..complete);
        for end in [complete, script.len()] {
            let run = Run::stdin(shell, &script[..end]);
            assert!(
                run.stdout.starts_with(NONCE) && run.code == Some(0),
                "{shell}: {run:?}"
            );
            assert!(marker.exists(), "{shell}");
            fs::remove_file(&marker).unwrap();
        }
    });
}

#[test]
fn large_script_of_hard_bytes_cut_in_many_places_runs_nothing() {
    let mut variables: Vec<Variable> = HARD_VALUES
        .iter()
        .enumerate()
        .map(|(n, value)| Variable::new(format!("V{n}"), *value))
        .collect();
    variables.push(file_variable("F", "'\n') < /dev/null\nexit 0; }\n"));
    let stage = Stage {
        start_nonce: Some(NONCE),
        ..Stage::with(variables)
    };
    let marker = stage.root.path().join("ran");
    let touch = format!("touch '{}'", marker.display());
    let script = stage
        .render(
            STEP,
            &[
                &touch,
                "cat <<'END'\n') < /dev/null\nexit 0; }\n'\nEND",
                "if true\nthen\n  echo 'a' \"b\" # it's\nfi",
                "f() { echo $1; }; f x",
                &touch,
            ],
        )
        .script;
    let complete = complete_length(&script);
    in_every_shell(|shell| {
        // Each byte where quoting and the frame are touchy, and a prime step elsewhere.
        let touchy = script
            .char_indices()
            .filter(|(_, c)| "'\n;})".contains(*c))
            .map(|(at, _)| at);
        let mut cuts: Vec<usize> = touchy
            .flat_map(|at| [at, at + 1])
            .step_by(3)
            .chain((0..complete).step_by(23))
            .chain(complete.saturating_sub(60)..complete)
            .filter(|cut| *cut < complete)
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        assert!(cuts.len() > 300, "only {} cuts", cuts.len());
        assert_cuts_run_nothing(shell, &script, &marker, cuts.into_iter());
        let run = Run::stdin(shell, &script);
        assert!(
            run.stdout.starts_with(NONCE) && marker.exists(),
            "{shell}: {}",
            run.stderr
        );
        fs::remove_file(&marker).unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_command_text_cut_anywhere_runs_nothing(
        command in "([a-z '\"\n;(){}<>&|#$\\\\`]|.){0,60}",
        cut in 0.0..1.0f64,
    ) {
        let stage = Stage { start_nonce: Some(NONCE), ..Stage::new() };
        let marker = stage.root.path().join("ran");
        let script =
            stage.render(STEP, &[&format!("touch '{}'", marker.display()), &command]).script;
        let complete = complete_length(&script);
        let cut = ((complete as f64 * cut) as usize).min(complete - 1);
        for shell in shells() {
            assert_cuts_run_nothing(&shell, &script, &marker, [cut].into_iter());
        }
    }
}
