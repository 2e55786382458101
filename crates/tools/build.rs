//! Builds `gantry-helper` as a static program, compresses it and writes the table that the crate includes.
//!
//! The helper is built by a cargo of its own, into `<target>/helper-<profile>`, a target directory that no other
//! cargo locks and that check, clippy, test and build share: the first build of a checkout pays for it once. A debug
//! build takes a less optimised helper, whose rebuild after a change takes 1 s instead of 19.
//!
//! A stale helper cannot be carried: this script runs again whenever a file changes that the compiler read for the
//! helper (its own dep-info names them), a manifest of those crates, the workspace manifest or the lock file; and
//! then cargo decides what is to be built anew. Its flags are fixed here, whatever the outer build's are.

// Run by cargo, whose protocol this is.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use sha2::{Digest as _, Sha256};

#[path = "src/elf.rs"]
mod elf;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/elf.rs");
    let out = PathBuf::from(var("OUT_DIR")?);
    if var("CARGO_CFG_TARGET_OS")? != "linux" {
        // The helper is a Linux program; elsewhere it comes from the folder that `helper_dir` names.
        return write(&out.join("embedded.rs"), b"&[]");
    }
    let manifest = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let root = manifest
        .ancestors()
        .nth(2)
        .ok_or("the crate is not inside the workspace")?;
    let triple = var("TARGET")?;
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is too short")?
        .join(format!("helper-{}", var("PROFILE")?));

    let program = build(root, &triple, &target)?;
    for path in inputs(&program.with_extension("d"), root)? {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    embed(&program, &out)
}

/// Builds the helper and returns its path.
fn build(root: &Path, triple: &str, target: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(var("CARGO")?);
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "gantry-helper",
            "--target",
            triple,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root);
    // What cargo told this script about this package is not about the helper. `clippy-driver` as the compiler, or
    // flags of the outer build, would make another program of it.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let told = [
            "CARGO_CFG_",
            "CARGO_FEATURE_",
            "CARGO_MANIFEST_",
            "CARGO_PKG_",
            "DEP_",
        ]
        .iter()
        .any(|prefix| name_text.starts_with(prefix));
        let other = [
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CLIPPY_ARGS",
            "DEBUG",
            "HOST",
            "NUM_JOBS",
            "OPT_LEVEL",
            "OUT_DIR",
            "PROFILE",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "TARGET",
        ]
        .contains(&&*name_text);
        if told || other {
            cargo.env_remove(&name);
        }
    }
    // Static, so that it runs in every image; the explicit `--target` above keeps the flag away from proc macros.
    // Paths of the builder are cut off: the same sources give the same bytes, and so the same tools volume.
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home =
        cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=gantry", root.display()),
    ];
    if let Some(home) = cargo_home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if var("PROFILE")? == "debug" {
        for (setting, value) in [
            ("LTO", "off"),
            ("INCREMENTAL", "true"),
            ("CODEGEN_UNITS", "16"),
            ("OPT_LEVEL", "1"),
        ] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
    }

    let output = cargo
        .output()
        .map_err(|error| format!("cannot run cargo for gantry-helper: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    eprint_lines(&words);
    if !output.status.success() {
        let first = words
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("no reason given");
        let hint = if words.contains("cannot find -l") {
            " (a static program needs the static C library: Debian's package libc6-dev)"
        } else {
            ""
        };
        return Err(format!("gantry-helper does not build: {first}{hint}"));
    }
    Ok(target.join(triple).join("release/gantry-helper"))
}

/// The files that decide what the helper is: what the compiler read of the workspace, the manifests beside it, and
/// what applies to the whole workspace.
fn inputs(dep_info: &Path, root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let text =
        fs::read_to_string(dep_info).map_err(|error| format!("{}: {error}", dep_info.display()))?;
    let mut inputs: BTreeSet<PathBuf> = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"]
        .iter()
        .map(|name| root.join(name))
        .filter(|path| path.exists())
        .collect();
    let (_, sources) = text
        .split_once(": ")
        .ok_or_else(|| format!("{}: no rule in it", dep_info.display()))?;
    // Make's syntax: a space inside a name is written as `\ `.
    for source in sources
        .lines()
        .next()
        .unwrap_or_default()
        .replace("\\ ", "\0")
        .split_whitespace()
    {
        let source = root.join(source.replace('\0', " "));
        let manifest = source
            .ancestors()
            .map(|folder| folder.join("Cargo.toml"))
            .find(|path| path.exists());
        inputs.extend(manifest);
        inputs.insert(source);
    }
    Ok(inputs)
}

fn embed(program: &Path, out: &Path) -> Result<(), String> {
    let bytes = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let arch = elf::static_program(&bytes)
        .map_err(|error| format!("gantry-helper came out unfit for containers: {error}"))?;
    // The C library of zstd is unoptimised in a debug build, and then slow at high levels.
    let level = if var("PROFILE")? == "release" { 19 } else { 3 };
    let packed = compress(&bytes, level)
        .map_err(|error| format!("cannot compress gantry-helper: {error}"))?;
    write(&out.join("gantry-helper.zst"), &packed)?;
    let table = format!(
        "&[Embedded {{ arch: {arch:?}, sha256: \"{}\", size: {}, \
         packed: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/gantry-helper.zst\")) }}]",
        Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
        bytes.len(),
    );
    write(&out.join("embedded.rs"), table.as_bytes())
}

fn compress(bytes: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(true)?;
    std::io::copy(&mut &bytes[..], &mut encoder)?;
    encoder.finish()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

/// To where cargo shows it with `-vv` and when this script fails.
#[allow(clippy::print_stderr)]
fn eprint_lines(text: &str) {
    eprint!("{text}");
}
