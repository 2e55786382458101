//! Stage scripts for PowerShell (job-lifecycle §3.6): `shell = "pwsh"`, for images with PowerShell on Linux.
//!
//! The script is one script block. PowerShell reads a block from stdin to its end before it runs any of it, so a script that is cut
//! short runs nothing, as with the other shells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_job::assemble::GITLAB_ENV_FILE;
use gantry_job::variable::file_path;
use gantry_job::{FeatureFlag, Variable};

use crate::build_script::{BuildScript, Exports, Rendered, ScriptKind, keys_of};

#[cfg(test)]
mod tests;

/// Ends the script with the exit code of a command that failed; commands of PowerShell itself have none.
const CHECK: &str = "if(!$?) { Exit &{if($LASTEXITCODE) {$LASTEXITCODE} else {1}} }\n";
const GREEN: &str = "\x1b[32;1m";
const RESET: &str = "\x1b[0;m";

/// Command of the build container. The outer PowerShell makes stdin and stdout UTF-8 for the inner one, which reads the script.
pub fn pwsh_command() -> Vec<String> {
    let script = "$OutputEncoding = [console]::InputEncoding = [console]::OutputEncoding = New-Object System.Text.UTF8Encoding\r\n\
                  pwsh -NoProfile -NonInteractive -Command -\r\n\
                  exit $LASTEXITCODE\r\n";
    let utf16: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [
        "pwsh",
        "-NoProfile",
        "-NoLogo",
        "-InputFormat",
        "text",
        "-OutputFormat",
        "text",
        "-NonInteractive",
        "-ExecutionPolicy",
        "Bypass",
        "-EncodedCommand",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([STANDARD.encode(utf16)])
    .collect()
}

/// Renders the script.
pub(crate) fn render(script: &BuildScript<'_>) -> Rendered {
    let mut body = String::new();
    if let Some(nonce) = script.start_nonce {
        line(&mut body, &format!("echo {}", quoted(nonce)));
    }
    if script.debug_trace {
        // After the mark, which it would show.
        line(&mut body, "Set-PSDebug -Trace 2");
    }
    line(&mut body, "$ErrorActionPreference = \"Stop\"");
    let mut directories = vec![script.tmp_dir];
    if script.create_project_dir {
        directories.push(script.project_dir);
    }
    for directory in directories {
        let make = format!(
            "New-Item -ItemType directory -Force -Path {} | out-null",
            quoted(directory)
        );
        line(&mut body, &make);
        body.push_str(CHECK);
    }
    let Exports { exported, skipped } = script.exports();
    for variable in exported {
        push_file(&mut body, script, variable);
        let path = script.path_of_file(variable);
        set(
            &mut body,
            &variable.key,
            path.as_deref().unwrap_or(&variable.value),
        );
    }
    for variable in &skipped {
        push_file(&mut body, script, variable);
    }
    push_gitlab_env(&mut body, script);
    line(&mut body, &format!("cd {}", quoted(script.project_dir)));
    body.push_str(CHECK);
    push_commands(&mut body, script);
    Rendered {
        script: format!("#!/usr/bin/env pwsh\n& {{\n\n{body}\n}}\n\n"),
        skipped_keys: keys_of(&skipped),
    }
}

fn line(body: &mut String, text: &str) {
    body.push_str(text);
    body.push('\n');
}

fn push_file(body: &mut String, script: &BuildScript<'_>, variable: &Variable) {
    if let Some(path) = script.path_of_file(variable) {
        let write = format!(
            "[System.IO.File]::WriteAllText({}, {})",
            quoted(&path),
            quoted(&variable.value)
        );
        line(body, &write);
        body.push_str(CHECK);
    }
}

fn set(body: &mut String, key: &str, value: &str) {
    line(body, &format!("${{{key}}}={}", quoted(value)));
    line(body, &format!("${{env:{key}}}=${{{key}}}"));
}

/// What earlier stages wrote to the `GITLAB_ENV` file (job-lifecycle §2.6). The peer cuts a value at its second equals sign.
fn push_gitlab_env(body: &mut String, script: &BuildScript<'_>) {
    set(
        body,
        "GITLAB_ENV",
        &file_path(script.tmp_dir, GITLAB_ENV_FILE),
    );
    body.push_str(
        r#"if(Test-Path -LiteralPath ${GITLAB_ENV} -PathType Leaf) {
foreach($_runner_env_line in [System.IO.File]::ReadAllLines(${GITLAB_ENV})) {
if($_runner_env_line -match '^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$') {
Set-Item -LiteralPath "env:$($Matches[1])" -Value $Matches[2]
Set-Variable -Name $Matches[1] -Value $Matches[2]
} elseif($_runner_env_line.Trim()) {
echo "$([char]27)[0;33mGITLAB_ENV: a line is not NAME=value and is ignored$([char]27)[0;m"
}
}
} else {
New-Item -ItemType File -Force -Path ${GITLAB_ENV} | out-null
}
"#,
    );
}

fn push_commands(body: &mut String, script: &BuildScript<'_>) {
    let whole = script.trace_sections && script.flags.is_on(FeatureFlag::ScriptSections);
    let (pre, post) = match script.kind {
        ScriptKind::Step {
            pre_build_script,
            post_build_script,
        } => (pre_build_script, post_build_script),
        ScriptKind::AfterScript => {
            push_notice(body, "Running after script...");
            ("", "")
        }
    };
    let around = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let commands = around(pre)
        .into_iter()
        .chain(script.commands.iter().cloned())
        .chain(around(post));
    for command in commands {
        push_command(body, &command, whole);
    }
}

fn push_command(body: &mut String, command: &str, whole: bool) {
    let command = command.trim();
    match command.split_once('\n') {
        _ if command.is_empty() => {
            line(body, "echo \"\"");
            return;
        }
        Some((first, _)) if !whole => push_notice(
            body,
            &format!("$ {} # collapsed multi-line command", first.trim_end()),
        ),
        _ => push_notice(body, &format!("$ {command}")),
    }
    line(body, command);
    body.push_str(CHECK);
}

fn push_notice(body: &mut String, text: &str) {
    line(
        body,
        &format!("echo {}", quoted(&format!("{GREEN}{text}{RESET}"))),
    );
}

/// As one string: every character that has a meaning in double quotes behind a backtick. Line breaks are escaped, because the
/// console that reads the script ends lines in its own way.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        let escape = match char {
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\x0c' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\x0b' => 'v',
            // PowerShell takes typographic quotes for quotes.
            '`' | '"' | '$' | '#' | '\'' | '\u{201c}' | '\u{201d}' | '\u{201e}' => char,
            char => {
                quoted.push(char);
                continue;
            }
        };
        quoted.extend(['`', escape]);
    }
    quoted.push('"');
    quoted
}
