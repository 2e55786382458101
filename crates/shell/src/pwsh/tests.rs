//! There is no PowerShell where these tests run: they compare text with the reference, and have it read by a grammar.

use gantry_job::{FeatureFlags, Variables};
use rstest::rstest;

use super::*;
use crate::Shell;

mod grammar;

fn rendered(change: impl FnOnce(&mut BuildScript<'_>)) -> Rendered {
    let variables = Variables::from(vec![
        Variable::new("A", "old"),
        Variable::new("A", "it's $x"),
        Variable {
            file: true,
            ..Variable::new("KEY", "line\n")
        },
        Variable::new("1.odd", "x"),
    ]);
    let flags = FeatureFlags::default();
    let commands = [
        "make all".to_owned(),
        "if(1) {\n2\n}".to_owned(),
        " ".to_owned(),
    ];
    let mut script = BuildScript {
        shell: Shell::Pwsh,
        kind: ScriptKind::Step {
            pre_build_script: "pre",
            post_build_script: "post",
        },
        commands: &commands,
        variables: &variables,
        project_dir: "/builds/g/p",
        tmp_dir: "/builds/g/p.tmp",
        create_project_dir: false,
        flags: &flags,
        debug_trace: false,
        trace_sections: true,
        start_nonce: Some("mark-1"),
    };
    change(&mut script);
    script.render()
}

#[test]
fn the_container_runs_powershell_that_reads_utf8_from_stdin() {
    let command = pwsh_command();
    assert_eq!(
        command[..11].join(" "),
        "pwsh -NoProfile -NoLogo -InputFormat text -OutputFormat text -NonInteractive -ExecutionPolicy Bypass -EncodedCommand"
    );
    let bytes = STANDARD.decode(&command[11]).unwrap();
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let script = String::from_utf16(&units).unwrap();
    assert!(script.contains("System.Text.UTF8Encoding"));
    assert!(
        script.contains("\npwsh -NoProfile -NonInteractive -Command -\r\nexit $LASTEXITCODE\r\n")
    );
}

#[test]
fn a_step_is_one_block_and_every_command_is_checked() {
    let rendered = rendered(|_| {});
    assert_eq!(rendered.skipped_keys, ["1.odd"]);
    let script = &rendered.script;
    assert!(script.starts_with(
        "#!/usr/bin/env pwsh\n& {\n\necho \"mark-1\"\n$ErrorActionPreference = \"Stop\"\n"
    ));
    assert!(script.ends_with("\n}\n\n"));
    let variables = "${A}=\"it`'s `$x\"\n${env:A}=${A}\n\
         [System.IO.File]::WriteAllText(\"/builds/g/p.tmp/KEY\", \"line`n\")\n";
    assert!(script.contains(variables), "{script}");
    assert!(script.contains("${KEY}=\"/builds/g/p.tmp/KEY\"\n${env:KEY}=${KEY}\n"));
    assert!(!script.contains("old") && !script.contains("1.odd"));
    assert!(script.contains("${GITLAB_ENV}=\"/builds/g/p.tmp/gitlab_runner_env\"\n"));
    let commands = script.split_once("cd \"/builds/g/p\"\n").unwrap().1;
    let check = "if(!$?) { Exit &{if($LASTEXITCODE) {$LASTEXITCODE} else {1}} }\n";
    let shown = |text: &str| format!("echo \"\x1b[32;1m`$ {text}\x1b[0;m\"\n");
    let expected = format!(
        "{check}{}pre\n{check}{}make all\n{check}{}if(1) {{\n2\n}}\n{check}echo \"\"\n{}post\n{check}\n}}\n\n",
        shown("pre"),
        shown("make all"),
        shown("if(1) { `# collapsed multi-line command"),
        shown("post"),
    );
    assert_eq!(commands, expected);
}

#[test]
fn an_after_script_has_nothing_of_the_runner_around_it() {
    let script = rendered(|script| script.kind = ScriptKind::AfterScript).script;
    assert!(script.contains("Running after script..."));
    assert!(!script.contains("\npre\n") && !script.contains("\npost\n"));
}

#[test]
fn flags_change_the_echo_and_debugging_traces() {
    let mut flags = FeatureFlags::default();
    flags.set(FeatureFlag::ScriptSections, true);
    let script = rendered(|script| {
        script.flags = Box::leak(Box::new(flags));
        script.debug_trace = true;
        script.create_project_dir = true;
    })
    .script;
    assert!(script.contains("`$ if(1) {`n2`n}\x1b[0;m\""), "{script}");
    assert!(script.contains("echo \"mark-1\"\nSet-PSDebug -Trace 2\n"));
    assert!(
        script.contains("New-Item -ItemType directory -Force -Path \"/builds/g/p\" | out-null\n")
    );
    assert!(!script.contains("section_start"));
}

#[rstest]
#[case("", "\"\"")]
#[case("plain text", "\"plain text\"")]
#[case("a`b\"c$d#e'f", "\"a``b`\"c`$d`#e`'f\"")]
#[case("\0\x07\x08\x0c\n\r\t\x0b", "\"`0`a`b`f`n`r`t`v\"")]
#[case("“typographic” „quotes", "\"`“typographic`” `„quotes\"")]
#[case("é 🦀", "\"é 🦀\"")]
fn text_is_quoted(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(quoted(text), expected);
}
