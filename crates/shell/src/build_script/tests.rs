use std::fs;

use tempfile::TempDir;

use super::*;
use crate::shells::{Run, TestShell, shells};

mod commands;
mod cuts;
mod values;

const NONCE: &str = "gantry-start-0123456789abcdef";
const STEP: ScriptKind<'static> = ScriptKind::Step {
    pre_build_script: "",
    post_build_script: "",
};

/// A stage in a directory of its own.
struct Stage {
    root: TempDir,
    variables: Variables,
    flags: FeatureFlags,
    debug_trace: bool,
    trace_sections: bool,
    start_nonce: Option<&'static str>,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            root: TempDir::new().unwrap(),
            variables: Variables::new(),
            flags: FeatureFlags::default(),
            debug_trace: false,
            trace_sections: false,
            start_nonce: None,
        };
        fs::create_dir(stage.project_dir()).unwrap();
        stage
    }

    fn with(variables: Vec<Variable>) -> Self {
        Self {
            variables: variables.into(),
            ..Self::new()
        }
    }

    fn flag(mut self, flag: FeatureFlag) -> Self {
        self.flags.set(flag, true);
        self
    }

    fn project_dir(&self) -> String {
        self.path("it's $HOME project")
    }

    fn tmp_dir(&self) -> String {
        self.project_dir() + ".tmp"
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn render(&self, kind: ScriptKind<'_>, commands: &[&str]) -> Rendered {
        let commands: Vec<String> = commands.iter().map(ToString::to_string).collect();
        BuildScript {
            shell: Shell::Bash,
            kind,
            commands: &commands,
            variables: &self.variables,
            project_dir: &self.project_dir(),
            tmp_dir: &self.tmp_dir(),
            create_project_dir: false,
            flags: &self.flags,
            debug_trace: self.debug_trace,
            trace_sections: self.trace_sections,
            start_nonce: self.start_nonce,
        }
        .render()
    }

    fn run(&self, shell: &TestShell, commands: &[&str]) -> Run {
        Run::stdin(shell, &self.render(STEP, commands).script)
    }

    /// Runs commands without their echo.
    fn output(&self, shell: &TestShell, commands: &[&str]) -> Run {
        let run = self.run(shell, commands);
        let stdout = run
            .stdout
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("\x1b[32;1m$ "));
        Run {
            stdout: stdout.collect(),
            ..run
        }
    }
}

fn in_every_shell(test: impl Fn(&TestShell)) {
    shells().iter().for_each(test);
}

fn file_variable(key: &str, value: &str) -> Variable {
    Variable {
        file: true,
        ..Variable::new(key, value)
    }
}

/// All the bytes a shell could take amiss, and some that are none of its business.
const HARD_VALUES: [&str; 12] = [
    "",
    " ",
    "it's",
    "\"double\" \\back\\ `tick` $HOME $(id) ${X:-y} !! ~ * ? [a-z] {a,b}",
    "a;b&c|d<e>f(g)h#i",
    "line\nbreak\n",
    "\n\nleading and trailing\n\n",
    "\r\ncarriage\r",
    "-n",
    "%s %d \\n \\t",
    "\x01\x02\x03\x04\x05\x06\x07\x08\t\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f",
    "é 日本語 🦀 \u{feff}",
];
