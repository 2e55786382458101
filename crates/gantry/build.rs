//! Revision and date of the program, for `gantry --version` and the metrics; and how a release is linked.
//!
//! A release build takes both from git, the date being that of the commit: one commit gives the same program whenever and wherever it
//! is built. `SOURCE_DATE_EPOCH` sets another date, `GANTRY_REVISION` and `GANTRY_BUILT_AT` (any text) win over everything; without git
//! and without them the facts are unknown. A debug build does not ask git: it would be built anew at each commit.

// Run by cargo, whose protocol this is.
#![allow(clippy::print_stdout)]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["GANTRY_REVISION", "GANTRY_BUILT_AT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let checkout = match env::var("PROFILE").as_deref() {
        Ok("release") => Checkout::find(),
        _ => None,
    };
    if let Some(checkout) = &checkout {
        checkout.watch();
    }
    let from_git = |arguments: &[&str]| checkout.as_ref()?.git(arguments);
    let set = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.contains('\n')) {
            println!("cargo::rustc-env={name}={value}");
        }
    };
    if env::var_os("GANTRY_REVISION").is_none() {
        let short = ["rev-parse", "--short=8", "HEAD"];
        set("GANTRY_REVISION", from_git(&short));
    }
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let epoch = epoch.or_else(|| from_git(&["log", "-1", "--format=%ct"]));
    set("GANTRY_BUILT_EPOCH", epoch);
    if folds_functions() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}

/// Whether the linker is the one of the Rust toolchain, which can make one function of those with the same code: an idle runner needs
/// 0.4 MB less. GNU's linker does not know that option.
fn folds_functions() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    is("PROFILE", "release")
        && is("TARGET", "x86_64-unknown-linux-gnu")
        && env::var_os("RUSTC_LINKER").is_none()
        && !["linker", "fuse-ld"]
            .iter()
            .any(|word| flags.contains(word))
}

/// The git working copy that this package is in.
struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// None in an unpacked archive, also where that lies inside the working copy of something else.
    fn find() -> Option<Self> {
        let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
        let root = manifest.ancestors().nth(2)?.to_owned();
        let checkout = Self { root };
        let top = checkout.git(&["rev-parse", "--show-toplevel"])?;
        let same = Path::new(&top).canonicalize().ok()? == checkout.root.canonicalize().ok()?;
        same.then_some(checkout)
    }

    fn git(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }

    /// Runs this script again when another commit is checked out.
    fn watch(&self) {
        let branch = self.git(&["symbolic-ref", "--quiet", "HEAD"]);
        let files = ["HEAD", "logs/HEAD", "packed-refs"].map(str::to_owned);
        for file in files.into_iter().chain(branch) {
            let Some(path) = self.git(&["rev-parse", "--git-path", &file]) else {
                continue;
            };
            // What is not there would make each build look stale.
            let path = self.root.join(path);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
}
