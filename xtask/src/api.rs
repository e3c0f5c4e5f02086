//! The public API of the crates, kept in files: a change of it is seen where it is made, and not first by users.
//!
//! What is public is found by rustdoc, and written as lines by cargo-public-api.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{run, say};

const CRATES: [&str; 2] = ["farexec-proto", "farexec"];

/// Another version may write other lines, so this one is installed, under target/.
const TOOL: &str = "cargo-public-api@0.52.0";

/// Writes the files.
pub(crate) fn renew() -> Result<()> {
    fs::create_dir_all("public-api")?;
    for name in CRATES {
        fs::write(file(name), listing(name)?)?;
    }
    Ok(())
}

/// Fails if the files are not what [`renew`] would write.
pub(crate) fn compare() -> Result<()> {
    let mut changed = Vec::new();
    for name in CRATES {
        let path = file(name);
        let kept = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let found = listing(name)?;
        if kept != found {
            for line in differences(&kept, &found) {
                say(&line);
            }
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        bail!(
            "the public API of {} is not what public-api has; if that is meant, run `cargo xtask api` and commit what it writes",
            changed.join(" and ")
        );
    }
    Ok(())
}

fn file(name: &str) -> PathBuf {
    Path::new("public-api").join(format!("{name}.txt"))
}

/// One line for each public item, sorted.
fn listing(name: &str) -> Result<String> {
    // The form of rustdoc's JSON is not stable; the tool reads that of this compiler.
    run(Command::new("cargo")
        .args(["rustdoc", "--quiet", "--lib", "--all-features", "--package", name, "--"])
        .args(["-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .env("RUSTC_BOOTSTRAP", "1"))?;
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let json = built.join("doc").join(format!("{}.json", name.replace('-', "_")));
    // Derived and automatic implementations are left out: they would be most of it.
    let listed = Command::new(tool()?)
        .args(["public-api", "-sss", "--color", "never", "--rustdoc-json"])
        .arg(&json)
        .output()
        .context("could not run cargo-public-api")?;
    if !listed.status.success() {
        bail!("{TOOL} cannot read {}: {}", json.display(), String::from_utf8_lossy(&listed.stderr).trim());
    }
    String::from_utf8(listed.stdout).context("cargo public-api writes UTF-8")
}

/// The tool, which is installed where it is missing.
fn tool() -> Result<PathBuf> {
    let folder = Path::new("target").join(TOOL);
    let program = folder.join("bin/cargo-public-api");
    if !program.exists() {
        run(Command::new("cargo")
            .args(["install", "--quiet", "--locked", "--debug", TOOL, "--root"])
            .arg(&folder))?;
    }
    Ok(program)
}

/// The lines that only one of two texts has.
fn differences(kept: &str, found: &str) -> Vec<String> {
    let only = |sign: &str, some: &str, others: &str| -> Vec<String> {
        let others: std::collections::HashSet<&str> = others.lines().collect();
        some.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign}{line}")).collect()
    };
    [only("-", kept, found), only("+", found, kept)].concat()
}
